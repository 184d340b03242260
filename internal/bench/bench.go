package bench

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	goruntime "runtime"
	"slices"
	"strings"
	"syscall"
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
	// Rows picks rows by their ID; nil picks all.
	Rows *regexp.Regexp
	// Sizes are the numbers of VMs of the fleets, the smallest first.
	Sizes []int
	// Many are the numbers of stand-ins for QEMU, the smallest first; more than
	// the limit of open files allows are measured as that many.
	Many []int
	// Parallel are the floor's settings for a fleet: how many guests it has on
	// their way at once; zero is all of them.
	Parallel []int
	// Peer measures libvirt as well, with as many VMs as the first of Sizes.
	Peer bool
	// Rest is how long the daemon is watched at rest, after Settle, in which it may
	// still look at what was just adopted. The figures are given for a minute.
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
	report *Report
	rows   map[string]*Row
}

// Run measures, and fails the test where something does not work at all; goals
// that are missed are for the reader to judge. Each scenario is a test of its
// own: no daemon of one is there in the next, where it would share memory.
func Run(t *testing.T, o Options) *Report {
	t.Helper()
	r := &run{Options: o, t: t, rows: map[string]*Row{}}
	r.report = &Report{Format: 1, At: time.Now().UTC(), Host: describeHost(t)}
	r.Many = nil
	for _, n := range o.Many {
		most, err := scale.Most(n)
		r.must(err)
		r.Many = append(r.Many, most)
	}
	r.Many = slices.Compact(r.Many)
	for _, row := range newRows(o.Sizes, r.Many) {
		if o.Rows == nil || o.Rows.MatchString(row.ID) {
			r.rows[row.ID] = row
			r.report.Rows = append(r.report.Rows, row)
		}
	}
	r.scenario(t, "start edit kill", r.lives)
	r.scenario(t, "quit stop", r.stops)
	r.scenario(t, "durable", r.durability)
	for i, n := range o.Sizes {
		rows := fmt.Sprintf("fleet%d", n)
		if i == 0 {
			rows += " idle rest program"
		}
		r.scenario(t, rows, func() { r.fleet(n) })
	}
	var many []string
	for _, n := range r.Many {
		many = append(many, fmt.Sprintf("many%d", n))
	}
	r.scenario(t, strings.Join(many, " "), r.many)
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

// inTurn runs two things, now the one first and now the other.
func inTurn(i int, one, other func()) {
	if i%2 == 1 {
		one, other = other, one
	}
	one()
	other()
}

// memoryDisk is a file system in memory, as /run is on most hosts.
const memoryDisk = "/dev/shm"

// host makes a host as an operator would have it.
func (r *run) host(opts ...e2e.Option) *e2e.Host {
	opts = append(opts, e2e.Plain(), e2e.Args("--log-level", "info"))
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

func describeHost(t testing.TB) map[string]string {
	t.Helper()
	var uname syscall.Utsname
	if err := syscall.Uname(&uname); err != nil {
		t.Fatal(err)
	}
	var release []byte
	for _, c := range uname.Release {
		release = append(release, byte(c))
	}
	version, err := exec.Command("qemu-system-x86_64", "--version").Output()
	if err != nil {
		t.Fatal(err)
	}
	line, _, _ := strings.Cut(string(version), "\n")
	kernel, _, _ := strings.Cut(string(bytes.TrimRight(release, "\x00")), "-") // what follows is whose build it is
	return map[string]string{
		"cpus": fmt.Sprint(goruntime.NumCPU()), "kernel": kernel, "qemu": line, "go": goruntime.Version(),
	}
}
