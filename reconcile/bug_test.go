package reconcile

import (
	"bytes"
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/qemu-reconciler/qemu-reconciler/runtime"
	"github.com/qemu-reconciler/qemu-reconciler/spec"
)

// notebook is a log that can be read while it is written.
type notebook struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (n *notebook) Write(p []byte) (int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.text.Write(p)
}

func (n *notebook) count(text string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return strings.Count(n.text.String(), text)
}

func (n *notebook) logger() hclog.Logger { return hclog.New(&hclog.LoggerOptions{Output: n}) }

func taskOf(s Status, name string) TaskStatus {
	for _, t := range s.Tasks {
		if t.Name == name {
			return t
		}
	}
	return TaskStatus{}
}

// TestPanicInOneJudgement: a world that cannot be gives a panic for its own
// task only; the others are started, edited and stopped as ever, and the log
// has the stack once.
func TestPanicInOneJudgement(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log notebook
		h := newHouse(t, map[string]string{"a.hcl": task("a", ""), "bad.hcl": task("bad", ""), "z.hcl": task("z", "")},
			func(c *Config, m *fakeMachines) {
				c.Log = log.logger()
				m.observed["bad"] = runtime.Observation{Alive: true} // and no record
			})
		defer h.stop()
		time.Sleep(time.Second)
		expect(t, "started", h.log(&h.machines.started), []string{"a@0.0s", "z@0.0s"})
		h.write("z.hcl", task("z", "resources { memory = 1024 }\n"))
		h.write("a.hcl", "")
		time.Sleep(10 * time.Second)
		expect(t, "started", h.log(&h.machines.started), []string{"z@1.0s"})
		if n := len(h.log(&h.machines.stopped)); n != 2 {
			t.Errorf("%d were stopped", n)
		}
		s := h.Status()
		if bad := taskOf(s, "bad"); s.Converged || bad.Phase != PhaseFailed || !strings.HasPrefix(bad.Reason, "a bug in qemu-reconciler") || strings.Contains(bad.Reason, "\n") {
			t.Errorf("%+v", bad)
		}
		if log.count("a task cannot be judged") != 1 || log.count("judgeAlive") == 0 {
			t.Errorf("the log has %d faults", log.count("a task cannot be judged"))
		}
	})
}

// panickingMachines panics at the start of a task that is called bad.
type panickingMachines struct{ *fakeMachines }

func (m panickingMachines) Start(ctx context.Context, req runtime.StartRequest) error {
	if req.Task == "bad" {
		panic("injected")
	}
	return m.fakeMachines.Start(ctx, req)
}

// TestPanicInOneStep: it is a failure that is waited upon and tried again.
func TestPanicInOneStep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log notebook
		h := newHouse(t, map[string]string{"bad.hcl": task("bad", ""), "z.hcl": task("z", "")}, func(c *Config, m *fakeMachines) {
			c.Log, c.Machines = log.logger(), panickingMachines{m}
		})
		defer h.stop()
		time.Sleep(1500 * time.Millisecond)
		expect(t, "started", h.log(&h.machines.started), []string{"z@0.0s"})
		if bad := taskOf(h.Status(), "bad"); bad.Converged || !strings.HasSuffix(bad.Reason, "please report it: injected") {
			t.Errorf("%+v", bad)
		}
		if log.count("panickingMachines.Start") < 2 || log.count("step failed") != 2 {
			t.Errorf("tried %d times", log.count("step failed"))
		}
	})
}

// panickingLoader panics while it is told to.
type panickingLoader struct {
	*fakeLoader
	fail *atomic.Bool
}

func (l panickingLoader) Load() *spec.Set {
	if l.fail.Load() {
		panic("injected")
	}
	return l.fakeLoader.Load()
}

// TestPanicOfTheLoader: nothing is known of the directory then, so nothing is
// stopped; once it can be read again, all goes on.
func TestPanicOfTheLoader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log notebook
		var fail atomic.Bool
		h := newHouse(t, map[string]string{"a.hcl": task("a", "")}, func(c *Config, _ *fakeMachines) {
			c.Log, c.Loader = log.logger(), panickingLoader{c.Loader.(*fakeLoader), &fail}
		})
		defer h.stop()
		time.Sleep(time.Second)
		fail.Store(true)
		h.write("b.hcl", task("b", ""))
		time.Sleep(10 * time.Second)
		if s := h.Status(); !strings.Contains(s.DirError, "please report it: injected") || taskOf(s, "a").Phase != PhaseRunning {
			t.Errorf("%+v", s)
		}
		if stopped := h.log(&h.machines.stopped); len(stopped) != 0 || log.count("panickingLoader.Load") == 0 {
			t.Errorf("stopped %v", stopped)
		}
		fail.Store(false)
		h.PokeFiles(false)
		time.Sleep(time.Second)
		if s := h.Status(); !s.Converged || len(s.Tasks) != 2 {
			t.Errorf("%+v", s)
		}
	})
}
