package reconcile

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/qemu-reconciler/qemu-reconciler/runtime"
	"github.com/qemu-reconciler/qemu-reconciler/spec"
)

// crowd is an engine over a real directory of many files, whose tasks all run.
// Its passes are the caller's to make.
type crowd struct {
	*Engine
	dir      string
	loader   *spec.Loader
	machines *fakeMachines
}

func newCrowd(tb testing.TB, n int) *crowd {
	tb.Helper()
	c := &crowd{dir: tb.TempDir(), machines: newFake(tb)}
	for i := range n {
		c.write(tb, i, 512)
	}
	c.loader = spec.NewLoader(spec.LoaderOptions{Dir: c.dir, HostName: "host1", HostArch: "x86_64",
		Now: func() time.Time { return time.Now().Add(time.Hour) }})
	for _, d := range c.loader.Load().Definitions {
		c.machines.observed[d.Task.Name] = runtime.Observation{Alive: true, Answering: true, Record: &runtime.Record{
			Task: d.Task.Name, File: d.File, Wanted: d.Task, Applied: d.Task, Process: &runtime.ProcessInfo{PID: 1, Answered: true}}}
	}
	c.Engine = New(Config{Loader: c.loader, Machines: c.machines, HostName: "host1", VMsDir: c.dir, BootID: "boot", Log: hclog.NewNullLogger()})
	c.machines.poke = c.Poke
	c.pass(tb.Context())
	return c
}

func (c *crowd) write(tb testing.TB, i, memory int) {
	tb.Helper()
	name := fmt.Sprintf("vm%05d", i)
	text := task(name, fmt.Sprintf("resources {\n  memory = %d\n  network {\n    port \"ssh\" { static = %d }\n  }\n}\nmeta = { owner = \"me\" }\n", memory, 20000+i))
	if err := os.WriteFile(filepath.Join(c.dir, name+".hcl"), []byte(text), 0o644); err != nil {
		tb.Fatal(err)
	}
}

// bare is the least that a look at the directory can be: its names, and a stat
// of each.
func (c *crowd) bare(tb testing.TB) {
	tb.Helper()
	entries, err := os.ReadDir(c.dir)
	if err != nil {
		tb.Fatal(err)
	}
	for _, e := range entries {
		if _, err := os.Stat(filepath.Join(c.dir, e.Name())); err != nil {
			tb.Fatal(err)
		}
	}
}

func BenchmarkPass(b *testing.B) {
	for _, n := range []int{1000, 10000} {
		c := newCrowd(b, n)
		ctx := context.Background()
		b.Run(fmt.Sprintf("event/%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				c.pass(ctx)
			}
		})
		b.Run(fmt.Sprintf("look/%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				c.PokeFiles(false)
				c.pass(ctx)
			}
		})
		b.Run(fmt.Sprintf("bare/%d", n), func(b *testing.B) {
			for b.Loop() {
				c.bare(b)
			}
		})
		b.Run(fmt.Sprintf("status/%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				c.Status()
			}
		})
	}
}

// What a pass costs must not grow with the tasks for which nothing has happened:
// not in allocations, and not in judgements.
func TestPassOverVMsThatRest(t *testing.T) {
	const n, moved = 500, 3
	c := newCrowd(t, n)
	c.pass(t.Context()) // the one before has written down what it found
	if allocs := testing.AllocsPerRun(5, func() { c.pass(t.Context()) }); allocs > n/5 {
		t.Errorf("a pass over %d VMs at rest allocates %.0f times", n, allocs)
	}
	for i := range moved {
		name := fmt.Sprintf("vm%05d", i)
		o := c.machines.observed[name]
		o.Paused = "paused"
		c.machines.observed[name] = o
	}
	_, verdicts := c.judgeNow()
	judged := 0
	for _, v := range verdicts {
		if !v.Same {
			judged++
		}
	}
	if judged != moved {
		t.Errorf("%d of %d VMs were judged, %d have moved", judged, n, moved)
	}
}

// However often a pass is asked for, passes leave half of the time to others.
func TestPassesLeaveRoom(t *testing.T) {
	t.Parallel()
	const looks, takes = 6, 20 * time.Millisecond
	h := newHouse(t, nil, nil)
	h.loader.mu.Lock()
	h.loader.takes = takes
	h.loader.mu.Unlock()
	defer h.stop()
	look := func() {
		t.Helper()
		if err := h.nextLook(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	look()
	began := time.Now()
	for range looks {
		look()
	}
	if took := time.Since(began); took < 2*takes*(looks-1) {
		t.Errorf("%d looks of %v each were over in %v", looks, takes, took)
	}
}
