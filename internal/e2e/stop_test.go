package e2e

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/qemu-reconciler/qemu-reconciler/internal/guest"
)

// The ladder, rung by rung: what the guest is, how it is asked, and which rung
// ends it after how many seconds.
func TestStopLadder(t *testing.T) {
	t.Parallel()
	zero := 0
	tests := []struct {
		name    string
		variant guest.Variant
		lines   []string
		timeout string
		freeze  bool
		want    Exit
		// seconds are the least and the most that the stop may take; the most
		// leaves room for a busy host.
		seconds [2]float64
		says    string
	}{
		{name: "asked", variant: guest.Button, lines: []string{graceful}, timeout: "60s",
			want: Exit{Cause: "stopped", Rung: "acpi", Code: &zero}, seconds: [2]float64{0, 15}, says: guest.SaysButton},
		{name: "slow", variant: guest.Slow, lines: []string{graceful}, timeout: "60s",
			want: Exit{Cause: "stopped", Rung: "acpi", Code: &zero}, seconds: [2]float64{2.5, 25}, says: guest.SaysButton},
		{name: "deaf", variant: guest.Deaf, lines: []string{graceful}, timeout: "1s",
			want: Exit{Cause: "stopped", Rung: "quit", Code: &zero}, seconds: [2]float64{1, 15}},
		{name: "slower than allowed", variant: guest.Slow, lines: []string{graceful}, timeout: "1s",
			want: Exit{Cause: "stopped", Rung: "quit", Code: &zero}, seconds: [2]float64{1, 15}, says: guest.SaysButton},
		{name: "not asked", variant: guest.Button, timeout: "60s",
			want: Exit{Cause: "stopped", Rung: "quit", Code: &zero}, seconds: [2]float64{0, 15}},
		{name: "frozen", variant: guest.Button, lines: []string{graceful}, timeout: "1s", freeze: true,
			want: Exit{Cause: "stopped", Rung: "sigkill", Signal: "SIGKILL"}, seconds: [2]float64{5, 20}},
		{name: "no agent behind the channel", variant: guest.Button, lines: []string{graceful, "guest_agent = true"}, timeout: "60s",
			want: Exit{Cause: "stopped", Rung: "acpi", Code: &zero}, seconds: [2]float64{0, 15}, says: guest.SaysButton},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			h := Start(t)
			h.Write("web.hcl", with(h.Task("web", test.variant, test.lines...), fmt.Sprintf("kill_timeout = %q", test.timeout)))
			h.AwaitRunning("web")
			if test.freeze {
				h.SignalQEMU("web", syscall.SIGSTOP)
			}
			if result := h.Do("stop", "web"); result.Code != 0 {
				t.Fatalf("stop: %+v", result)
			}
			if left := h.QEMUs(); len(left) != 0 {
				t.Errorf("stop has returned and there is %v", left)
			}
			task, _ := h.Status().Task("web")
			expectExit(t, task.LastExit, test.want)
			if took := task.LastExit.Seconds; took < test.seconds[0] || took > test.seconds[1] {
				t.Errorf("it took %.2f s", took)
			}
			if saw := strings.Contains(h.Console("web"), guest.SaysButton); saw != (test.says == guest.SaysButton) {
				t.Errorf("the console has %q", h.Console("web"))
			}
			if e := h.AwaitEvent("stopped", "web"); !e.Says("rung", test.want.Rung) {
				t.Errorf("the event is %s", e.Line)
			}
		})
	}
}

// A stop that comes 20 ms after the exec, long before any firmware has enabled
// the button, is graceful all the same.
func TestStopRightAfterTheStart(t *testing.T) {
	t.Parallel()
	h := Start(t)
	h.Write("web.hcl", h.Task("web", guest.Button, graceful))
	started := h.AwaitEvent("started", "web")
	<-time.After(time.Until(started.Time.Add(20 * time.Millisecond)))
	if code, body := h.Act("stop", "web", true); code != 200 {
		t.Fatalf("stop: %d %s", code, body)
	}
	h.AwaitConsole("web", guest.SaysButton)
	task := h.AwaitPhase("web", "stopped")
	zero := 0
	expectExit(t, task.LastExit, Exit{Cause: "stopped", Rung: "acpi", Code: &zero})
}

// While a guest shuts down its file comes back: the stop once begun finishes,
// then it is started again.
func TestStopOnceBegunFinishes(t *testing.T) {
	t.Parallel()
	h := Start(t)
	text := h.Task("web", guest.Slow, graceful)
	h.Write("web.hcl", text)
	before := h.AwaitRunning("web")
	h.Remove("web.hcl")
	h.AwaitEvent("stopping", "web") // before that, a file that is back calls it off
	stopping := h.AwaitPhase("web", "stopping")
	if stopping.PID != before.PID || stopping.Converged || !strings.Contains(stopping.Reason, "in no task file") {
		t.Errorf("%+v", stopping)
	}
	h.Write("web.hcl", text)
	h.AwaitTask("web", "another process", func(task TaskStatus) bool {
		return task.Phase == "running" && task.PID != before.PID
	})
	if stopped := h.AwaitEvent("stopped", "web"); !stopped.Says("rung", "acpi") || h.Count("stopped", "web") != 1 {
		t.Errorf("the stop was %s", stopped.Line)
	}
}

// A daemon is killed in the middle of a graceful stop; the next one goes on
// with it.
func TestStopIsResumed(t *testing.T) {
	t.Parallel()
	h := Start(t)
	h.Write("web.hcl", h.Task("web", guest.Slow, graceful))
	h.AwaitRunning("web")
	h.Remove("web.hcl")
	h.AwaitConsole("web", guest.SaysButton)
	h.Kill()
	h.OnlyQEMU("web")
	h.StartDaemon()
	h.AwaitGone("web")
	h.AwaitNoQEMU()
	if stopped := h.AwaitEvent("stopped", "web"); !stopped.Says("rung", "acpi") {
		t.Errorf("the stop was %s", stopped.Line)
	}
}
