package reconcile

import (
	"strings"
	"testing"

	"github.com/qemu-reconciler/qemu-reconciler/runtime"
	"github.com/qemu-reconciler/qemu-reconciler/spec"
)

// A task that cannot be started for an error is listed; a VM of that name that was
// let go of runs all the same, and the status does not deny it.
func TestStatusOfATaskWithAnErrorAndAVM(t *testing.T) {
	t.Parallel()
	set := &spec.Set{Dir: "/vms", Files: []spec.File{{Path: "two.hcl", Faulty: []string{"kept", "new"},
		Errors: []spec.Diagnostic{{Summary: "Duplicate", Task: "kept"}, {Summary: "Missing", Task: "new"}}}}}
	s := Offline{Set: set, Now: story, Observed: map[string]runtime.Observation{
		"kept": {Alive: true, Record: &runtime.Record{Task: "kept", Kept: true, Wanted: &spec.Task{Name: "kept"}, Process: &runtime.ProcessInfo{PID: 77}}},
	}}.Status()
	if len(s.Tasks) != 2 || s.Converged {
		t.Fatalf("%+v", s)
	}
	kept, fresh := s.Tasks[0], s.Tasks[1]
	if kept.PID != 77 || kept.Phase != PhaseRunning || kept.Converged || !strings.Contains(kept.Reason, "Duplicate") {
		t.Errorf("%+v", kept)
	}
	if fresh.PID != 0 || fresh.Phase != PhaseFailed || !strings.Contains(fresh.Reason, "Missing") || fresh.File != "two.hcl" {
		t.Errorf("%+v", fresh)
	}
}
