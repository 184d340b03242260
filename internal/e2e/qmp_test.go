package e2e

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/qemu-reconciler/qemu-reconciler/internal/guest"
)

// QEMUs that misbehave on QMP in every way: each is shown with what is wrong, the
// status is there at once, the other tasks converge, a stop goes on to the next
// rung, and the daemon's memory stays bounded.
func TestQMPThatMisbehaves(t *testing.T) {
	t.Parallel()
	for mode, want := range map[string]struct{ reason, rung string }{
		speaksGarbage:  {"not a QMP message", "sigterm"},
		neverGreets:    {"QEMU does not answer", "sigterm"},
		closesMidReply: {"QMP socket lost", "sigterm"},
		neverEnds:      {"a message longer than", "sigterm"},
		neverAnswers:   {"QEMU does not answer", "sigterm"},
		mistakesID:     {"QEMU does not answer", "sigterm"},
		floods:         {"", "sigterm"}, // its answer to quit is sound, and it stays
	} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			h := Start(t, StandIn(t))
			h.Write("sound.hcl", h.Task("sound", guest.Button))
			sound := h.AwaitRunning("sound")
			resting := memory(t, h.DaemonPID())
			h.Write("bad.hcl", with(misbehaving(h.Task("bad", guest.Button, graceful), mode), `kill_timeout = "1s"`))
			bad := h.AwaitTask("bad", "trouble", func(task TaskStatus) bool {
				return task.PID != 0 && strings.Contains(task.Reason, want.reason) && (want.reason != "" || task.Phase == "running")
			})
			if want.reason != "" && (bad.Phase != "starting" || bad.Converged) {
				t.Errorf("%+v", bad)
			}
			h.Write("late.hcl", h.Task("late", guest.Button))
			h.AwaitRunning("late")
			if mode == floods { // time enough for what may grow to do so
				h.Await("work of the daemon", func() bool { return cpuTime(t, h.DaemonPID()) > 3*time.Second })
			}
			began := time.Now()
			if _, err := h.fetchStatus(); err != nil || time.Since(began) > 2*time.Second {
				t.Errorf("status: %v after %s", err, time.Since(began))
			}
			// With the race detector every byte counts several times.
			if most := memory(t, h.DaemonPID()); most > resting+256<<20 {
				t.Errorf("the daemon had %d MiB and came to %d", resting>>20, most>>20)
			}
			if n := len(h.Events()); n > 40 {
				t.Errorf("%d events", n)
			}
			h.Remove("bad.hcl")
			h.AwaitGone("bad")
			if stopped := h.AwaitEvent("stopped", "bad"); !stopped.Says("rung", want.rung) || !stopped.Says("pid", strconv.Itoa(bad.PID)) {
				t.Errorf("stopped by another rung: %s", stopped.Line)
			}
			h.ExpectUntouched(sound)
		})
	}
}

// misbehaving makes the emulator of a task a stand-in.
func misbehaving(task, mode string) string {
	return with(task, fmt.Sprintf("env = { %s = %q }", standInMode, mode))
}

// memory is the most that a process has had in memory so far, in bytes.
func memory(t *testing.T, pid int) int {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := bytes.Cut(data, []byte("VmHWM:"))
	kilobytes, err := strconv.Atoi(string(bytes.Fields(rest)[0]))
	if err != nil {
		t.Fatal(err)
	}
	return kilobytes << 10
}

// cpuTime is what a process has computed so far.
func cpuTime(t *testing.T, pid int) time.Duration {
	t.Helper()
	stat := procStat(t, pid)
	var ticks int
	for _, field := range stat[11:13] { // utime and stime, in hundredths of a second
		n, err := strconv.Atoi(field)
		if err != nil {
			t.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

// QEMU hangs from its first moment, while it runs and while it is being stopped:
// it is shown, it is one process, and it ends.
func TestQEMUHangsAtEveryStage(t *testing.T) {
	t.Parallel()
	h := Start(t)
	text := func(name string) string {
		return with(h.Task(name, guest.Slow, graceful), `kill_timeout = "3s"`)
	}
	h.Write("starting.hcl", text("starting"))
	h.AwaitEvent("started", "starting")
	starting := h.SignalQEMU("starting", syscall.SIGSTOP)
	for _, name := range []string{"running", "stopping"} {
		h.Write(name+".hcl", text(name))
		h.AwaitRunning(name)
	}
	h.SignalQEMU("running", syscall.SIGSTOP)
	h.Remove("stopping.hcl")
	h.AwaitConsole("stopping", guest.SaysButton)
	h.SignalQEMU("stopping", syscall.SIGSTOP)
	for _, name := range []string{"starting", "running"} {
		h.AwaitTask(name, "trouble", func(task TaskStatus) bool { return strings.Contains(task.Reason, "QEMU does not answer") })
	}
	h.AwaitGone("stopping")
	if stopped := h.AwaitEvent("stopped", "stopping"); !stopped.Says("rung", "sigkill") {
		t.Errorf("stopped by another rung: %s", stopped.Line)
	}
	if pid := h.OnlyQEMU("starting"); pid != starting {
		t.Errorf("the QEMU was %d and is %d", starting, pid)
	}
	h.SignalQEMU("starting", syscall.SIGCONT)
	h.AwaitRunning("starting")
	h.expect(0, "", "stop", "running")
	if stopped := h.AwaitEvent("stopped", "running"); !stopped.Says("rung", "sigkill") {
		t.Errorf("stopped by another rung: %s", stopped.Line)
	}
}
