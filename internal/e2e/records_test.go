package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/qemu-reconciler/qemu-reconciler/internal/guest"
)

// recordPath is the path of a task's record.
func (h *Host) recordPath(task string) string { return filepath.Join(h.State, "tasks", task+".json") }

// copyRecord puts a task's record under another name, as a copy with an editor
// does that changes the names in it too.
func (h *Host) copyRecord(from, to string) {
	h.t.Helper()
	data, err := os.ReadFile(h.recordPath(from))
	h.must(err)
	text := strings.ReplaceAll(string(data), fmt.Sprintf("%q", from), fmt.Sprintf("%q", to))
	h.must(os.WriteFile(h.recordPath(to), []byte(text), 0o600))
}

// Two records name one process: it is that of the task that it was started for.
// The other task is no reason to stop it, whether or not a file names that one.
func TestTwoRecordsOfOneProcess(t *testing.T) {
	t.Parallel()
	for _, wanted := range []bool{false, true} {
		t.Run(fmt.Sprintf("wanted %v", wanted), func(t *testing.T) {
			t.Parallel()
			h := Start(t)
			h.Write("web.hcl", h.Task("web", guest.Button))
			before := h.AwaitRunning("web")
			h.Terminate()
			h.copyRecord("web", "copy")
			if wanted {
				h.Write("copy.hcl", h.Task("copy", guest.Button))
			}
			if task, _ := h.StatusByCommand().Task("copy"); task.PID == before.PID {
				t.Errorf("without a daemon: %+v", task)
			}
			h.StartDaemon()
			if wanted {
				if task := h.AwaitRunning("copy"); task.PID == before.PID {
					t.Errorf("%+v", task)
				}
			} else {
				h.AwaitGone("copy")
			}
			h.ProveRemovals()
			h.ExpectUntouched(before)
			h.AwaitConverged()
		})
	}
}

// Two records have one allocated port: the VM that runs keeps it, the other task
// is told whose it is and is given no other.
func TestTwoRecordsOfOnePort(t *testing.T) {
	t.Parallel()
	h := Start(t)
	const port = "port_map = { http = 80 }"
	h.Write("web.hcl", h.Task("web", guest.Button, port))
	h.Write("other.hcl", h.Task("other", guest.Button, port))
	before, other := h.AwaitRunning("web"), h.AwaitRunning("other")
	h.Terminate()
	h.SignalQEMU("other", syscall.SIGKILL)
	h.Await("its end", func() bool { return len(h.QEMUs()) == 1 })
	h.EditRecord("other", func(record map[string]any) {
		record["ports"] = map[string]any{"http": before.Ports[0].Host}
	})
	h.StartDaemon()
	task := h.AwaitTask("other", "the other's name", func(task TaskStatus) bool {
		return strings.Contains(task.Reason, "web") && strings.Contains(task.Reason, fmt.Sprint(before.Ports[0].Host))
	})
	if task.Phase == "running" || task.PID != 0 || other.Ports[0].Host == before.Ports[0].Host {
		t.Errorf("%+v", task)
	}
	h.ExpectUntouched(before)
}

// Another task's record lies under this one's name: it is set aside, and the VM
// is known by what runs.
func TestForeignRecord(t *testing.T) {
	t.Parallel()
	h := Start(t)
	for _, name := range []string{"one", "two", "down"} {
		h.Write(name+".hcl", h.Task(name, guest.Button, "port_map = { http = 80 }"))
	}
	one, two := h.AwaitRunning("one"), h.AwaitRunning("two")
	down := h.AwaitRunning("down")
	h.Terminate()
	h.SignalQEMU("down", syscall.SIGKILL)
	h.Await("its end", func() bool { return len(h.QEMUs()) == 2 })
	foreign, err := os.ReadFile(h.recordPath("two"))
	h.must(err)
	h.must(os.WriteFile(h.recordPath("one"), foreign, 0o600))
	h.must(os.WriteFile(h.recordPath("down"), foreign, 0o600))
	h.StartDaemon()
	after := h.AwaitTask("down", "another process", func(task TaskStatus) bool { return task.Phase == "running" && task.PID != down.PID })
	if after.UUID != down.UUID || !cmp.Equal(after.Ports, down.Ports) {
		t.Errorf("before %+v, after %+v", down, after)
	}
	h.AwaitTask("one", "its ports", func(task TaskStatus) bool { return cmp.Equal(task.Ports, one.Ports) })
	h.ProveRemovals()
	h.ExpectUntouched(one)
	h.ExpectUntouched(two)
	for _, name := range []string{"one", "down"} {
		if e := h.AwaitEvent("record-corrupt", name); !strings.Contains(e.Message, `"two"`) {
			t.Errorf("%s: %s", name, e.Line)
		}
	}
}

// The state directory of another host, or of another boot: nothing is believed of
// its processes, be their pids somebody's here. A copy of this host's own, beside
// the daemon that runs: its VMs are that daemon's.
func TestCopiedStateDirectory(t *testing.T) {
	t.Parallel()
	h := Start(t)
	h.Write("web.hcl", h.Task("web", guest.Button, graceful, "port_map = { http = 80 }"))
	before := h.AwaitRunning("web")
	for _, boot := range []string{"", otherBoot} {
		copied := newHost(t, options{})
		h.must(os.RemoveAll(copied.State))
		if output, err := exec.Command("cp", "-a", h.State, copied.State).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, output)
		}
		if boot != "" {
			copied.EditRecord("web", func(record map[string]any) { record["process"].(map[string]any)["boot_id"] = boot })
		}
		copied.WritePlain("none.hcl", "# an empty directory would not be believed")
		copied.StartDaemon()
		copied.AwaitGone("web")
		copied.ProveRemovals()
		copied.Terminate()
		h.ProvePass()
		h.ExpectUntouched(before)
	}
}

// A state directory that was moved is the same one: its VMs are adopted.
func TestMovedStateDirectory(t *testing.T) {
	t.Parallel()
	h := Start(t)
	h.Write("web.hcl", h.Task("web", guest.Button))
	before := h.AwaitRunning("web")
	h.Terminate()
	old := h.State
	h.must(os.Rename(old, old+".moved"))
	h.State += ".moved"
	h.StartDaemon()
	h.AwaitConverged()
	if task, _ := h.Status().Task("web"); task.PID != before.PID {
		t.Errorf("before %+v, after %+v", before, task)
	}
	h.expect(0, "", "stop", "web") // the marks of the process name the old place
	h.State = old
	h.AwaitNoQEMU()
	h.State += ".moved"
}

// Records that cannot be believed or are gone, of VMs that do not run: each is
// told by name, what the durable copy has is kept, and the VM starts once.
func TestCorruptRecordsAtRest(t *testing.T) {
	t.Parallel()
	h := Start(t)
	faults := map[string]func(path string){
		"garbage":   func(path string) { h.must(os.WriteFile(path, []byte("\x00\xff nonsense"), 0o600)) },
		"truncated": func(path string) { h.must(os.Truncate(path, 40)) },
		"empty":     func(path string) { h.must(os.Truncate(path, 0)) },
		"ancient":   func(path string) { h.must(os.WriteFile(path, []byte(`{"version": 0, "task": "ancient"}`), 0o600)) },
		"nameless":  func(path string) { h.must(os.WriteFile(path, []byte(`{"version": 1}`), 0o600)) },
		"missing":   func(path string) { h.must(os.Remove(path)) },
	}
	before := map[string]TaskStatus{}
	for name := range faults {
		h.Write(name+".hcl", h.Task(name, guest.Button, "port_map = { http = 80 }"))
	}
	for name := range faults {
		before[name] = h.AwaitRunning(name)
		h.expect(0, "", "stop", name) // a hold is among what must survive
	}
	h.Kill()
	for name, do := range faults {
		do(h.recordPath(name))
	}
	if task, _ := h.StatusByCommand().Task("missing"); !strings.HasPrefix(task.Reason, "held by operator") {
		t.Errorf("without a daemon: %+v", task)
	}
	h.StartDaemon()
	for name := range faults {
		if name != "missing" {
			h.AwaitEvent("record-corrupt", name)
		}
		held := func(task TaskStatus) bool {
			return task.Phase == "stopped" && strings.HasPrefix(task.Reason, "held by operator")
		}
		if task := h.AwaitTask(name, "its hold", held); !cmp.Equal(task.Ports, before[name].Ports) {
			t.Errorf("%s: before %+v, after %+v", name, before[name], task)
		}
		h.expect(0, "", "start", name)
		if task := h.AwaitPhase(name, "running"); task.UUID != before[name].UUID || !cmp.Equal(task.Ports, before[name].Ports) {
			t.Errorf("%s: before %+v, after %+v", name, before[name], task)
		}
		h.OnlyQEMU(name)
	}
}

// Records that may not be read or written by this user: their VMs are left alone,
// and the others are served.
func TestUnreadableRecord(t *testing.T) {
	t.Parallel()
	h := Start(t, AsNobody())
	for _, name := range []string{"hidden", "readonly", "sound"} {
		h.Write(name+".hcl", h.Task(name, guest.Button))
	}
	hidden, readonly := h.AwaitRunning("hidden"), h.AwaitRunning("readonly")
	sound := h.AwaitRunning("sound")
	h.Terminate()
	h.must(os.Chmod(h.recordPath("hidden"), 0))
	h.must(os.Chmod(h.recordPath("readonly"), 0o400))
	h.StartDaemon()
	task := h.AwaitTask("hidden", "complaint", func(task TaskStatus) bool { return strings.Contains(task.Reason, "permission denied") })
	if task.PID != hidden.PID || task.Phase != "running" || task.Converged {
		t.Errorf("%+v", task)
	}
	h.Remove("hidden.hcl")
	h.ProveRemovals()
	for _, before := range []TaskStatus{hidden, readonly, sound} {
		if pid := h.OnlyQEMU(before.Name); pid != before.PID {
			t.Errorf("the QEMU of %s was %d and is %d", before.Name, before.PID, pid)
		}
	}
	// A record is replaced and never written in place.
	h.expect(0, "", "stop", "readonly")
	var record struct{ Held bool }
	data, err := os.ReadFile(h.recordPath("readonly"))
	h.must(err)
	if h.must(json.Unmarshal(data, &record)); !record.Held {
		t.Errorf("the record is %s", data)
	}
}

// Newer records of VMs that do not run are neither changed nor acted upon.
func TestNewerRecordAtRest(t *testing.T) {
	t.Parallel()
	h := Start(t)
	h.Write("web.hcl", h.Task("web", guest.Button))
	h.AwaitRunning("web")
	h.expect(0, "", "stop", "web")
	h.Terminate()
	h.EditRecord("web", func(record map[string]any) { record["version"] = 99 })
	raw := h.read("tasks", "web.json")
	h.StartDaemon()
	task := h.AwaitTask("web", "complaint", func(task TaskStatus) bool { return strings.Contains(task.Reason, "version 99") })
	if task.Phase != "failed" {
		t.Errorf("%+v", task)
	}
	h.Remove("web.hcl")
	h.ProveRemovals()
	if h.read("tasks", "web.json") != raw || len(h.QEMUs()) != 0 {
		t.Error("it was changed or acted upon")
	}
}

// Another boot finds the file of a task broken: the last good definition starts,
// with the same port, uuid and pinned format, although the guest wrote another
// format's header.
func TestHostRebootWithABrokenFile(t *testing.T) {
	t.Parallel()
	h := Start(t)
	h.Write("web.hcl", h.Task("web", guest.Button, "port_map = { http = 80 }"))
	before := h.AwaitRunning("web")
	h.Terminate()
	h.SignalQEMU("web", syscall.SIGKILL)
	h.AwaitNoQEMU()
	h.Write("web.hcl", "task \"web\" {")
	image, err := os.OpenFile(filepath.Join(h.Disks, "web.img"), os.O_WRONLY, 0)
	h.must(err)
	_, err = image.WriteAt([]byte("QFI\xfb\x00\x00\x00\x03"), 0)
	h.must(err)
	h.must(image.Close())
	h.EditRecord("web", func(record map[string]any) { record["process"].(map[string]any)["boot_id"] = otherBoot })
	h.must(os.RemoveAll(h.Run))
	h.StartDaemon()
	after := h.AwaitPhase("web", "running")
	if after.UUID != before.UUID || !cmp.Equal(after.Ports, before.Ports) || after.ImageFormat != "raw" ||
		!strings.Contains(after.Reason, "last good definition") || after.LastExit.Cause != "host-reboot" {
		t.Errorf("before %+v, after %+v", before, after)
	}
	if argv := h.expect(0, "", "argv", "web").Stdout; !strings.Contains(argv, fmt.Sprintf("hostfwd=tcp::%d-:80", before.Ports[0].Host)) {
		t.Errorf("argv: %s", argv)
	}
}
