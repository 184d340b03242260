package runtime

import (
	"slices"
	"sync"
	"testing"

	"github.com/qemu-reconciler/qemu-reconciler/internal/guest"
	"github.com/qemu-reconciler/qemu-reconciler/spec"
)

// TestTune: it counts for new starts, and the limit of logs for all. A port that
// was given stays.
func TestTune(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	task := func(name string) *spec.Task {
		task := l.task(name, guest.Deaf)
		task.Config.PortMap = map[string]int{"ssh": 22}
		task.Resources.Ports = []spec.Port{{Label: "ssh", HostIP: "127.0.0.1", Protocols: []string{"tcp"}}}
		return task
	}
	before := l.start(task("before")).Record
	l.Tune(Tuning{LogMaxSize: 4096, DynamicPorts: spec.PortRange{First: 41000, Last: 41999}})
	after := l.start(task("after")).Record
	sandboxed := func(r *Record) bool { return slices.Contains(r.Process.Argv, "-sandbox") }
	if !sandboxed(before) || sandboxed(after) {
		t.Errorf("sandbox: %v, then %v", sandboxed(before), sandboxed(after))
	}
	if port := after.Ports["ssh"]; port < 41000 || port > 41999 {
		t.Errorf("port %d", port)
	}
	for _, task := range []string{"before", "after"} {
		if got := l.find(task).currentLife().logs.limit(); got != 4096 {
			t.Errorf("%s: the log may have %d bytes", task, got)
		}
	}
	if argv, err := l.Preview(task("after"), after); err != nil || !slices.Equal(argv, after.Process.Argv) {
		t.Errorf("preview: %v, %v", argv, err)
	}
	l.stop("before", StopRequest{})
	if again := l.start(task("before")).Record; again.Ports["ssh"] != before.Ports["ssh"] || sandboxed(again) {
		t.Errorf("again: %s", asJSON(again))
	}
	l.Tune(Tuning{}) // the defaults
	if got := *l.tuning.Load(); got != (Tuning{LogMaxSize: 10 << 20, DynamicPorts: spec.PortRange{First: 20000, Last: 32000}}) {
		t.Errorf("defaults: %+v", got)
	}
}

// TestTuneAtAnyTime: for the race detector.
func TestTuneAtAnyTime(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	tasks := []*spec.Task{l.task("a", guest.Deaf), l.task("b", guest.Deaf)}
	var group sync.WaitGroup
	for _, task := range tasks {
		group.Go(func() {
			if err := l.Start(t.Context(), startOf(task)); err != nil {
				t.Error(err)
			}
		})
	}
	for i := range 100 {
		l.Tune(Tuning{LogMaxSize: int64(1000 + i), Sandbox: i%2 == 0})
		if _, err := l.Preview(tasks[0], nil); err != nil {
			t.Error(err)
		}
	}
	group.Wait()
}
