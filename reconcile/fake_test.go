package reconcile

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/qemu-reconciler/qemu-reconciler/runtime"
	"github.com/qemu-reconciler/qemu-reconciler/spec"
)

// fakeMachines behaves like a runtime whose guests boot at once and take
// stopTakes to shut down. It keeps the log of what was done to it. Real QEMU
// is tested elsewhere; here time is fake, so processes must be.
type fakeMachines struct {
	t         testing.TB
	poke      func()
	stopTakes time.Duration
	failStart map[string]error

	mu       sync.Mutex
	observed map[string]runtime.Observation
	nextPID  int
	started  []string // "NAME@seconds since begin"
	stopped  []string
	events   []string
	begin    time.Time
	// removals is what was remembered last.
	removals     runtime.Removals
	failRemember error
	// securing gives what comes of each Secure; nil for nothing and at once.
	securing chan error
	// remembering, unless it is nil, gets a channel for each call to remember, which
	// goes on when that is closed.
	remembering chan chan struct{}
	// most is the highest number of starts that were under way at once.
	underWay, most int
	startTakes     time.Duration
}

func newFake(t testing.TB) *fakeMachines {
	return &fakeMachines{t: t, observed: map[string]runtime.Observation{}, failStart: map[string]error{}, nextPID: 100, begin: time.Now()}
}

func (f *fakeMachines) stamp(name string) string {
	return fmt.Sprintf("%s@%.1fs", name, time.Since(f.begin).Seconds())
}

func (f *fakeMachines) Observe() map[string]runtime.Observation {
	f.mu.Lock()
	defer f.mu.Unlock()
	return maps.Clone(f.observed)
}

func (f *fakeMachines) record(name string) runtime.Record {
	if r := f.observed[name].Record; r != nil {
		return *r
	}
	return runtime.Record{Task: name}
}

func (f *fakeMachines) Start(_ context.Context, req runtime.StartRequest) error {
	f.mu.Lock()
	f.underWay++
	f.most = max(f.most, f.underWay)
	f.mu.Unlock()
	time.Sleep(f.startTakes)
	f.mu.Lock()
	defer f.mu.Unlock()
	defer f.poke()
	f.underWay--
	if f.observed[req.Task].Alive {
		f.t.Errorf("a second start of %s while it runs", req.Task)
	}
	rec := f.record(req.Task)
	task, _ := req.Wanted(nil)
	rec.File, rec.Wanted, rec.Applied = req.File, task, task
	req.Record(&rec)
	f.started = append(f.started, f.stamp(req.Task))
	if err := f.failStart[req.Task]; err != nil {
		rec.Failure = err.Error()
		rec.LastExit = &runtime.Exit{At: time.Now(), Cause: runtime.CauseLaunchFailed, BootID: "boot"}
		f.observed[req.Task] = runtime.Observation{Record: &rec}
		return nil
	}
	f.nextPID++
	rec.Process = &runtime.ProcessInfo{PID: f.nextPID, StartedAt: time.Now(), Answered: true}
	f.observed[req.Task] = runtime.Observation{Record: &rec, Alive: true, Answering: true}
	return nil
}

func (f *fakeMachines) Stop(ctx context.Context, task string, _ runtime.StopRequest) error {
	select {
	case <-time.After(f.stopTakes):
	case <-ctx.Done():
		return ctx.Err()
	}
	f.mu.Lock()
	f.stopped = append(f.stopped, f.stamp(task))
	f.mu.Unlock()
	f.end(task, runtime.CauseStopped, "acpi")
	return nil
}

// end makes a VM end with the cause.
func (f *fakeMachines) end(task, cause, rung string) {
	f.mu.Lock()
	rec := f.record(task)
	exit := runtime.Exit{At: time.Now(), Cause: cause, Rung: rung, BootID: "boot"}
	if rec.Process != nil {
		exit.StartedAt = rec.Process.StartedAt
	}
	rec.Process, rec.LastExit = nil, &exit
	f.observed[task] = runtime.Observation{Record: &rec}
	f.mu.Unlock()
	f.poke()
}

func (f *fakeMachines) Update(task string, change func(*runtime.Record)) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	o := f.observed[task]
	rec := f.record(task)
	change(&rec)
	o.Record = &rec
	f.observed[task] = o
	return nil
}

func (f *fakeMachines) Write(task string, change func(*runtime.Record)) error {
	return f.Update(task, change)
}

func (f *fakeMachines) Secure(string) error {
	if f.securing == nil {
		return nil
	}
	return <-f.securing
}

func (f *fakeMachines) Forget(task string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.observed[task].Alive {
		return errors.New("it runs")
	}
	delete(f.observed, task)
	return nil
}

func (f *fakeMachines) Preview(task *spec.Task, _ *runtime.Record) ([]string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return nil, f.failStart[task.Name]
}

func (f *fakeMachines) RememberRemovals(removals runtime.Removals) error {
	if f.remembering != nil {
		done := make(chan struct{})
		f.remembering <- done
		<-done
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.failRemember != nil {
		return f.failRemember
	}
	f.removals = removals
	return nil
}

func (f *fakeMachines) Probe() {}

func (f *fakeMachines) Event(kind, task, _ string, _ map[string]any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.events = append(f.events, kind+" "+task)
}

// fakeLoader is a directory in memory.
type fakeLoader struct {
	mu    sync.Mutex
	files map[string]string
	loads int
	takes time.Duration
	// writing is a file that is being written; empty for none.
	writing string
}

func (l *fakeLoader) Load() *spec.Set {
	l.mu.Lock()
	takes := l.takes
	l.mu.Unlock()
	time.Sleep(takes)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.loads++
	set := &spec.Set{Dir: "/vms"}
	for name, text := range l.files {
		if name == l.writing {
			set.Unsettled, set.Writing = true, []string{name}
			continue
		}
		source := spec.Parse(name, []byte(text), testEnv)
		set.Files = append(set.Files, spec.File{Path: name, Errors: source.Errors, Faulty: source.Faulty})
		set.Definitions = append(set.Definitions, source.Definitions...)
	}
	sortDefinitions(set.Definitions)
	return set
}

func (l *fakeLoader) Recheck() {}

func (l *fakeLoader) Parsed() int { return 0 }

// house is an engine with its fakes, running.
type house struct {
	*Engine
	machines *fakeMachines
	loader   *fakeLoader
	stop     func()
}

func newHouse(t *testing.T, files map[string]string, setup func(*Config, *fakeMachines)) *house {
	machines := newFake(t)
	loader := &fakeLoader{files: files}
	cfg := Config{Loader: loader, Machines: machines, HostName: "host1", VMsDir: "/vms", BootID: "boot", Log: hclog.NewNullLogger()}
	if setup != nil {
		setup(&cfg, machines)
	}
	e := New(cfg)
	machines.poke = e.Poke
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); e.Run(ctx) }()
	return &house{Engine: e, machines: machines, loader: loader, stop: func() { cancel(); <-ended }}
}

// Show is a status for an operator.
func (h *house) Show() Status { return h.StatusNow(true) }

// write changes the directory and says so, as a file event would.
func (h *house) write(name, text string) {
	h.slip(name, text)
	h.PokeFiles(true)
}

// slip changes the directory, and nothing tells of it.
func (h *house) slip(name, text string) {
	h.loader.mu.Lock()
	if text == "" {
		delete(h.loader.files, name)
	} else {
		h.loader.files[name] = text
	}
	h.loader.mu.Unlock()
}

func (h *house) log(list *[]string) []string {
	h.machines.mu.Lock()
	defer h.machines.mu.Unlock()
	out := *list
	*list = nil
	return out
}

// counts are the passes made and the looks at the directory so far.
func (h *house) counts() (passes, loads int) {
	h.mu.Lock()
	passes = h.passes
	h.mu.Unlock()
	h.loader.mu.Lock()
	defer h.loader.mu.Unlock()
	return passes, h.loader.loads
}
