package e2e

import (
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/qemu-reconciler/qemu-reconciler/internal/guest"
)

// The state directory is really full: no VM is stopped for it, what is begun
// without it finishes, what needs it is not begun and says why, also with a new
// daemon; and all is done once there is room.
func TestFullState(t *testing.T) {
	t.Parallel()
	h := Start(t, SmallState("512k"))
	quick := "restart {\n delay = \"100ms\"\n max_delay = \"1s\"\n }"
	edited := h.Task("edited", guest.Button, graceful)
	h.Write("edited.hcl", edited)
	h.Write("killed.hcl", with(h.Task("killed", guest.Button), quick))
	h.Write("removed.hcl", h.Task("removed", guest.Button, graceful))
	h.Write("asked.hcl", h.Task("asked", guest.Button, graceful))
	late := with(h.Task("late", guest.Button), quick)
	before := map[string]TaskStatus{}
	for _, name := range []string{"edited", "killed", "removed", "asked"} {
		before[name] = h.AwaitRunning(name)
	}
	h.AwaitConverged()
	h.Fill(h.State)
	h.Remove("removed.hcl")
	h.AwaitConsole("removed", guest.SaysButton)
	h.Await("end of its record", func() bool {
		left, err := filepath.Glob(filepath.Join(h.State, "tasks", "removed.json*"))
		h.must(err)
		return len(left) == 0
	})
	h.Fill(h.State) // a record less is room for others

	h.SignalQEMU("killed", syscall.SIGKILL)
	h.Write("edited.hcl", moreMemory(edited))
	h.Write("late.hcl", late)
	for _, name := range []string{"killed", "edited", "late"} {
		task := h.awaitFull(name)
		if task.Converged || !strings.Contains(task.Reason, filepath.Join(h.State, "tasks", name+".json")) || !strings.Contains(task.Reason, "make room") {
			t.Errorf("%+v", task)
		}
	}
	h.expect(1, "no space left on device", "restart", "asked")
	h.expect(1, "no space left on device", "stop", "asked")
	h.ExpectUntouched(before["edited"])
	h.ExpectUntouched(before["asked"])
	if st := h.StatusByCommand(); len(st.Tasks) != 4 || st.Converged {
		t.Errorf("status: %+v", st)
	}

	h.Kill()
	if task, _ := h.StatusByCommand().Task("asked"); task.PID != before["asked"].PID || task.Phase != "running" {
		t.Errorf("without a daemon: %+v", task)
	}
	h.StartDaemon()
	h.awaitFull("edited")
	h.awaitFull("killed")
	h.ExpectUntouched(before["edited"])
	h.ExpectUntouched(before["asked"])

	h.MakeRoom(h.State)
	for _, name := range []string{"edited", "killed"} {
		h.AwaitTask(name, "another process", func(task TaskStatus) bool {
			return task.Phase == "running" && task.PID != before[name].PID
		})
	}
	h.AwaitRunning("late")
	h.AwaitConverged()
	h.ExpectUntouched(before["asked"])
	h.AwaitEvent("stopped", "edited")
	known := h.Status()
	h.Terminate()
	for _, task := range h.StatusByCommand().Tasks {
		if now, _ := known.Task(task.Name); now.PID != task.PID || task.Phase != "running" {
			t.Errorf("on the disk %+v, known %+v", task, now)
		}
	}
}

func (h *Host) awaitFull(task string) TaskStatus {
	h.t.Helper()
	return h.AwaitTask(task, "complaint", func(task TaskStatus) bool {
		return strings.Contains(task.Reason, "no space left on device")
	})
}

// What a daemon on a full disk saw and could not write down is known to it, and
// written when there is room: the record and the events.
func TestExitOnAFullState(t *testing.T) {
	t.Parallel()
	h := Start(t, SmallState("512k"))
	for _, name := range []string{"off", "stopped"} {
		h.Write(name+".hcl", with(h.Task(name, guest.Slow, graceful), "restart {\n on = \"never\"\n }"))
		h.AwaitRunning(name)
	}
	h.AwaitConverged()
	h.Fill(h.State)
	for i := range 40 { // until even the last block of the event log is used up
		h.Write("stopped.hcl", strings.Repeat("task ", i%2+1))
		h.ProveBroken(i)
	}
	h.Write("stopped.hcl", with(h.Task("stopped", guest.Slow, graceful), `state = "stopped"`))
	h.SignalQEMU("off", syscall.SIGKILL)
	off := h.AwaitPhase("off", "stopped")
	stopped := h.AwaitPhase("stopped", "stopped")
	if off.LastExit.Cause != "killed" || stopped.LastExit.Rung != "acpi" {
		t.Errorf("%+v, %+v", off.LastExit, stopped.LastExit)
	}
	if h.Count("exited", "off") != 0 || h.Count("stopped", "stopped") != 0 {
		t.Error("the event log is not full")
	}
	h.MakeRoom(h.State)
	h.AwaitEvent("exited", "off")
	h.AwaitEvent("stopped", "stopped")
	h.AwaitConverged()
	h.Kill()
	for _, known := range []TaskStatus{off, stopped} {
		if task, _ := h.StatusByCommand().Task(known.Name); task.LastExit == nil || task.LastExit.Cause != known.LastExit.Cause {
			t.Errorf("on the disk: %+v", task)
		}
	}
}

// ProveBroken waits until the daemon has seen a broken file, with the i-th of two
// mistakes in turn.
func (h *Host) ProveBroken(i int) {
	h.t.Helper()
	h.AwaitStatus("mistake", func(st Status) bool {
		return len(st.Files) == 1 && len(st.Files[0].Errors) > 0 && (i%2 == 0) == (st.Files[0].Errors[0].Column < 7)
	})
}

// A guest talks until its console has filled the state directory: it runs on, is
// shown and is stopped as ever. With a limit that fits it never fills it.
func TestLogsFillTheState(t *testing.T) {
	t.Parallel()
	for _, limit := range []string{"10MiB", "64KiB"} {
		t.Run(limit, func(t *testing.T) {
			t.Parallel()
			h := Start(t, SmallState("512k"), Config(`log_max_size = "`+limit+`"`))
			h.Write("web.hcl", h.Task("web", guest.Chatty, graceful))
			before := h.AwaitRunning("web")
			if limit == "10MiB" {
				h.Await("a full disk", func() bool { return room(h, h.State) == 0 })
			} else {
				h.Await("a log that began anew", func() bool { return h.read("logs", "web", "console.log.1") != "" })
				if room(h, h.State) == 0 {
					t.Error("there is no room left")
				}
			}
			if st := h.StatusByCommand(); !st.Daemon.Running || len(st.Tasks) != 1 {
				t.Errorf("%+v", st)
			}
			h.ExpectUntouched(before)
			h.Remove("web.hcl")
			h.AwaitGone("web")
			h.AwaitNoQEMU()
		})
	}
}

// The state directory is full before the first daemon: it starts, says what is
// wrong, and goes on when there is room.
func TestFullStateAtTheFirstStart(t *testing.T) {
	t.Parallel()
	h := Start(t, SmallState("256k"), Stopped())
	h.Fill(h.State)
	h.Write("web.hcl", with(h.Task("web", guest.Button), "restart {\n max_delay = \"1s\"\n }"))
	h.StartDaemon()
	h.awaitFull("web")
	h.MakeRoom(h.State)
	h.AwaitRunning("web")
	h.AwaitConverged()
	h.AwaitEvent("daemon-started", "")
}
