package runtime

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	goruntime "runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qemu-reconciler/qemu-reconciler/internal/guest"
)

// TestObserveWaitsForNobody: neither a disk that hangs nor a deed under way
// holds it up.
func TestObserveWaitsForNobody(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	for i := range 10000 {
		l.ensure(fmt.Sprintf("task-%d", i))
	}
	m := l.find("task-7")
	m.writing.Lock()
	defer m.writing.Unlock()
	end, err := m.take(t.Context())
	must(t, err)
	defer end()
	done := make(chan int, 1)
	go func() { done <- len(l.Observe()) }()
	if n := await(t, done, "observation"); n != 10000 {
		t.Errorf("%d tasks", n)
	}
}

// TestMemoryOfQuietSession: what a session holds while nobody speaks is held for
// every VM, also after QEMU had much to say. It runs alone, since it counts the
// whole process's heap.
func TestMemoryOfQuietSession(t *testing.T) {
	const sessions, most = 200, 4 << 10
	long := strings.Repeat("x", 100<<10)
	inUse := func() uint64 {
		var m goruntime.MemStats
		goruntime.GC()
		goruntime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := inUse()
	var monitors []*Monitor
	for range sessions {
		near, far := net.Pipe()
		var peer sync.WaitGroup
		peer.Go(func() {
			requests := json.NewDecoder(far)
			var req request
			fmt.Fprint(far, fakeGreeting)
			for _, reply := range []string{"", long} {
				if err := requests.Decode(&req); err != nil {
					t.Error(err)
					return
				}
				fmt.Fprintf(far, `{"return":%q,"id":%q}`+"\n", reply, req.ID)
			}
		})
		m, err := NewMonitor(t.Context(), near)
		must(t, err)
		must(t, m.Execute(t.Context(), "x", nil, new(string)))
		peer.Wait()
		monitors = append(monitors, m)
	}
	each := (inUse() - before) / sessions
	t.Logf("a quiet session holds %d bytes", each)
	if each > most {
		t.Errorf("a quiet session holds %d bytes, want %d at most", each, most)
	}
	for _, m := range monitors {
		must(t, m.Close())
	}
}

// TestMissedResetsCostLittle: the logs of hundreds are looked through when a daemon
// takes over. It runs alone, since it counts the whole process's heap.
func TestMissedResetsCostLittle(t *testing.T) {
	const looks, most = 100, 16 << 10
	path := filepath.Join(t.TempDir(), "qmp.log")
	must(t, os.WriteFile(path, []byte(fakeGreeting), 0o600))
	var before, after goruntime.MemStats
	goruntime.ReadMemStats(&before)
	for range looks {
		missedResets(path, time.Time{})
	}
	goruntime.ReadMemStats(&after)
	if each := (after.TotalAlloc - before.TotalAlloc) / looks; each > most {
		t.Errorf("a look takes %d bytes, want %d at most", each, most)
	}
}

// TestCostPerVM: at rest a VM costs three goroutines, three descriptors at most
// and no thread. It runs alone, since it counts the whole process's.
func TestCostPerVM(t *testing.T) {
	l := newLab(t)
	const vms = 6
	goroutines, files, threads := goruntime.NumGoroutine(), fileCount(t), 0
	for i := range vms {
		l.start(l.task(fmt.Sprintf("vm%d", i), guest.Quiet))
		if i == 0 { // whatever the work of a start needs is there now, and stays
			threads = threadCount(t)
		}
	}
	atMost := func(per int, before int, now func() int) func() error {
		return func() error {
			if got := now() - before; got > per*vms {
				return fmt.Errorf("%d for %d VMs", got, vms)
			}
			return nil
		}
	}
	eventually(t, "few goroutines", atMost(3, goroutines, goruntime.NumGoroutine))
	eventually(t, "few descriptors", atMost(3, files, func() int { return fileCount(t) }))
	got := threadCount(t) - threads
	t.Logf("%d more threads for %d more VMs", got, vms-1)
	if got > vms/2 {
		t.Errorf("%d more threads for %d more VMs", got, vms-1)
	}
	must(t, l.Close())
	eventually(t, "no goroutine left", func() error {
		if got := goruntime.NumGoroutine(); got > goroutines-1 { // the keeper was there before
			return fmt.Errorf("%d, there were %d", got, goroutines)
		}
		return nil
	})
	if found := oursOf(t, l.layout); len(found) != vms {
		t.Errorf("%d VMs are left of %d", len(found), vms)
	}
}

// TestHundredsAtOnce: hundreds of processes are known when Open returns, and it
// returns soon: what it costs is counted, which a busy host does not change. It
// runs alone, since that is the whole process's.
func TestHundredsAtOnce(t *testing.T) {
	l := newLab(t)
	must(t, l.Close())
	const vms = 300
	store := OpenStore(l.layout)
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	must(t, err)
	defer null.Close()
	nobody := filepath.Join(l.images, "nobody")
	must(t, unix.Mkfifo(nobody, 0o600))
	for i := range vms {
		name := fmt.Sprintf("vm%d", i)
		// A stand-in for a QEMU: it has the name and says nothing, since nobody writes.
		p, err := Launch(LaunchRequest{
			Argv: []string{"/bin/sh", "-c", "read line <" + nobody, "-name", name}, Output: null,
			Env: []string{envTask + "=" + name, envState + "=" + l.layout.State},
		})
		must(t, err)
		endWithTest(t, p)
		must(t, store.Put(&Record{Version: RecordVersion, Task: name, Process: &ProcessInfo{
			PID: p.PID(), StartTicks: p.StartTicks(), BootID: BootID(), Argv: []string{"qemu"}, Answered: true,
		}}, false))
	}
	before := processorTime(t)
	l.open()
	opened := processorTime(t) - before
	alive := 0
	for _, o := range l.Observe() {
		if o.Alive {
			alive++
		}
	}
	t.Logf("%d VMs known for %v of a processor", alive, opened)
	if alive != vms || opened > 900*time.Millisecond { // 100 ms on an idle host without the race detector
		t.Errorf("%d of %d VMs known for %v of a processor", alive, vms, opened)
	}
}

func processorTime(t *testing.T) time.Duration {
	t.Helper()
	var used unix.Rusage
	must(t, unix.Getrusage(unix.RUSAGE_SELF, &used))
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// TestEverythingAtOnce: for the race detector.
func TestEverythingAtOnce(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	var work, watchers sync.WaitGroup
	done := make(chan struct{})
	for range 2 {
		watchers.Go(func() {
			for {
				for _, o := range l.Observe() {
					_ = asJSON(o)
				}
				select {
				case <-done:
					return
				default:
					goruntime.Gosched()
				}
			}
		})
	}
	for i := range 3 {
		task := l.task(fmt.Sprintf("vm%d", i), guest.Button)
		work.Go(func() {
			for range 3 {
				if err := l.Start(t.Context(), startOf(task)); err != nil {
					t.Error(err)
				}
				if err := l.Update(task.Name, func(r *Record) { r.Restarts++ }); err != nil {
					t.Error(err)
				}
				if err := l.Stop(t.Context(), task.Name, StopRequest{Graceful: i == 0, Timeout: testPatience}); err != nil {
					t.Error(err)
				}
			}
			if got := l.Observe()[task.Name].Record.Restarts; got != 3 {
				t.Errorf("%d updates of 3 are left", got)
			}
			if err := l.Forget(task.Name); err != nil {
				t.Error(err)
			}
		})
	}
	work.Wait()
	close(done)
	watchers.Wait()
	if len(l.Observe()) != 0 {
		t.Errorf("left: %s", asJSON(l.Observe()))
	}
}
