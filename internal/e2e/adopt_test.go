package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/qemu-reconciler/qemu-reconciler/internal/guest"
)

// A daemon that is killed, ended, or replaced by another version finds the same
// VM with everything that was known of it.
func TestNextDaemonKnowsEverything(t *testing.T) {
	t.Parallel()
	h := Start(t)
	h.Write("web.hcl", h.Task("web", guest.Button, graceful, "port_map = { http = 80, ssh = 22 }"))
	first := h.AwaitRunning("web")
	h.SignalQEMU("web", syscall.SIGKILL)
	before := h.AwaitTask("web", "restart", func(task TaskStatus) bool { return task.Phase == "running" && task.PID != first.PID })
	if len(before.Ports) != 2 || before.Ports[0].Host == 0 || before.Ports[0].Host == before.Ports[1].Host {
		t.Fatalf("ports %+v", before.Ports)
	}
	for _, step := range []struct {
		name string
		do   func()
	}{
		{"killed", func() { h.Kill() }},
		{"ended", func() {
			if code := h.Terminate(); code != 0 {
				t.Errorf("SIGTERM: exit code %d", code)
			}
		}},
		{"upgraded", func() { h.Kill(); h.binary = LaterBinary(t) }},
		{"downgraded", func() { h.Terminate(); h.binary = Binary(t) }},
	} {
		step.do()
		offline := h.StatusByCommand()
		if task, _ := offline.Task("web"); offline.Daemon.Running || offline.Daemon.PID != 0 || !cmp.Equal(task, before) {
			t.Errorf("%s: without a daemon: %s", step.name, cmp.Diff(before, task))
		}
		adopted := h.Count("adopted", "web")
		h.StartDaemon()
		if h.Count("adopted", "web") != adopted+1 {
			t.Errorf("%s: no event tells of the adoption", step.name)
		}
		h.AwaitConverged()
		st := h.Status()
		if task, _ := st.Task("web"); !cmp.Equal(task, before) {
			t.Errorf("%s: %s", step.name, cmp.Diff(before, task))
		}
		if st.Daemon.PID != h.DaemonPID() || (st.Daemon.Version == laterVersion) != (step.name == "upgraded") {
			t.Errorf("%s: daemon %+v", step.name, st.Daemon)
		}
		h.ProveRemovals()
		h.ExpectUntouched(before)
	}
	h.Remove("web.hcl")
	h.AwaitGone("web")
	h.AwaitNoQEMU()
	h.AwaitConsole("web", guest.SaysButton)
}

// What ended while no daemon was there gets its cause, as far as there is
// evidence, and is restarted by policy.
func TestEndsThatNobodySaw(t *testing.T) {
	t.Parallel()
	h := Start(t)
	h.Write("off.hcl", with(h.Task("off", guest.Slow, graceful), "restart {\n on = \"never\"\n }"))
	h.Write("killed.hcl", h.Task("killed", guest.Button))
	h.Write("termed.hcl", h.Task("termed", guest.Button))
	h.AwaitRunning("off")
	killed, termed := h.AwaitRunning("killed"), h.AwaitRunning("termed")
	// The guest hears the button and needs three seconds; the daemon forgets
	// that it ever asked, so that the guest powers off by itself.
	if code, body := h.Act("stop", "off", false); code != 200 {
		t.Fatalf("stop: %d %s", code, body)
	}
	h.AwaitConsole("off", guest.SaysButton)
	h.Kill()
	h.EditRecord("off", func(record map[string]any) { delete(record, "intent"); delete(record, "held") })
	h.SignalQEMU("killed", syscall.SIGKILL)
	h.SignalQEMU("termed", syscall.SIGTERM)
	h.AwaitNoQEMU()
	for _, task := range h.StatusByCommand().Tasks {
		if task.PID != 0 || task.Phase == "running" {
			t.Errorf("without a daemon: %+v", task)
		}
	}
	h.StartDaemon()
	off := h.AwaitPhase("off", "stopped")
	expectExit(t, off.LastExit, Exit{Cause: "guest-shutdown"})
	for _, before := range []TaskStatus{killed, termed} {
		after := h.AwaitTask(before.Name, "restart", func(task TaskStatus) bool { return task.Phase == "running" && task.Restarts == 1 })
		if after.UUID != before.UUID || after.PID == before.PID {
			t.Errorf("before %+v, after %+v", before, after)
		}
		want := Exit{Cause: "unknown"}
		if before.Name == "termed" {
			want = Exit{Cause: "killed", Signal: "SIGTERM"}
		}
		expectExit(t, after.LastExit, want)
	}
}

// A process that nobody awaited ends under a daemon that only adopted it.
func TestEndOfAnAdoptedProcess(t *testing.T) {
	t.Parallel()
	h := Start(t)
	h.Write("web.hcl", h.Task("web", guest.Button))
	before := h.AwaitRunning("web")
	h.Kill()
	h.StartDaemon()
	h.ExpectUntouched(before)
	h.SignalQEMU("web", syscall.SIGKILL)
	after := h.AwaitTask("web", "restart", func(task TaskStatus) bool { return task.Phase == "running" && task.PID != before.PID })
	// Older kernels do not tell how a process ended that is no child.
	if cause := after.LastExit.Cause; cause != "killed" && cause != "unknown" {
		t.Errorf("the cause is %s", cause)
	}
	if after.LastExit.Code != nil {
		t.Errorf("the code is %d", *after.LastExit.Code)
	}
}

// A record that makes no sense, is empty, or is gone: the VM is found by what
// runs, and is the same.
func TestCorruptRecords(t *testing.T) {
	t.Parallel()
	h := Start(t)
	h.Write("web.hcl", h.Task("web", guest.Button, "port_map = { http = 80, ssh = 22 }", `args = ["-fw_cfg", "name=opt/p,string=${port.ssh}"]`))
	before := h.AwaitRunning("web")
	record := filepath.Join(h.State, "tasks", "web.json")
	for _, step := range []struct {
		name string
		do   func()
	}{
		{"garbage", func() { h.must(os.WriteFile(record, []byte("\x00\x01 nonsense"), 0o600)) }},
		{"empty", func() { h.must(os.Truncate(record, 0)) }},
		{"gone", func() { h.must(os.Remove(record)) }},
		{"gone without a copy", func() {
			h.must(os.Remove(record))
			h.must(os.Remove(record + ".durable"))
		}},
	} {
		h.AwaitSecured()
		h.Kill()
		step.do()
		h.StartDaemon()
		h.AwaitConverged()
		// What only the command line knows is on record after a pass.
		after := h.AwaitTask("web", "its ports, "+step.name, func(task TaskStatus) bool { return cmp.Equal(task.Ports, before.Ports) })
		if after.PID != before.PID || after.UUID != before.UUID || after.Restarts != 0 {
			t.Errorf("%s: before %+v, after %+v", step.name, before, after)
		}
		h.ProvePass()
		if pid := h.OnlyQEMU("web"); pid != before.PID {
			t.Fatalf("%s: the QEMU was %d and is %d", step.name, before.PID, pid)
		}
	}
	aside, err := filepath.Glob(record + ".corrupt-*")
	if err != nil || len(aside) != 2 || h.Count("record-corrupt", "web") != 2 {
		t.Errorf("set aside: %v (%v), %d events", aside, err, h.Count("record-corrupt", "web"))
	}
}

// A record of a newer version: its VM is left alone and told of, the others are
// served.
func TestNewerRecord(t *testing.T) {
	t.Parallel()
	h := Start(t)
	text := h.Task("web", guest.Button)
	h.Write("web.hcl", text)
	before := h.AwaitRunning("web")
	h.Terminate()
	h.EditRecord("web", func(record map[string]any) { record["version"] = 99 })
	raw := h.read("tasks", "web.json")
	h.StartDaemon()
	h.Write("web.hcl", moreMemory(text))
	h.ProvePass()
	task, _ := h.Status().Task("web")
	if task.PID != before.PID || !strings.Contains(task.Reason, "version 99") {
		t.Errorf("%+v", task)
	}
	h.Remove("web.hcl")
	h.ProveRemovals()
	if pid := h.OnlyQEMU("web"); pid != before.PID || h.read("tasks", "web.json") != raw {
		t.Errorf("the QEMU was %d and is %d, or its record was written", before.PID, pid)
	}
}
