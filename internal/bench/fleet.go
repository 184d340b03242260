package bench

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/qemu-reconciler/qemu-reconciler/internal/e2e"
	"github.com/qemu-reconciler/qemu-reconciler/runtime"
)

const (
	// fleetWork is how many starts of VMs of a fleet are timed for the
	// reconciler, and as many for each setting of the floor, at least twice.
	fleetWork = 250
	// adoptions is how often the daemon is killed with a fleet running.
	adoptions = 5
	// lookEvery is how often it is looked whether a new daemon knows all.
	lookEvery = 3 * time.Millisecond
)

// fleet measures with many VMs.
func (r *run) fleet(n int) {
	f := r.newFleet(fmt.Sprintf("fleet%d.", n), n)
	if n == r.Sizes[0] {
		f.idle()
	}
	f.furnish()
	repeats := 1
	if r.rows[f.id+"ready"] != nil || r.rows[f.id+"gone"] != nil {
		repeats = max(2, min(r.Repeats, fleetWork/n))
	}
	for i := range repeats {
		inTurn(i, f.bareFleet, func() {
			f.come()
			event := "event"
			if i == repeats-1 {
				f.measureRunning(n)
				event = "orphans"
			}
			f.leave(event)
		})
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
}

func (r *run) newFleet(id string, n int) *fleet {
	f := &fleet{run: r, h: r.host(), id: id}
	for i := range n {
		f.names = append(f.names, fmt.Sprintf("vm%03d", i))
	}
	return f
}

// idle measures a daemon that has nothing to do.
func (f *fleet) idle() {
	f.ours("idle.pss", mb(f.h.PSS()))
	f.ours("idle.threads", float64(f.h.Usage().Threads))
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

// bareFleet starts and stops all by the floor, once with each of its settings.
func (f *fleet) bareFleet() {
	if f.rows[f.id+"ready"] == nil && f.rows[f.id+"gone"] == nil {
		return
	}
	for _, parallel := range f.Parallel {
		time.Sleep(f.Pause)
		f.floor(f.id+"ready", settingName(parallel), ms(startAll(f.bares, parallel)))
		f.floor(f.id+"gone", alone, ms(stopAll(f.bares)))
	}
}

// come puts all files in place.
func (f *fleet) come() {
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
	f.ours(f.id+"ready", ms(last.Sub(began)))
	f.h.AwaitConverged()
}

// leave stops all and takes their files away. event is the row of the time until
// the last end was told.
func (f *fleet) leave(event string) {
	var pids []int
	for _, q := range f.h.QEMUs() {
		pids = append(pids, q.PID)
	}
	gone := f.h.NoteEnds(pids...)
	began := time.Now()
	f.act(f.h, "stop", f.names...)
	at := slices.MaxFunc(<-gone, time.Time.Compare)
	f.ours(f.id+"gone", ms(at.Sub(began)))
	var told time.Time
	for _, e := range f.h.Events() {
		if e.Type == "stopped" && e.Time.After(told) {
			told = e.Time
		}
	}
	f.ours(f.id+event, ms(told.Sub(at)))
	for _, name := range f.names {
		f.h.Remove(name + ".hcl")
	}
	f.h.AwaitStatus("end of all tasks", func(st e2e.Status) bool { return len(st.Tasks) == 0 })
}

// measureRunning measures the daemon with all VMs running, and lets it die and
// find them again.
func (f *fleet) measureRunning(n int) {
	f.weigh("pss", "threads")
	for range min(adoptions, f.Repeats) {
		f.adopt()
	}
	f.h.AwaitConverged()
	f.weigh("adopted", "threads-adopted")
	if n != f.Sizes[0] {
		return
	}
	for range f.Repeats {
		f.ours("program.status", f.timeCommand("status"))
	}
	if f.wanted("rest") {
		f.rest()
	}
}

func (f *fleet) weigh(memory, threads string) {
	f.ours(f.id+memory, mb(f.h.PSS()))
	f.ours(f.id+threads, float64(f.h.Usage().Threads))
	f.ours(f.id+"helpers", float64(f.h.Helpers()))
}

// adopt kills the daemon and times the next one.
func (f *fleet) adopt() {
	before := f.h.QEMUs()
	f.h.Kill()
	heard := f.monitorLogs()
	began := time.Now()
	f.h.StartDaemonOnly()
	f.h.AwaitEvery(lookEvery, "all VMs in the status", func() bool {
		st, err := f.h.TryStatus()
		running := 0
		for _, task := range st.Tasks {
			if task.PID != 0 && task.Phase == "running" {
				running++
			}
		}
		return err == nil && running == len(f.names)
	})
	f.ours(f.id+"known", ms(time.Since(began)))
	f.h.AwaitEvery(lookEvery, "sessions with all VMs", func() bool { return heard.all() })
	f.ours(f.id+"sessions", ms(time.Since(began)))
	if after := f.h.QEMUs(); !slices.Equal(before, after) {
		f.t.Errorf("QEMUs were %v and are %v", before, after)
	}
}

// monitorLogs are what the QEMUs say over QMP, from now on.
type monitorLogs struct {
	*fleet
	from map[string]int // those that have not answered yet
}

func (f *fleet) monitorLogs() *monitorLogs {
	m := &monitorLogs{f, map[string]int{}}
	layout := runtime.Layout{State: f.h.State, Run: f.h.Run}
	for _, name := range f.names {
		text, err := os.ReadFile(layout.QMPLog(name))
		f.must(err)
		m.from[layout.QMPLog(name)] = len(text)
	}
	return m
}

// all says whether every QEMU has answered query-status by now.
func (m *monitorLogs) all() bool {
	for path, from := range m.from {
		text, err := os.ReadFile(path)
		m.must(err)
		if bytes.Contains(text[from:], []byte(`"running": true`)) {
			delete(m.from, path)
		}
	}
	return len(m.from) == 0
}

// rest watches the daemon while nothing happens.
func (f *fleet) rest() {
	time.Sleep(f.Settle)
	before, began := f.h.Usage(), time.Now()
	time.Sleep(f.Rest)
	after := f.h.Usage()
	minute := float64(time.Minute) / float64(time.Since(began))
	f.ours("rest.cpu", ms(after.CPU-before.CPU)*minute)
	f.ours("rest.switches", float64(after.Switches-before.Switches)*minute)
}

// timeCommand runs a command of the program.
func (f *fleet) timeCommand(args ...string) float64 {
	began := time.Now()
	if result := f.h.Do(args...); result.Code != 0 {
		f.t.Errorf("%v: %s", args, result.Stderr)
	}
	return ms(time.Since(began))
}
