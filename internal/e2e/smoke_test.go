package e2e

import (
	"testing"

	"github.com/qemu-reconciler/qemu-reconciler/internal/guest"
)

func TestMain(m *testing.M) { Main(m) }

// The straight line: a file appears, a VM runs; the file goes, the guest is
// asked to power off and does.
func TestDropAndRemove(t *testing.T) {
	for name, opts := range map[string][]Option{"short paths": nil, "long paths": {Long()}, "not root": {AsNobody()}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := Start(t, opts...)
			h.Write("web.hcl", h.Task("web", guest.Button, "graceful_shutdown = true"))
			task := h.AwaitRunning("web")
			h.AwaitConverged()
			if running := h.QEMUs(); len(running) != 1 || running[0] != (QEMU{task.PID, "web"}) {
				t.Errorf("the status has pid %d, /proc has %v", task.PID, running)
			}
			h.Remove("web.hcl")
			h.AwaitGone("web")
			h.AwaitNoQEMU()
			h.AwaitConverged()
			if stopped := h.AwaitEvent("stopped", "web"); !stopped.Says("rung", "acpi") {
				t.Errorf("stopped by another rung: %s", stopped.Line)
			}
			h.AwaitConsole("web", guest.SaysButton)
		})
	}
}

// A daemon that is killed and comes back finds the same VM, and can still stop
// it gracefully.
func TestKilledDaemonAdoptsAndStops(t *testing.T) {
	t.Parallel()
	h := Start(t)
	h.Write("web.hcl", h.Task("web", guest.Button, "graceful_shutdown = true"))
	before := h.AwaitRunning("web")
	h.Kill()
	h.StartDaemon()
	after := h.AwaitRunning("web")
	if after.PID != before.PID || after.Restarts != 0 || !after.StartedAt.Equal(*before.StartedAt) {
		t.Errorf("before the kill %+v, after it %+v", before, after)
	}
	h.Remove("web.hcl")
	h.AwaitGone("web")
	h.AwaitNoQEMU()
	h.AwaitConsole("web", guest.SaysButton)
}
