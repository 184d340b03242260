package bench

import (
	"bytes"
	"os"
	"slices"
	"time"

	"github.com/qemu-reconciler/qemu-reconciler/internal/e2e"
	"github.com/qemu-reconciler/qemu-reconciler/internal/scale"
	"github.com/qemu-reconciler/qemu-reconciler/runtime"
)

// adoptions lets the daemon die with all VMs running and find them again. The
// first fleet is watched at rest before that, and each is stopped after it; larger
// ones take too long to come.
func (f *fleet) adoptions(first bool) {
	times := min(adoptions, f.Repeats)
	for i := range times {
		if first || i == 0 {
			f.come("")
		}
		if first && i == 0 {
			f.rest()
			for range f.Repeats {
				f.ours("program.status", f.timeCommand("status"))
			}
		}
		f.adopt()
		f.weigh("adopted", "threads-adopted")
		if first || i == times-1 {
			f.leave("", "orphans", f.ask)
		}
	}
}

// adopt kills the daemon and times the next one.
func (f *fleet) adopt() {
	before := f.h.QEMUs()
	f.h.Kill()
	answers, err := scale.NewAnswers(f.monitorLogs())
	f.must(err)
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
	f.h.AwaitEvery(lookEvery, "sessions with all VMs", func() bool {
		all, err := answers.All()
		f.must(err)
		return all
	})
	f.ours(f.id+"sessions", ms(time.Since(began)))
	f.h.AwaitConverged()
	if after := f.h.QEMUs(); !slices.Equal(before, after) {
		f.t.Errorf("QEMUs were %v and are %v", before, after)
	}
}

// monitorLogs are the files in which the QEMUs write all that they say over QMP.
func (f *fleet) monitorLogs() []string {
	var paths []string
	layout := runtime.Layout{State: f.h.State, Run: f.h.Run}
	for _, name := range f.names {
		paths = append(paths, layout.QMPLog(name))
	}
	return paths
}

// rest watches the daemon while nothing happens, from outside, and before anybody
// has asked for the status.
func (f *fleet) rest() {
	if !f.wanted("rest") {
		return
	}
	time.Sleep(f.Settle)
	asked := f.asked()
	cpu, switches := f.usageAtRest(f.h, f.h.DaemonPID())
	f.ours("rest.cpu", cpu)
	f.ours("rest.switches", switches)
	f.ours("rest.asked", float64(f.asked()-asked)*float64(time.Minute)/float64(f.Rest))
}

// usageAtRest is what a process has of each minute while nobody does anything:
// milliseconds of CPU, and context switches.
func (r *run) usageAtRest(h *e2e.Host, pid int) (cpu, switches float64) {
	before, began := h.UsageOf(pid), time.Now()
	time.Sleep(r.Rest)
	after := h.UsageOf(pid)
	minute := float64(time.Minute) / float64(time.Since(began))
	return ms(after.CPU-before.CPU) * minute, float64(after.Switches-before.Switches) * minute
}

// asked is how often QEMUs have answered to query-status.
func (f *fleet) asked() (times int) {
	for _, path := range f.monitorLogs() {
		text, err := os.ReadFile(path)
		f.must(err)
		times += bytes.Count(text, scale.Answer)
	}
	return times
}
