package bench

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/qemu-reconciler/qemu-reconciler/internal/e2e"
	"github.com/qemu-reconciler/qemu-reconciler/internal/guest"
	"github.com/qemu-reconciler/qemu-reconciler/internal/scale"
)

// Options say how much is measured.
type Options struct {
	// Repeats is how many times each thing is done that takes little time; what
	// takes long is done less often.
	Repeats int
	// Stops is how many stops are timed for each of Repeats: a guest looks at its
	// button eighteen times a second, so that its own part varies by 55 ms.
	Stops int
	// Rows picks rows by their ID; nil picks all.
	Rows *regexp.Regexp
	// Sizes are the numbers of VMs of the fleets, the smallest first.
	Sizes []int
	// Many are the numbers of stand-ins for QEMU, the smallest first; more than
	// the limit of open files allows are measured as that many.
	Many []int
	// Files is how many task files there are beside the most of them; those that
	// have no stand-in are wanted off, which takes no open file.
	Files int
	// Parallel are the floor's settings for a fleet: how many guests it has on
	// their way at once; zero is all of them. The first time all are tried, later
	// those that were not clearly slower than the best.
	Parallel []int
	// Seed is of the moments at which guests are stopped.
	Seed uint64
	// Peer measures libvirt as well, with as many VMs as the first of Sizes.
	Peer bool
	// Rest is how long the daemon is watched at rest, after Settle, in which it may
	// still look at what has just come. The figures are given for a minute, and are
	// of all that it ever does at rest when they are of as long as its rarest deed.
	Rest, Settle time.Duration
	// Pause comes before each start of a fleet. A kernel that reports free pages
	// gives a hypervisor the memory of what has ended two seconds later
	// (PAGE_REPORTING_DELAY in its mm/page_reporting.c), and faults it in anew for
	// what starts then: without a pause, whoever comes soonest after another fleet
	// is the faster by a fifth.
	Pause time.Duration
}

// run is one run.
type run struct {
	Options
	t      testing.TB
	watch  *consoles
	random *rand.Rand
	report *Report
	rows   map[string]*Row
}

// Run measures, and fails the test where something does not work at all; goals
// that are missed are for the reader to judge. Each scenario is a test of its
// own: no daemon of one is there in the next, where it would share memory.
func Run(t *testing.T, o Options) *Report {
	t.Helper()
	r := &run{Options: o, t: t, rows: map[string]*Row{}, random: rand.New(rand.NewPCG(o.Seed, 0))}
	r.report = &Report{Format: 1, At: time.Now().UTC(), Host: describeHost(t)}
	r.report.Host["seed"] = fmt.Sprint(o.Seed)
	notes := r.reduce()
	for _, row := range newRows(r.Options) {
		if o.Rows == nil || o.Rows.MatchString(row.ID) {
			r.rows[row.ID] = row
			r.report.Rows = append(r.report.Rows, row)
		}
	}
	r.scenario(t, "start restart kill", r.lives)
	r.scenario(t, "edit", r.edits)
	r.scenario(t, "quit stop", r.stops)
	r.scenario(t, "durable", r.durability)
	for i, n := range o.Sizes {
		rows := fmt.Sprintf("fleet%d", n)
		if i == 0 {
			rows += " idle rest program"
		}
		r.scenario(t, rows, func() { r.fleet(n) })
	}
	many := manyScenarios(r.Options)
	if r.wanted(strings.Fields(many)...) {
		r.report.Notes = notes
	}
	r.scenario(t, many, r.many)
	if o.Peer {
		r.report.Peer = "libvirt"
		version, err := exec.Command("libvirtd", "--version").Output()
		r.must(err)
		r.report.Host["libvirt"] = strings.TrimSpace(string(version))
		r.under(t, "libvirt", func() { r.libvirt(o.Sizes[0]) })
	}
	r.report.Rows = slices.DeleteFunc(r.report.Rows, func(row *Row) bool { return len(row.Ours) == 0 })
	return r.report
}

// reduce makes of Many what the limit of open files allows, and says so.
func (r *run) reduce() (notes []string) {
	wanted := r.Many
	r.Many = nil
	for _, n := range wanted {
		most, err := scale.Most(n)
		r.must(err)
		if most < n {
			notes = append(notes, fmt.Sprintf("%d stand-ins instead of %d: two open files each, of a limit that is hard.", most, n))
		}
		r.Many = append(r.Many, most)
	}
	r.Many = slices.Compact(r.Many)
	return notes
}

// scenario measures when one of its rows was picked; they are named by the first
// part of their IDs.
func (r *run) scenario(t *testing.T, rows string, measure func()) {
	if scenarios := strings.Fields(rows); r.wanted(scenarios...) {
		r.under(t, scenarios[0], measure)
	}
}

// under measures in a test of its own.
func (r *run) under(t *testing.T, name string, measure func()) {
	defer func(t testing.TB, watch *consoles) { r.t, r.watch = t, watch }(r.t, r.watch)
	t.Run(name, func(t *testing.T) {
		r.t, r.watch = t, watchConsoles(t)
		measure()
	})
}

// wanted says whether a row of one of the scenarios was picked.
func (r *run) wanted(scenarios ...string) bool {
	for id := range r.rows {
		scenario, _, _ := strings.Cut(id, ".")
		if slices.Contains(scenarios, scenario) {
			return true
		}
	}
	return false
}

// ours notes a figure of the reconciler; rows that were not picked take none.
func (r *run) ours(id string, figure float64) {
	if row := r.rows[id]; row != nil {
		row.Ours = append(row.Ours, figure)
	}
}

func (r *run) floor(id, setting string, figure float64) {
	if row := r.rows[id]; row != nil {
		if row.Floor == nil {
			row.Floor = map[string][]float64{}
		}
		row.Floor[setting] = append(row.Floor[setting], figure)
	}
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func mb(bytes int) float64 { return float64(bytes) / 1e6 }

// inTurn runs some things one after another, each time beginning with the next.
func inTurn(i int, things ...func()) {
	for k := range things {
		things[(i+k)%len(things)]()
	}
}

// memoryDisk is a file system in memory, as /run is on most hosts.
const memoryDisk = "/dev/shm"

// host makes a host as an operator would have it.
func (r *run) host(more ...e2e.Option) *e2e.Host {
	opts := append([]e2e.Option{e2e.Plain(), e2e.Leader(), e2e.Args("--log-level", "info")}, more...)
	if _, err := os.Stat(memoryDisk); err == nil {
		opts = append(opts, e2e.RunUnder(memoryDisk))
	}
	return e2e.Start(r.t, opts...)
}

// console watches the console of a task.
func (r *run) console(h *e2e.Host, task string) *console {
	return r.watch.open(filepath.Join(h.State, "logs", task, "console.log"))
}

// task is the text of a task whose guest powers off when asked.
func task(h *e2e.Host, name string, lines ...string) string {
	return h.Task(name, guest.Button, append([]string{"graceful_shutdown = true"}, lines...)...)
}

// stage writes a file beside the others; what it returns puts it in place, and
// says when that was begun.
func (r *run) stage(h *e2e.Host, name, text string) (place func() time.Time) {
	r.t.Helper()
	from := filepath.Join(h.VMs, "."+name+".new")
	r.must(os.WriteFile(from, []byte(text), 0o644))
	return func() time.Time {
		began := time.Now()
		r.must(os.Rename(from, filepath.Join(h.VMs, name)))
		return began
	}
}

// argv is the command line that the reconciler uses for a task.
func (r *run) argv(h *e2e.Host, task string) []string {
	r.t.Helper()
	quoted := h.Do("argv", task)
	if quoted.Code != 0 {
		r.t.Fatalf("argv %s: %s", task, quoted.Stderr)
	}
	plain, err := exec.Command("sh", "-c", "set -- "+quoted.Stdout+"\n"+`printf '%s\0' "$@"`).Output()
	r.must(err)
	return strings.Split(strings.TrimSuffix(string(plain), "\x00"), "\x00")
}

func (r *run) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}
