package chaos

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

const (
	// settle is how long a task must be in no file before its VM is stopped.
	settle = 500 * time.Millisecond
	// brakeWindow is how long the brake counts a removal, and brakeSlack how
	// well the model knows when one began.
	brakeWindow, brakeSlack = time.Minute, 5 * time.Second
	// manyRemovals is the fewest that the brake holds by default.
	manyRemovals = 3
)

// always, onFailure and never are the values of restart.on.
const (
	always    = "always"
	onFailure = "failure"
	never     = "never"
)

// end is how a VM that is down came to its end by itself.
type end string

const (
	notEnded end = ""
	wentOff  end = "powered off"
	failed   end = "failed"
)

// rests says whether a VM that ended like this stays down.
func (e end) rests(on string) bool {
	return e != notEnded && on == never || e == wentOff && on == onFailure
}

// process is one QEMU as /proc shows it.
type process struct {
	pid   int
	start uint64 // ticks since boot
	machine
	port int // host port forwarded to the guest's port 80
}

// task is what the model knows of a task: first as it was at the last rest, then
// what happened to it since.
type task struct {
	name     string
	proc     *process // nil: does not run
	recorded bool     // the daemon knows it
	// goods are the definitions that may be the last good one, and file is
	// where it was last read.
	goods []def
	file  string
	held  bool // by an operator
	kept  bool // let go of, by on_remove = "keep"
	// braked says that the brake on mass removals holds it, approved that an
	// operator let it go since, doubtful that the brake may hold it.
	braked, approved, doubtful bool
	// leaving says that the daemon wants it gone and it is down: of the stop of a
	// removal it stays down while nothing can be told of it.
	leaving  bool
	ended    end
	uuid     string
	port     int
	restarts int
	reboots  int
	exited   time.Time
	// mute is the pid of a process of whose resets the daemon may not have heard, or
	// may not hear in its next life: its QMP socket was deleted, or it was reset
	// while a session was being made, or halted after the reset.
	mute int

	// views are how it looked since, in the order of time. One that no daemon
	// can have seen is not among them; the last is how it looks now.
	views                 []view
	unseen                bool // of the last view
	kills, offs, resets   int
	stops, starts, orders int // commands; orders are those to restart
	unsure                bool
	vague                 bool // so was it at the last rest, and nothing has told since
	spoiled, forged       bool // its record was lost (counters may be older), or was made to name another process
}

// model is what should be so.
type model struct {
	tasks map[string]*task
	now   content
	away  bool // the directory is not there
	// blind says that no daemon runs, wasBlind that none ran at some moment
	// since the last rest.
	blind, wasBlind bool
	// begun are the removals that were carried out, with the time at which that
	// was noticed.
	begun map[string]time.Time
	// ran are the numbers of VMs that may have run at a time.
	ran []count
	// losses counts the deliveries since the last rest that took tasks away.
	losses int
}

type count struct {
	at time.Time
	n  int
}

func newModel() *model {
	return &model{tasks: map[string]*task{}, now: content{}, begun: map[string]time.Time{}}
}

// task gives what is known of a task, which may be nothing.
func (m *model) task(name string) *task {
	if m.tasks[name] == nil {
		m.tasks[name] = &task{name: name}
	}
	return m.tasks[name]
}

// names are all tasks that ever were, sorted.
func (m *model) names() []string { return slices.Sorted(maps.Keys(m.tasks)) }

// deliver says that the directory has another content. blink says that what was
// in between lasted too short a time to be acted upon.
func (m *model) deliver(next content, blink bool) {
	for _, d := range next.defs() {
		m.task(d.name)
	}
	before, lost := m.now, false
	m.now = next
	for _, name := range m.names() {
		t, v := m.tasks[name], next.view(name)
		if old := before.view(name); old == v {
			if _, _, there := next.find(name); there && !blink {
				t.unsure = true
			}
			continue
		}
		lost = lost || v.kind == absent && before.view(name).kind != absent
		if t.unseen {
			t.views = t.views[:len(t.views)-1]
		}
		t.views, t.unseen = append(t.views, v), m.blind
	}
	if lost || before.broken() && !next.broken() {
		m.losses++
	}
}

// back says that the directory is there again, with what it had: what no daemon
// has ever heard of is news from now on, and so is that a task is missing.
func (m *model) back() {
	m.away = false
	lost := false
	for _, name := range m.names() {
		t, v := m.tasks[name], m.now.view(name)
		if len(t.views) == 0 && (!t.recorded && v.kind == defined || t.recorded && v.leaves()) {
			t.views, t.unseen = append(t.views, v), m.blind
			lost = lost || v.leaves()
		}
	}
	if lost {
		m.losses++
	}
}

// daemonIs says that a daemon runs from now on, or does not.
func (m *model) daemonIs(up bool) {
	m.blind = !up
	m.wasBlind = m.wasBlind || !up
	if up {
		for _, t := range m.tasks {
			t.unseen = false
		}
	}
}

// blinked takes back the last view of tasks that were away for less than the
// time after which anything comes of it.
func (m *model) blinked(names ...string) {
	for _, name := range names {
		t := m.tasks[name]
		if n := len(t.views); n > 1 && t.views[n-2].kind == absent {
			t.views = slices.Delete(t.views, n-2, n-1)
		}
	}
}

// look is how a task looks now.
func (m *model) look(name string) view {
	if m.away {
		return view{kind: obscure, held: true, file: m.tasks[name].file}
	}
	return m.now.view(name)
}

// candidates are all definitions that the daemon may have gone by since the last
// rest.
func (t *task) candidates() []def {
	out := slices.Clone(t.goods)
	for _, v := range t.views {
		if v.kind == defined {
			out = append(out, v.def)
		}
	}
	return out
}

// lost says whether a removal may have been carried out before the task came to
// look as it does now. A VM that was let go of is forgotten when it ends.
func (t *task) lost() bool {
	if t.approved || t.kept && t.kills+t.offs > 0 {
		return true
	}
	for i, v := range t.views {
		if v.kind == absent && !v.held && i < len(t.views)-1 {
			return true
		}
	}
	return false
}

// back says whether a sound file had the task at any time since the last rest.
func (t *task) back() bool {
	return slices.ContainsFunc(t.views, func(v view) bool { return v.kind == defined })
}

// edited says whether any view since the last rest asks for something.
func (t *task) edited() bool {
	all := t.candidates()
	return slices.ContainsFunc(t.views, func(v view) bool { return v.kind == absent }) ||
		slices.ContainsFunc(all, func(d def) bool { return d.asks() != all[0].asks() })
}

// waits says whether a task cannot start, since a task that is to go still has
// its image.
func (m *model) waits(t *task) bool {
	v := m.look(t.name)
	for _, other := range m.tasks {
		if other != t && other.proc != nil && v.kind == defined && other.proc.image == v.def.image {
			return true
		}
	}
	return false
}

// asks is the definition without what never touches a VM.
func (d def) asks() def {
	d.label, d.killTimeout, d.guest = 0, "", ""
	return d
}

// touched says whether anything was done to the VM itself.
func (t *task) touched() bool { return t.kills+t.offs+t.stops+t.starts+t.orders > 0 }

// mixed says whether more than one thing happened whose order only the daemon
// knows.
func (t *task) mixed() bool {
	kinds := 0
	for _, n := range []int{t.kills, t.offs, t.stops + t.starts + t.orders} {
		kinds += min(n, 1)
	}
	if t.stops+t.starts+t.orders > 1 {
		kinds++
	}
	return t.unsure || t.vague || kinds > 1 || kinds == 1 && (t.edited() || t.lost())
}

// forget begins the next stretch between two rests.
func (t *task) forget() {
	t.views, t.unseen = nil, false
	t.kills, t.offs, t.resets, t.stops, t.starts, t.orders = 0, 0, 0, 0, 0, 0
	t.unsure, t.approved, t.spoiled, t.forged = false, false, false, false
}

// String lists what is known, for the story of a failure.
func (m *model) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "away %v, broken %v, brake %s\n", m.away, m.now.broken(), m.brake(time.Now()))
	for _, name := range m.names() {
		t := m.tasks[name]
		fmt.Fprintf(&b, "%s: %+v\n  process %+v\n  looks %+v\n  expected %+v\n", name, *t, t.proc, m.look(name), m.expect(t, m.brake(time.Now())))
	}
	return b.String()
}
