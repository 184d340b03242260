package bench

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/qemu-reconciler/qemu-reconciler/internal/e2e"
)

const (
	// fleets is how often a fleet is started by each side.
	fleets = 5
	// adoptions is how often the daemon is killed with a fleet running.
	adoptions = 5
	// lookEvery is how often it is looked whether a new daemon knows all.
	lookEvery = 3 * time.Millisecond
	// clearlySlower settings of the floor are tried once.
	clearlySlower = 1.15
)

// fleet measures with many VMs.
func (r *run) fleet(n int) {
	f := r.newFleet(fmt.Sprintf("fleet%d.", n), n)
	f.idle(n == r.Sizes[0])
	f.furnish()
	if f.picked("ready", "gone", "event", "command", "pss", "threads", "helpers") {
		f.comings(n == r.Sizes[0])
	}
	if f.picked("orphans", "known", "sessions", "adopted", "threads-adopted") || n == r.Sizes[0] && f.wanted("rest", "program") {
		f.adoptions(n == r.Sizes[0])
	}
}

// fleet is many VMs of one making.
type fleet struct {
	*run
	h        *e2e.Host
	id       string // of its rows
	names    []string
	texts    []string
	consoles []*console
	bares    []*bare
	settings []int // of the floor, as far as they are still of interest
}

func (r *run) newFleet(id string, n int) *fleet {
	f := &fleet{run: r, h: r.host(), id: id, settings: r.Parallel}
	for i := range n {
		f.names = append(f.names, fmt.Sprintf("vm%03d", i))
	}
	return f
}

// picked says whether one of its rows was.
func (f *fleet) picked(rows ...string) bool {
	return slices.ContainsFunc(rows, func(row string) bool { return f.rows[f.id+row] != nil })
}

// idle measures daemons that have nothing to do.
func (f *fleet) idle(first bool) {
	for range min(fleets, f.Repeats) {
		f.h.Terminate()
		f.h.StartDaemon()
		threads := float64(f.h.Usage().Threads)
		f.floor(f.id+"threads", "no VM", threads)
		f.floor(f.id+"threads-adopted", "no VM", threads)
		if first {
			f.ours("idle.pss", mb(f.h.PSS()))
			f.ours("idle.threads", threads)
		}
	}
	if !first || !f.wanted("program") {
		return
	}
	size, err := os.Stat(f.h.Program())
	f.must(err)
	f.ours("program.size", mb(int(size.Size())))
	for range f.Repeats {
		f.ours("program.version", f.timeCommand("version"))
	}
}

// furnish makes the texts with their images, and the floor from the command line of the first.
func (f *fleet) furnish() {
	first := f.names[0]
	f.h.Write(first+".hcl", task(f.h, first))
	f.h.AwaitRunning(first)
	argv := f.argv(f.h, first)
	f.h.Remove(first + ".hcl")
	f.h.AwaitGone(first)
	for _, name := range f.names {
		f.texts = append(f.texts, task(f.h, name))
		f.consoles = append(f.consoles, f.console(f.h, name))
		f.bares = append(f.bares, newBare(f.t, f.watch, f.h, name, argvFor(argv, first, name)))
	}
}

// comings starts and stops all by the floor and by the reconciler, and weighs the
// daemon meanwhile; the first fleet is stopped by the command as well.
func (f *fleet) comings(first bool) {
	for i := range min(fleets, f.Repeats) {
		sides := []func(){func() { f.bareFleet(i == 0) }, func() {
			f.come("ready")
			f.weigh("pss", "threads")
			f.leave("gone", "event", f.ask)
		}}
		if first && f.picked("command") {
			sides = append(sides, func() {
				f.come("ready")
				f.leave("command", "", func() { f.succeed(f.h, append([]string{"stop"}, f.names...)...) })
			})
		}
		inTurn(i, sides...)
	}
}

// bareFleet starts and stops all by the floor, once with each of its settings. The
// first time decides which of them are tried again.
func (f *fleet) bareFleet(first bool) {
	if !f.picked("ready", "gone", "command") {
		return
	}
	took := map[int]time.Duration{}
	for _, parallel := range f.settings {
		time.Sleep(f.Pause)
		took[parallel] = startAll(f.bares, parallel)
		f.floor(f.id+"ready", settingName(parallel), ms(took[parallel]))
		gone := ms(stopAll(f.bares))
		f.floor(f.id+"gone", alone, gone)
		f.floor(f.id+"command", alone, gone)
	}
	if !first {
		return
	}
	best := slices.Min(slices.Collect(maps.Values(took)))
	f.settings = slices.DeleteFunc(slices.Clone(f.settings), func(parallel int) bool {
		return took[parallel].Seconds() > clearlySlower*best.Seconds()
	})
}

// come puts all files in place, and waits until QEMUs and guests answer; ready is
// the row of the time until the last guest was. Nobody asks for the status: the
// daemon would ask all QEMUs whether they answer, and then none for minutes.
func (f *fleet) come(ready string) {
	var places []func() time.Time
	var nth []int
	for i, name := range f.names {
		places = append(places, f.stage(f.h, name+".hcl", f.texts[i]))
		nth = append(nth, f.consoles[i].count()+1)
	}
	time.Sleep(f.Pause)
	began := places[0]()
	for _, place := range places[1:] {
		place()
	}
	var last time.Time
	for i, console := range f.consoles {
		if at := console.await(f.t, nth[i]); at.After(last) {
			last = at
		}
	}
	f.ours(f.id+ready, ms(last.Sub(began)))
	f.h.AfterAll(began, "running", len(f.names))
}

// ask stops all by one request.
func (f *fleet) ask() { f.act(f.h, "stop", f.names...) }

// leave stops all and takes their files away. gone and event are the rows of the
// time until the last was gone, and from then until the last end was told.
func (f *fleet) leave(gone, event string, stop func()) {
	var pids []int
	for _, q := range f.h.QEMUs() {
		pids = append(pids, q.PID)
	}
	ends := f.h.NoteEnds(pids...)
	began := time.Now()
	stop()
	at := slices.MaxFunc(<-ends, time.Time.Compare)
	f.ours(f.id+gone, ms(at.Sub(began)))
	f.ours(f.id+event, ms(f.h.AfterAll(began, "stopped", len(f.names)).Sub(at)))
	for _, name := range f.names {
		f.h.Remove(name + ".hcl")
	}
	f.h.AwaitStatus("end of all tasks", func(st e2e.Status) bool { return len(st.Tasks) == 0 })
}

func (f *fleet) weigh(memory, threads string) {
	f.ours(f.id+memory, mb(f.h.PSS()))
	f.ours(f.id+threads, float64(f.h.Usage().Threads))
	f.ours(f.id+"helpers", float64(f.h.Helpers()))
}

// timeCommand runs a command of the program.
func (f *fleet) timeCommand(args ...string) float64 {
	began := time.Now()
	f.succeed(f.h, args...)
	return ms(time.Since(began))
}
