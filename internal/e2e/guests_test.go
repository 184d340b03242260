package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/qemu-reconciler/qemu-reconciler/internal/guest"
)

// QEMU is ended from outside: the cause is told, and it is restarted at once,
// then after a wait.
func TestCrashesAreToldAndRestarted(t *testing.T) {
	t.Parallel()
	zero := 0
	for signal, want := range map[syscall.Signal]Exit{
		syscall.SIGKILL: {Cause: "killed", Signal: "SIGKILL"},
		syscall.SIGSEGV: {Cause: "crashed", Signal: "SIGSEGV"},
		syscall.SIGTERM: {Cause: "killed", Signal: "SIGTERM", Code: &zero}, // QEMU obeys it in good order
	} {
		t.Run(want.Signal, func(t *testing.T) {
			t.Parallel()
			h := Start(t)
			h.Write("web.hcl", h.Task("web", guest.Button))
			before := h.AwaitRunning("web")
			killed := h.SignalQEMU("web", signal)
			after := h.AwaitTask("web", "another process", func(task TaskStatus) bool {
				return task.Phase == "running" && task.PID != before.PID
			})
			if killed != before.PID || after.Restarts != 1 || after.UUID != before.UUID || !after.Converged {
				t.Errorf("killed %d, before %+v, after %+v", killed, before, after)
			}
			expectExit(t, after.LastExit, want)
			if e := h.AwaitEvent("exited", "web"); !e.Says("cause", want.Cause) || !e.Says("pid", fmt.Sprint(killed)) {
				t.Errorf("the event is %s", e.Line)
			}
			if signal == syscall.SIGKILL {
				h.SignalQEMU("web", signal)
				h.AwaitEvent("backoff", "web")
				h.AwaitTask("web", "the second restart", func(task TaskStatus) bool { return task.Phase == "running" && task.Restarts == 2 })
			}
		})
	}
}

// expectExit compares what does not change from run to run.
func expectExit(t *testing.T, got *Exit, want Exit) {
	t.Helper()
	if got == nil {
		t.Fatal("there is no last exit")
	}
	code := func(e Exit) string {
		if e.Code == nil {
			return "null"
		}
		return fmt.Sprint(*e.Code)
	}
	if got.Cause != want.Cause || got.Signal != want.Signal || got.Rung != want.Rung || code(*got) != code(want) {
		t.Errorf("the exit is %s, signal %q, rung %q, code %s, and should be %s, %q, %q, %s",
			got.Cause, got.Signal, got.Rung, code(*got), want.Cause, want.Signal, want.Rung, code(want))
	}
	if age := time.Since(got.At); age < 0 || age > Patience {
		t.Errorf("it ended at %s", got.At)
	}
}

// A guest that powers itself off, under each policy.
func TestGuestPowersItselfOff(t *testing.T) {
	t.Parallel()
	h := Start(t)
	for _, on := range []string{"always", "failure", "never"} {
		h.Write(on+".hcl", with(h.Task(on, guest.PowerOff), fmt.Sprintf("restart {\n on = %q\n delay = \"30s\"\n }", on)))
	}
	zero := 0
	for _, on := range []string{"failure", "never"} {
		task := h.AwaitPhase(on, "stopped")
		expectExit(t, task.LastExit, Exit{Cause: "guest-shutdown", Code: &zero})
		if !task.Converged || task.Restarts != 0 || task.PID != 0 || !strings.Contains(task.Reason, on) {
			t.Errorf("%s: %+v", on, task)
		}
	}
	// The first restart is at once, the next waits for the delay.
	always := h.AwaitTask("always", "backoff", func(task TaskStatus) bool { return task.Phase == "backoff" && task.Restarts == 1 })
	expectExit(t, always.LastExit, Exit{Cause: "guest-shutdown", Code: &zero})
	if always.Converged || h.Count("started", "always") != 2 {
		t.Errorf("always: %+v", always)
	}
	if result := h.Do("start", "never", "--no-wait"); result.Code != 0 {
		t.Errorf("start: %+v", result)
	}
	h.Await("a second run of never", func() bool { return h.Count("exited", "never") == 2 })
	if task := h.AwaitPhase("never", "stopped"); task.Restarts != 0 {
		t.Errorf("a start by the operator counts as a restart: %+v", task)
	}
}

// Guests that reset the machine, again and again: the process stays, the
// reboots are counted, and nobody is flooded.
func TestResetsAreCounted(t *testing.T) {
	t.Parallel()
	for _, variant := range []guest.Variant{guest.Reset, guest.TripleFault} {
		t.Run(string(variant), func(t *testing.T) {
			t.Parallel()
			h := Start(t)
			h.Write("web.hcl", h.Task("web", variant))
			before := h.AwaitRunning("web")
			after := h.AwaitTask("web", "reboots", func(task TaskStatus) bool { return task.Reboots >= 20 })
			if after.PID != before.PID || after.Phase != "running" || !after.Converged || after.Restarts != 0 {
				t.Errorf("before %+v, after %+v", before, after)
			}
			h.AwaitEvent("rebooted", "web")
			if n := h.Count("rebooted", "web"); n > 2 || len(h.Events()) > 15 {
				t.Errorf("%d reboots made %d events of theirs among %d", after.Reboots, n, len(h.Events()))
			}
			// Those that nobody heard are counted, too.
			h.Kill()
			counted := h.StatusByCommand().Tasks[0].Reboots
			h.StartDaemon()
			h.AwaitTask("web", "more reboots", func(task TaskStatus) bool { return task.Reboots > counted+5 })
			h.ExpectUntouched(TaskStatus{Name: "web", PID: before.PID, StartedAt: before.StartedAt})
		})
	}
}

// A machine that QEMU will not make: QEMU's words are shown, and it is tried
// again at growing intervals, until the definition is mended.
func TestMachineThatCannotBe(t *testing.T) {
	t.Parallel()
	h := Start(t)
	text := h.Task("web", guest.Button, `args = ["-device", "no-such-device"]`)
	h.Write("web.hcl", text)
	task := h.AwaitTask("web", "backoff", func(task TaskStatus) bool { return task.Phase == "backoff" })
	one := 1
	expectExit(t, task.LastExit, Exit{Cause: "launch-failed", Code: &one})
	if !strings.Contains(task.Reason, "no-such-device") || task.Converged || task.PID != 0 {
		t.Errorf("QEMU's words are missing: %+v", task)
	}
	if !strings.Contains(h.QEMULog("web"), "no-such-device") {
		t.Errorf("qemu.log has %q", h.QEMULog("web"))
	}
	if result := h.Do("start", "web"); result.Code != 1 || !strings.Contains(result.Stderr, "no-such-device") {
		t.Errorf("start: %+v", result)
	}
	h.Write("web.hcl", strings.Replace(text, `"-device", "no-such-device"`, "", 1))
	h.AwaitRunning("web")
	h.AwaitConverged()
}

// mode = "fail" gives up, until the definition changes.
func TestGivesUp(t *testing.T) {
	t.Parallel()
	h := Start(t)
	policy := "restart {\n attempts = 2\n interval = \"10m\"\n delay = \"10ms\"\n mode = \"fail\"\n }"
	text := with(h.Task("web", guest.Button, `args = ["-device", "no-such-device"]`), policy)
	h.Write("web.hcl", text)
	task := h.AwaitPhase("web", "failed")
	if task.Restarts != 2 || !strings.Contains(task.Reason, "no-such-device") || task.Converged {
		t.Errorf("%+v", task)
	}
	h.AwaitEvent("gave-up", "web")
	failures := h.Count("start-failed", "web")
	h.Terminate()
	h.StartDaemon()
	h.AwaitPhase("web", "failed")
	h.ProvePass()
	if n := h.Count("start-failed", "web"); n != failures || failures != 3 {
		t.Errorf("it failed %d times, and %d after a daemon's restart", failures, n)
	}
	h.Write("web.hcl", strings.Replace(text, "no-such-device", "virtio-rng-pci", 1))
	h.AwaitRunning("web")
	h.AwaitConverged()
}

// Where KVM cannot be used or is broken, QEMU's words are shown; where it works
// the guest runs.
func TestKVM(t *testing.T) {
	t.Parallel()
	h := Start(t)
	h.Write("web.hcl", h.Task("web", guest.Button, `accelerator = "kvm"`))
	task := h.AwaitTask("web", "an outcome", func(task TaskStatus) bool {
		return task.Phase == "backoff" || task.Phase == "failed" || strings.Contains(h.Console("web"), guest.SaysReady)
	})
	if task.Phase == "running" || task.Phase == "starting" {
		return
	}
	said := strings.ToLower(task.Reason + h.QEMULog("web"))
	if !strings.Contains(said, "kvm") && !strings.Contains(said, "msr") && !strings.Contains(said, "accelerator") {
		t.Errorf("nothing says what is wrong: %+v %s", task, said)
	}
	if exit := task.LastExit; exit != nil && exit.Cause != "launch-failed" && exit.Cause != "crashed" {
		t.Errorf("the exit is %+v", exit)
	}
	if task.Phase == "backoff" && h.Count("running", "web") > h.Count("exited", "web") {
		t.Error("it was told to run")
	}
}

// Somebody pauses the guest through a monitor of their own.
func TestPausedGuest(t *testing.T) {
	t.Parallel()
	h := Start(t)
	socket := filepath.Join(h.Disks, "own")
	h.Write("web.hcl", h.Task("web", guest.Button, fmt.Sprintf(`args = ["-qmp", "unix:%s,server=on,wait=off"]`, socket)))
	before := h.AwaitRunning("web")
	say := openQMP(t, socket)
	say("stop")
	paused := h.AwaitTask("web", "pause", func(task TaskStatus) bool { return strings.HasPrefix(task.Reason, "paused: ") })
	if paused.Phase != "running" || paused.Converged || h.Status().Converged {
		t.Errorf("%+v", paused)
	}
	if result := h.Do("status", "--check"); result.Code != 3 {
		t.Errorf("status --check: %+v", result)
	}
	h.Kill() // the next daemon finds it paused
	h.StartDaemon()
	h.AwaitTask("web", "pause", func(task TaskStatus) bool { return strings.HasPrefix(task.Reason, "paused: ") })
	say("cont")
	h.AwaitConverged()
	h.ExpectUntouched(before)
}

// A QEMU that hangs, and one whose socket was deleted: the status says so and
// does not hang, and the VM runs.
func TestQEMUThatDoesNotAnswer(t *testing.T) {
	t.Parallel()
	h := Start(t)
	h.Write("hung.hcl", h.Task("hung", guest.Button))
	h.Write("lost.hcl", h.Task("lost", guest.Button))
	hung, lost := h.AwaitRunning("hung"), h.AwaitRunning("lost")
	h.Kill()
	h.SignalQEMU("hung", syscall.SIGSTOP)
	h.must(os.RemoveAll(filepath.Join(h.Run, "vms", "lost", "qmp.sock")))
	h.StartDaemon()
	h.AwaitTask("hung", "trouble", func(task TaskStatus) bool { return strings.Contains(task.Reason, "QEMU does not answer") })
	h.AwaitTask("lost", "trouble", func(task TaskStatus) bool { return strings.Contains(task.Reason, "QMP socket lost") })
	h.ExpectUntouched(hung)
	h.ExpectUntouched(lost)
	h.SignalQEMU("hung", syscall.SIGCONT)
	h.AwaitTask("hung", "an answer", func(task TaskStatus) bool { return task.Reason == "" && task.Converged })
	// Without a monitor the next rung is SIGTERM.
	h.Remove("lost.hcl")
	h.AwaitGone("lost")
	if stopped := h.AwaitEvent("stopped", "lost"); !stopped.Says("rung", "sigterm") {
		t.Errorf("stopped by another rung: %s", stopped.Line)
	}
}
