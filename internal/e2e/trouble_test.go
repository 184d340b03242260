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

// The state cannot be written, as on a full disk: no VM is stopped for it, also
// not by an edit that needs a restart; what is wrong is told, and all is done
// once it can be.
func TestStateThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	h := Start(t, AsNobody())
	text := h.Task("edited", guest.Button, graceful)
	h.Write("edited.hcl", text)
	h.Write("killed.hcl", h.Task("killed", guest.Button))
	edited, killed := h.AwaitRunning("edited"), h.AwaitRunning("killed")
	tasks := filepath.Join(h.State, "tasks")
	h.must(os.Chmod(tasks, 0o500))
	t.Cleanup(func() { os.Chmod(tasks, 0o700) }) //nolint:errcheck // it may have been done
	h.SignalQEMU("killed", syscall.SIGKILL)
	h.Write("edited.hcl", moreMemory(text))
	for _, name := range []string{"killed", "edited"} {
		task := h.AwaitTask(name, "reason", func(task TaskStatus) bool { return strings.Contains(task.Reason, "permission denied") })
		if task.Converged {
			t.Errorf("%+v", task)
		}
	}
	h.ExpectUntouched(edited)
	h.must(os.Chmod(tasks, 0o700))
	for _, before := range []TaskStatus{edited, killed} {
		h.AwaitTask(before.Name, "another process", func(task TaskStatus) bool {
			return task.Phase == "running" && task.PID != before.PID
		})
	}
	h.AwaitConverged()
}

// A daemon that hangs: looking works, from the records; acting says why not.
func TestDaemonThatHangs(t *testing.T) {
	t.Parallel()
	h := Start(t)
	h.Write("web.hcl", h.Task("web", guest.Button))
	before := h.AwaitRunning("web")
	h.AwaitConverged()
	h.Signal(syscall.SIGSTOP)
	began := time.Now()
	st := h.StatusByCommand()
	if task, _ := st.Task("web"); task.PID != before.PID || task.Phase != "running" || !st.Daemon.Running || st.Daemon.PID != h.DaemonPID() {
		t.Errorf("%+v", st)
	}
	h.expect(1, "does not answer", "stop", "web")
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("it took %s", took)
	}
	h.Signal(syscall.SIGCONT)
	h.AwaitConverged()
	h.ExpectUntouched(before)
}

// What is no task file is never read, what is none of ours is no mistake, and
// neither keeps the others waiting.
func TestOddFiles(t *testing.T) {
	t.Parallel()
	h := Start(t)
	h.must(syscall.Mkfifo(filepath.Join(h.VMs, "fifo.hcl"), 0o600))
	h.must(os.Symlink("/dev/zero", filepath.Join(h.VMs, "device.hcl")))
	h.must(os.Mkdir(filepath.Join(h.VMs, "directory.hcl"), 0o755))
	h.WritePlain("large.hcl", strings.Repeat("# a megabyte and more\n", 50000))
	for _, name := range []string{".hidden.hcl", "#saved.hcl", "notes.txt", "web.hcl~", "web.hcl.bak"} {
		h.WritePlain(name, "no HCL {")
	}
	h.WritePlain("comments.hcl", "# nothing yet\n")
	h.must(os.WriteFile(filepath.Join(h.Disks, "real"), []byte(h.Task("web", guest.Button)), 0o644))
	h.must(os.Symlink(filepath.Join(h.Disks, "real"), filepath.Join(h.VMs, "link.hcl")))
	h.AwaitRunning("web")
	st := h.AwaitStatus("all mistakes", func(st Status) bool { return len(st.Files) == 4 })
	for i, want := range []string{"device.hcl", "directory.hcl", "fifo.hcl", "large.hcl"} {
		if st.Files[i].Path != want || len(st.Files[i].Errors) != 1 {
			t.Errorf("%+v is not %s", st.Files[i], want)
		}
	}
	h.expect(1, "fifo.hcl", "validate")
	h.expect(1, "4 errors", "plan")
}

// A guest writes the header of another format into its raw disk: it is not
// believed, because the format was pinned to that file. Another file under the
// same name is looked at anew.
func TestFormatIsPinned(t *testing.T) {
	t.Parallel()
	h := Start(t)
	h.Write("web.hcl", h.Task("web", guest.Button))
	h.AwaitRunning("web")
	h.expect(0, "", "stop", "web")
	image, header := filepath.Join(h.Disks, "web.img"), "QFI\xfb\x00\x00\x00\x03"
	file, err := os.OpenFile(image, os.O_WRONLY, 0)
	h.must(err)
	_, err = file.WriteAt([]byte(header), 0)
	h.must(err)
	h.must(file.Close())
	h.expect(0, "", "start", "web")
	if task := h.AwaitPhase("web", "running"); task.ImageFormat != "raw" {
		t.Errorf("the format is %s", task.ImageFormat)
	}
	h.must(os.WriteFile(image+".new", []byte(header+strings.Repeat("\x00", 65536)), 0o600))
	h.must(os.Rename(image+".new", image))
	h.Do("restart", "web", "--no-wait")
	h.Await("a start as qcow2", func() bool {
		return strings.Contains(h.Do("argv", "web").Stdout, "format=qcow2") || h.Count("start-failed", "web") > 0
	})
}

// What becomes of a task that rests for one reason or another when its file
// goes: nothing is left of it, and it comes back as new.
func TestRemovalOfWhatDoesNotRun(t *testing.T) {
	t.Parallel()
	h := Start(t)
	texts := map[string]string{
		"backoff": h.Task("backoff", guest.Button, `args = ["-device", "no-such-device"]`),
		"stopped": with(h.Task("stopped", guest.Button), `state = "stopped"`),
		"failed":  with(h.Task("failed", guest.PowerOff), "restart {\n on = \"always\"\n attempts = 1\n mode = \"fail\"\n }"),
	}
	for round := range 2 {
		for phase, text := range texts {
			h.Write(phase+".hcl", text)
			task := h.AwaitPhase(phase, phase)
			if phase == "failed" && task.Restarts != 1 {
				t.Errorf("round %d: %+v", round, task)
			}
		}
		for phase := range texts {
			h.Remove(phase + ".hcl")
		}
		for phase := range texts {
			h.AwaitGone(phase)
		}
		h.AwaitConverged()
		left, err := filepath.Glob(filepath.Join(h.State, "tasks", "*"))
		h.must(err)
		for _, name := range left {
			h.Await("end of "+name, func() bool { _, err := os.Stat(name); return os.IsNotExist(err) })
		}
	}
}

// A dozen tasks at once, each with ports; then all but one are gone at once.
func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	h := Start(t)
	all := ""
	for i := range 12 {
		all += h.Task(fmt.Sprintf("vm%02d", i), guest.Button, "port_map = { http = 80 }")
	}
	h.Write("all.hcl", all)
	h.AwaitStatus("all of them", func(st Status) bool { return st.Converged && len(st.Tasks) == 12 })
	ports := make(map[int]string)
	for _, task := range h.Status().Tasks {
		if other := ports[task.Ports[0].Host]; other != "" {
			t.Errorf("%s and %s have port %d", task.Name, other, task.Ports[0].Host)
		}
		ports[task.Ports[0].Host] = task.Name
	}
	before, _ := h.Status().Task("vm00")
	h.Write("all.hcl", h.Task("vm00", guest.Button, "port_map = { http = 80 }"))
	h.AwaitStatus("one of them", func(st Status) bool { return st.Converged && len(st.Tasks) == 1 })
	h.ExpectUntouched(before)
}

// A kept VM ends while nobody defines it; the task's return starts it.
func TestKeptVMEnds(t *testing.T) {
	t.Parallel()
	h := Start(t)
	text := with(h.Task("web", guest.Button), `on_remove = "keep"`)
	h.Write("web.hcl", text)
	before := h.AwaitRunning("web")
	h.Remove("web.hcl")
	h.AwaitGone("web")
	h.SignalQEMU("web", syscall.SIGKILL)
	h.AwaitEvent("exited", "web")
	h.ProvePass()
	h.AwaitNoQEMU()
	h.Write("web.hcl", text)
	if after := h.AwaitPhase("web", "running"); after.PID == before.PID || after.UUID != before.UUID {
		t.Errorf("before %+v, after %+v", before, after)
	}
}

// While the file is broken the commands work on the last good definition.
func TestCommandsOnTheLastGoodDefinition(t *testing.T) {
	t.Parallel()
	h := Start(t)
	h.Write("web.hcl", h.Task("web", guest.Button, graceful))
	before := h.AwaitRunning("web")
	h.Write("web.hcl", "task")
	h.AwaitStatus("the mistake", func(st Status) bool { return len(st.Files) == 1 })
	h.expect(0, "", "restart", "web")
	h.expect(0, "", "stop", "web")
	h.AwaitConsole("web", guest.SaysButton)
	h.expect(0, "", "start", "web")
	after := h.AwaitPhase("web", "running")
	if after.PID == before.PID || !strings.Contains(after.Reason, "last good definition") {
		t.Errorf("%+v", after)
	}
	h.expect(0, "-name web", "argv", "web")
}
