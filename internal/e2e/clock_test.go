package e2e

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/qemu-reconciler/qemu-reconciler/internal/guest"
)

// jumps are how far the clock may have been set between two lives of the daemon.
var jumps = map[string]time.Duration{"a year ahead": 365 * 24 * time.Hour, "a year back": -365 * 24 * time.Hour}

// shift moves the times in a record, as they look after the clock was set: written
// by a clock that was ahead, they lie in the future.
func shift(record map[string]any, by time.Duration) {
	for key, value := range record {
		record[key] = shifted(value, by)
	}
}

func shifted(value any, by time.Duration) any {
	switch value := value.(type) {
	case map[string]any:
		shift(value, by)
	case []any:
		for i := range value {
			value[i] = shifted(value[i], by)
		}
	case string:
		if at, err := time.Parse(time.RFC3339Nano, value); err == nil {
			return at.Add(by).UTC().Format(time.RFC3339Nano)
		}
	}
	return value
}

// The clock was set between two lives of the daemon: a VM that runs is the same,
// its uptime is not negative; one in backoff waits its delay and neither a year
// nor not at all; a limit of attempts is not used up by attempts to come.
func TestClockSetBetweenTwoLives(t *testing.T) {
	t.Parallel()
	for name, by := range jumps {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := Start(t)
			h.Write("web.hcl", h.Task("web", guest.Button, graceful))
			broken := h.Task("broken", guest.Button, `args = ["-device", "no-such-device"]`)
			h.Write("broken.hcl", with(broken, "restart {\n delay = \"1s\"\n max_delay = \"2s\"\n }"))
			limited := strings.ReplaceAll(broken, "broken", "limited")
			h.Image("limited.img", guest.Button)
			h.Write("limited.hcl", with(limited, "restart {\n delay = \"100ms\"\n max_delay = \"1s\"\n attempts = 3\n interval = \"5s\"\n }"))
			before := h.AwaitRunning("web")
			for _, task := range []string{"broken", "limited"} {
				h.Await("some attempts", func() bool { return h.Count("start-failed", task) >= 3 })
			}
			h.Kill()
			for _, task := range []string{"web", "broken", "limited"} {
				h.EditRecord(task, func(record map[string]any) { shift(record, by) })
			}
			h.StartDaemon()
			for _, task := range []string{"broken", "limited"} {
				failed := h.Count("start-failed", task)
				began := time.Now()
				h.Await("more attempts of "+task, func() bool { return h.Count("start-failed", task) >= failed+3 })
				if took := time.Since(began); took < time.Second {
					t.Errorf("%s: three attempts in %s", task, took)
				}
			}
			if h.AwaitPhase("web", "running"); strings.Contains(h.Do("status").Stdout, "-365") {
				t.Errorf("status:\n%s", h.Do("status").Stdout)
			}
			if pid := h.OnlyQEMU("web"); pid != before.PID {
				t.Errorf("the QEMU was %d and is %d", before.PID, pid)
			}
			h.expect(0, "", "stop", "web")
			task, _ := h.Status().Task("web")
			if task.LastExit.Rung != "acpi" || task.LastExit.Seconds < 0 || task.LastExit.Seconds > Patience.Seconds() {
				t.Errorf("%+v", task.LastExit)
			}
		})
	}
}

// The clock was set while a stop was under way and no daemon there: the guest has
// its kill_timeout, and no more.
func TestClockSetDuringAStop(t *testing.T) {
	t.Parallel()
	for name, by := range jumps {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := Start(t)
			h.Write("deaf.hcl", with(h.Task("deaf", guest.Deaf, graceful), `kill_timeout = "3s"`))
			h.Write("slow.hcl", with(h.Task("slow", guest.Slow, graceful), `kill_timeout = "50s"`))
			h.AwaitRunning("deaf")
			h.AwaitRunning("slow")
			h.Remove("deaf.hcl")
			h.Remove("slow.hcl")
			h.AwaitPhase("deaf", "stopping")
			h.AwaitConsole("slow", guest.SaysButton)
			h.Kill()
			for _, task := range []string{"deaf", "slow"} {
				h.EditRecord(task, func(record map[string]any) { shift(record, by) })
			}
			began := time.Now()
			h.StartDaemon()
			h.AwaitGone("deaf")
			h.AwaitGone("slow")
			if took := time.Since(began); took < 2500*time.Millisecond {
				t.Errorf("both were off after %s", took)
			}
			for task, rung := range map[string]string{"deaf": "quit", "slow": "acpi"} {
				stopped := h.AwaitEvent("stopped", task)
				if !stopped.Says("rung", rung) {
					t.Errorf("%s: %s", task, stopped.Line)
				}
			}
		})
	}
}

// A pid that was recycled by a live process of a stranger, under either clock: the
// start time in ticks since boot tells, which no clock changes.
func TestRecycledPIDUnderAnotherClock(t *testing.T) {
	t.Parallel()
	for name, by := range jumps {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := Start(t)
			h.Write("web.hcl", h.Task("web", guest.Button))
			before := h.AwaitRunning("web")
			h.Terminate()
			h.SignalQEMU("web", syscall.SIGKILL)
			h.AwaitNoQEMU()
			stranger := StartStranger(t)
			h.EditRecord("web", func(record map[string]any) {
				record["process"].(map[string]any)["pid"] = stranger.PID()
				shift(record, by)
			})
			h.StartDaemon()
			after := h.AwaitPhase("web", "running")
			if after.PID == before.PID || after.PID == stranger.PID() {
				t.Errorf("before %+v, after %+v", before, after)
			}
			h.Remove("web.hcl")
			h.AwaitGone("web")
			expectUnharmed(t, stranger)
			if e := h.AwaitEvent("exited", "web"); e.Says("pid", fmt.Sprint(after.PID)) {
				t.Errorf("the event is %s", e.Line)
			}
		})
	}
}
