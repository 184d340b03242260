package e2e

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/qemu-reconciler/qemu-reconciler/internal/guest"
	"github.com/qemu-reconciler/qemu-reconciler/reconcile"
	vms "github.com/qemu-reconciler/qemu-reconciler/runtime"
	"github.com/qemu-reconciler/qemu-reconciler/spec"
)

// The bounds are about twice of what was measured, so that a thread, a
// descriptor or a poll loop more for each VM fails, and a busy host does not.
const (
	manyVMs = 30
	// leastThreads is what the daemon has from the start, so that starts which
	// overlap need no more of them, and maxMoreThreads what it may have more with
	// manyVMs than with none.
	leastThreads, maxMoreThreads = 16, 6
	// maxDescriptors are those of one VM: its pidfd and its QMP session.
	maxDescriptors = 2
	// maxGoroutines are those of one VM: the watch of its process, its session,
	// and the reader of that.
	maxGoroutines = 3
	// The reads and writes of one start, from the look at the directory to
	// QMP's answer, and the times that a thread waits for something meanwhile.
	maxStartCalls, maxStartWaits = 250, 250
	// The same for one VM and a minute in which nothing happens.
	maxRestCalls, maxRestWaits = 10, 20
	// restWindow is how long the rest is watched, restWindows how often when it
	// is none at first.
	restWindow, restWindows = 10 * time.Second, 3
)

// What the daemon costs with many VMs, seen from outside.
func TestManyVMsCostLittle(t *testing.T) {
	t.Parallel()
	h := Start(t, Secluded())
	none := h.Usage()
	if none.Threads < leastThreads {
		t.Errorf("%d threads from the start, at least %d", none.Threads, leastThreads)
	}
	for i := range manyVMs {
		name := fmt.Sprintf("vm%02d", i)
		h.Write(name+".hcl", h.Task(name, guest.Quiet))
	}
	// A look at the status would cost the daemon something.
	h.Await("answers of all VMs", func() bool {
		return strings.Count(h.read("events.jsonl"), `"type":"running"`) == manyVMs
	})
	all := h.Usage()
	t.Logf("%d VMs: threads %d → %d, descriptors %d → %d; for each start %d reads and writes, %d waits", manyVMs,
		none.Threads, all.Threads, none.Descriptors, all.Descriptors, (all.Calls-none.Calls)/manyVMs, (all.Waits-none.Waits)/manyVMs)
	atMost(t, "more threads with all VMs", all.Threads-none.Threads, maxMoreThreads)
	atMost(t, "reads and writes for a start", (all.Calls-none.Calls)/manyVMs, maxStartCalls)
	atMost(t, "waits for a start", (all.Waits-none.Waits)/manyVMs, maxStartWaits)
	atMost(t, "helper processes", h.Helpers(), 0)
	// Descriptors of deeds that are just done are closed in a moment.
	h.Await("few descriptors", func() bool { return h.Usage().Descriptors-none.Descriptors <= maxDescriptors*manyVMs+2 })

	calls, waits := h.rest()
	atMost(t, "reads and writes of a VM in a minute of rest", calls, maxRestCalls)
	atMost(t, "waits of a VM in a minute of rest", waits, maxRestWaits)

	h.Kill()
	h.StartDaemon()
	adopted := h.Usage()
	t.Logf("adopted: %d threads, %d descriptors", adopted.Threads, adopted.Descriptors)
	atMost(t, "more threads with all VMs adopted", adopted.Threads-none.Threads, maxMoreThreads)
}

// rest says what one VM costs in a minute in which nothing happens. On a busy
// host what came before may not be over yet, so the best of some windows
// counts: what polls does it in all of them.
func (h *Host) rest() (calls, waits int) {
	h.t.Helper()
	for range restWindows {
		before, began := h.Usage(), time.Now()
		<-time.After(restWindow)
		after := h.Usage()
		perMinute := func(n int) int { return int(float64(n) / manyVMs * float64(time.Minute) / float64(time.Since(began))) }
		calls, waits = perMinute(after.Calls-before.Calls), perMinute(after.Waits-before.Waits)
		h.t.Logf("at rest, for each VM and minute: %d reads and writes, %d waits, %d ms of CPU", calls, waits, perMinute(int((after.CPU-before.CPU)/time.Millisecond)))
		if calls <= maxRestCalls && waits <= maxRestWaits {
			break
		}
	}
	return calls, waits
}

func atMost(t testing.TB, what string, got, most int) {
	t.Helper()
	if got > most {
		t.Errorf("%s: %d, at most %d", what, got, most)
	}
}

// Goroutines come and go with the VMs. This test runs in one process with the
// runtime, alone.
func TestGoroutinesOfAVM(t *testing.T) {
	const count = 6
	h := Start(t, Stopped())
	for i := range count {
		name := fmt.Sprintf("vm%d", i)
		h.Write(name+".hcl", h.Task(name, guest.Deaf))
	}
	rt := h.openRuntime()
	definitions := h.newLoader().Load().Definitions
	idle := runtime.NumGoroutine()
	for _, d := range definitions {
		h.must(rt.Start(context.Background(), vms.StartRequest{Task: d.Task.Name, File: d.File, Wanted: d.Bind, Labels: d.Task.Dynamic()}))
	}
	h.Await("answers of all VMs", func() bool {
		answering := 0
		for _, o := range rt.Observe() {
			if o.Answering {
				answering++
			}
		}
		return answering == count
	})
	h.Await(fmt.Sprintf("at most %d goroutines a VM", maxGoroutines), func() bool { return runtime.NumGoroutine() <= idle+maxGoroutines*count })
	t.Logf("goroutines: %d with no VM, %d with %d", idle, runtime.NumGoroutine(), count)
	for _, d := range definitions {
		h.must(rt.Stop(context.Background(), d.Task.Name, vms.StopRequest{Reason: "end of the test"}))
	}
	h.Await("end of all goroutines of VMs", func() bool { return runtime.NumGoroutine() <= idle })
}

// openRuntime takes this host in charge in the test's own process.
func (h *Host) openRuntime() *vms.Runtime {
	h.t.Helper()
	rt, err := vms.Open(context.Background(), vms.Options{Layout: vms.Layout{State: h.State, Run: h.Run}})
	h.must(err)
	h.t.Cleanup(func() {
		if err := rt.Close(); err != nil {
			h.t.Error(err)
		}
	})
	return rt
}

func (h *Host) newLoader() *spec.Loader {
	return spec.NewLoader(spec.LoaderOptions{Dir: h.VMs, HostName: "host", HostArch: "x86_64", Writing: vms.Writing, Now: time.Now})
}

// A pass parses what changed and nothing else.
func TestAPassParsesOnlyWhatChanged(t *testing.T) {
	const count = 50
	h := Start(t, Stopped())
	text := func(i int, more string) string {
		return strings.Replace(h.Task(fmt.Sprintf("vm%02d", i), guest.Quiet), "{\n", "{\n  state = \"stopped\"\n"+more, 1)
	}
	for i := range count {
		h.Write(fmt.Sprintf("vm%02d.hcl", i), text(i, ""))
	}
	loader := h.newLoader()
	engine, passes := h.runEngine(loader)
	awaitPass := func() {
		h.t.Helper()
		seen := passes.Load()
		engine.PokeFiles(false)
		h.Await("pass", func() bool { return passes.Load() > seen })
	}
	h.Await("convergence", func() bool { st := engine.Status(); return st.Converged && len(st.Tasks) == count })
	if parsed := loader.Parsed(); parsed != count {
		t.Errorf("%d files parsed of %d that came", parsed, count)
	}
	for range 20 {
		awaitPass()
	}
	if parsed := loader.Parsed(); parsed != count {
		t.Errorf("%d files parsed over passes in which nothing changed", parsed-count)
	}
	h.Write("vm07.hcl", text(7, "  meta = { seen = \"yes\" }\n"))
	h.Await("the change", func() bool {
		return slices.ContainsFunc(engine.Status().Tasks, func(task reconcile.TaskStatus) bool { return task.Meta["seen"] == "yes" })
	})
	awaitPass()
	if parsed := loader.Parsed(); parsed != count+1 {
		t.Errorf("%d files parsed when one had changed", parsed-count)
	}
	t.Logf("%d files, %d passes, %d files parsed", count, passes.Load(), loader.Parsed())
}

// runEngine runs the loop in the test's own process until its end.
func (h *Host) runEngine(loader *spec.Loader) (*reconcile.Engine, *atomic.Int64) {
	h.t.Helper()
	passes := &atomic.Int64{}
	rt := h.openRuntime()
	engine := reconcile.New(reconcile.Config{
		Loader: loader, Machines: rt, HostName: "host", VMsDir: h.VMs, StateDir: h.State, BootID: vms.BootID(),
		OnPass: func(int) { passes.Add(1) }, Log: hclog.NewNullLogger(),
	})
	watcher := reconcile.NewWatcher(h.VMs, engine, hclog.NewNullLogger())
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		engine.Run(ctx)
	}()
	h.t.Cleanup(func() {
		cancel()
		if err := watcher.Close(); err != nil {
			h.t.Error(err)
		}
		<-done
	})
	return engine, passes
}
