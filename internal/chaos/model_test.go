package chaos

import (
	"strings"
	"testing"
	"time"

	"github.com/qemu-reconciler/qemu-reconciler/internal/e2e"
)

// lab is a world of three VMs that is as the model says.
func lab() (*model, world) {
	m := newModel()
	m.daemonIs(true)
	c := content{}
	w := world{procs: map[string]process{}}
	w.status.Converged = true
	for i, name := range []string{"a", "b", "c"} {
		d := def{name: name, machine: machine{image: name + ".img", memory: 128}, on: always}
		c[name+".hcl"] = file{tasks: []def{d}}
		p := process{pid: 100 + i, start: 7, machine: d.machine, port: 20000 + i}
		w.procs[name] = p
		w.records = append(w.records, name)
		started := time.Unix(1000, 0)
		w.status.Tasks = append(w.status.Tasks, e2e.TaskStatus{Name: name, Desired: "running", Phase: "running", Converged: true,
			PID: p.pid, UUID: "uuid of " + name, StartedAt: &started})
	}
	m.deliver(c, true)
	m.rest(w)
	return m, w
}

// renew puts another process in the place of a task's.
func renew(w *world, name string, change func(*process)) {
	p := w.procs[name]
	p.pid += 50
	change(&p)
	w.procs[name] = p
	for i := range w.status.Tasks {
		if w.status.Tasks[i].Name == name {
			w.status.Tasks[i].PID = p.pid
		}
	}
}

// The model has no objection to what must be, and names what must not be.
func TestModelNotices(t *testing.T) {
	t.Parallel()
	memory := func(m *model, mib int) {
		next := m.now.copy()
		next["a.hcl"].tasks[0].memory = mib
		m.deliver(next, true)
	}
	without := func(m *model, names ...string) {
		next := m.now.copy()
		for _, name := range names {
			delete(next, name+".hcl")
		}
		m.deliver(next, true)
	}
	for _, c := range []struct {
		name   string
		happen func(m *model, w *world)
		want   string // empty: nothing is wrong
	}{
		{"nothing", func(*model, *world) {}, ""},
		{"restart for nothing", func(_ *model, w *world) { renew(w, "a", func(*process) {}) }, "with nothing to restart it for"},
		{"the same pid of another process", func(_ *model, w *world) { renew(w, "a", func(p *process) { p.pid, p.start = 100, 8 }) }, "with nothing to restart it for"},
		{"edit carried out", func(m *model, w *world) { memory(m, 160); renew(w, "a", func(p *process) { p.memory = 160 }) }, ""},
		{"edit forgotten", func(m *model, _ *world) { memory(m, 160) }, "wanted is"},
		{"edit and back", func(m *model, _ *world) { memory(m, 160); memory(m, 128) }, ""},
		{"edit and back that nobody saw", func(m *model, w *world) {
			m.daemonIs(false)
			memory(m, 160)
			memory(m, 128)
			m.daemonIs(true)
			renew(w, "a", func(*process) {})
		}, "with nothing to restart it for"},
		{"lost VM", func(_ *model, w *world) { delete(w.procs, "a") }, "runs: false, expected: yes"},
		{"orphan", func(m *model, w *world) { without(m, "a"); w.status.Tasks = w.status.Tasks[1:] }, "runs: true, expected: no"},
		{"stranger with our marks", func(_ *model, w *world) { w.procs["x"] = process{pid: 1} }, "no file ever had it"},
		{"mass removal carried out", func(m *model, w *world) {
			without(m, "a", "b", "c")
			*w = world{procs: map[string]process{}, status: e2e.Status{Converged: true}}
		}, "is not among the held removals"},
		{"other port", func(_ *model, w *world) { renew(w, "a", func(p *process) { p.pid, p.port = 100, 1 }) }, "its port was"},
		{"other uuid", func(_ *model, w *world) { w.status.Tasks[0].UUID = "another" }, "its uuid was"},
		{"status of another pid", func(_ *model, w *world) { w.status.Tasks[0].PID = 4 }, "/proc 100"},
		{"kill that is not counted", func(m *model, w *world) {
			m.tasks["a"].kills++
			renew(w, "a", func(*process) {})
		}, "restarts by policy"},
		{"kill", func(m *model, w *world) {
			m.tasks["a"].kills++
			renew(w, "a", func(*process) {})
			w.status.Tasks[0].Restarts = 1
		}, ""},
		{"record left over", func(_ *model, w *world) { w.problems = append(w.problems, "left over: x") }, "left over"},
		{"not converged", func(_ *model, w *world) { w.status.Tasks[1].Converged = false }, "converged: true, expected: false"},
	} {
		m, w := lab()
		c.happen(m, &w)
		found := strings.Join(m.compare(w), "\n")
		if c.want == "" && found != "" || !strings.Contains(found, c.want) {
			t.Errorf("%s: found %q, wanted %q", c.name, found, c.want)
		}
	}
}

// A task that has no record, since a second file had it before the daemon looked,
// has no last good definition: nothing of it runs, also when the directory goes
// away.
func TestModelOfAMistakeAlone(t *testing.T) {
	t.Parallel()
	m, w := lab()
	d := def{name: "x", machine: machine{image: "x.img", memory: 128}, on: always}
	for _, name := range []string{"x.hcl", "y.hcl"} { // before any daemon looks, the first file is contradicted
		next := m.now.copy()
		next[name] = file{tasks: []def{d}}
		m.deliver(next, true)
	}
	w.status.Tasks = append(w.status.Tasks, e2e.TaskStatus{Name: "x", Desired: "running", Phase: "failed"})
	m.rest(w)
	m.away = true
	if e := m.expect(m.tasks["x"], no); e.running != no {
		t.Errorf("x runs: %s, expected: no", e.running)
	}
	if e := m.expect(m.tasks["a"], no); !e.stays {
		t.Error("a may end because of x")
	}
}

// An approval is for the removal that was shown: a task that comes back, and goes
// again, may be held again.
func TestModelOfARemovalAfterAnApprovedOne(t *testing.T) {
	t.Parallel()
	m, _ := lab()
	without := m.now.copy()
	delete(without, "a.hcl")
	with := m.now
	m.deliver(without, true)
	a := m.tasks["a"]
	a.braked, a.approved = true, true
	if e := m.expect(a, yes); e.running != no {
		t.Errorf("after the approval, a runs: %s, expected: no", e.running)
	}
	m.deliver(with, true)
	m.deliver(without, true)
	if e := m.expect(a, yes); e.running != either || e.held != either {
		t.Errorf("after another removal, a runs: %s, is held: %s, expected: either", e.running, e.held)
	}
}

// A task that was removed, forgotten and brought back as a stopped one has no port
// until it is started.
func TestModelOfAPortGivenBack(t *testing.T) {
	t.Parallel()
	m, w := lab()
	m.task("a").proc, m.task("a").port = nil, 20000
	with := m.now.copy()
	with["a.hcl"].tasks[0].stopped = true
	without := m.now.copy()
	delete(without, "a.hcl")
	m.deliver(without, true)
	m.deliver(with, true)
	delete(w.procs, "a")
	w.status.Tasks[0] = e2e.TaskStatus{Name: "a", Desired: "stopped", Phase: "stopped", Converged: true}
	m.rest(w)
	if port := m.tasks["a"].port; port != 0 {
		t.Errorf("the model holds on to port %d", port)
	}
}

// A removal that no daemon came to before the directory went is carried out when it is
// back, and the file may break or mend while it is.
func TestModelOfARemovalBehindAnAbsentDirectory(t *testing.T) {
	t.Parallel()
	m, w := lab()
	with, without, broken := m.now, m.now.copy(), m.now.copy()
	without["a.hcl"].tasks[0].elsewhere = true
	f := broken["a.hcl"]
	f.fault = syntaxFault
	broken["a.hcl"] = f
	m.deliver(without, true)
	m.away = true
	m.rest(w)
	m.back()
	for what, next := range map[string]content{"broken": broken, "mended": with} {
		m.deliver(next, true)
		if e := m.expect(m.tasks["a"], no); e.stays {
			t.Errorf("%s: a must not have ended", what)
		}
	}
}

// A VM that is down for its removal is not one that its last good definition starts.
func TestModelOfARemovalInABrokenFile(t *testing.T) {
	t.Parallel()
	m, w := lab()
	broken := m.now.copy()
	f := broken["a.hcl"]
	f.fault = syntaxFault
	broken["a.hcl"] = f
	m.deliver(broken, true)
	delete(w.procs, "a")
	w.status.Tasks[0] = e2e.TaskStatus{Name: "a", Desired: "absent", Phase: "stopped"}
	m.rest(w)
	if e := m.expect(m.tasks["a"], no); e.running != either {
		t.Errorf("a runs: %s, expected: either", e.running)
	}
}

// A task that waits for an image at a rest may have been started before it went.
func TestModelOfATaskThatWaits(t *testing.T) {
	t.Parallel()
	m, w := lab()
	before := m.now
	with := before.copy()
	d := before["a.hcl"].tasks[0]
	d.name = "x"
	with["x.hcl"] = file{tasks: []def{d}}
	m.deliver(with, true)
	m.rest(w)
	m.rest(w)
	if begun := m.begun; len(begun) != 0 {
		t.Errorf("begun removals of what never ran: %v", begun)
	}
	m.deliver(before, true)
	if e := m.expect(m.tasks["x"], either); e.running != either {
		t.Errorf("x runs: %s, expected: either", e.running)
	}
}
