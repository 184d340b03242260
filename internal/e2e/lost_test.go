package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/qemu-reconciler/qemu-reconciler/internal/guest"
)

// The state directory is removed, or moved away, under a running daemon: the VMs
// stay, the daemon says so and writes everything anew, its lock included, and the
// next daemon knows all of it.
func TestStateRemovedWhileRunning(t *testing.T) {
	t.Parallel()
	for name, remove := range map[string]func(h *Host){
		// Again while the daemon puts something into it.
		"removed": func(h *Host) { h.Await("removal", func() bool { return os.RemoveAll(h.State) == nil }) },
		"moved":   func(h *Host) { h.must(os.Rename(h.State, h.State+".away")) },
		"emptied": func(h *Host) {
			entries, err := os.ReadDir(h.State)
			h.must(err)
			for _, entry := range entries {
				h.must(os.RemoveAll(filepath.Join(h.State, entry.Name())))
			}
		},
		"records only": func(h *Host) { h.must(os.RemoveAll(filepath.Join(h.State, "tasks"))) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := Start(t)
			text := h.Task("web", guest.Button, graceful, "port_map = { http = 80 }")
			h.Write("web.hcl", text)
			h.Write("held.hcl", h.Task("held", guest.Button, "port_map = { http = 80 }"))
			before := h.AwaitRunning("web")
			held := h.AwaitRunning("held")
			h.expect(0, "", "stop", "held")
			h.AwaitConverged()
			remove(h)
			// Nobody else gets in, whatever the daemon has noticed of it by now.
			h.expect(1, fmt.Sprintf("pid %d", h.DaemonPID()), "run", "--once")
			h.AwaitEvent("state-removed", "")
			h.Await("all records", func() bool {
				return known(h, "web", "process") && known(h, "held", "held") && known(h, "web", "wanted")
			})
			h.ProveRemovals()
			if st := h.Status(); len(st.Tasks) != 2 || !st.Converged {
				t.Errorf("%+v", st)
			}
			h.Kill()
			h.StartDaemon()
			h.AwaitConverged()
			h.ExpectUntouched(before)
			after := h.AwaitTask("held", "hold", func(task TaskStatus) bool { return task.Reason == "held by operator" })
			if !cmp.Equal(after.Ports, held.Ports) || after.UUID != held.UUID {
				t.Errorf("before %+v, after %+v", held, after)
			}
			if web, _ := h.Status().Task("web"); !cmp.Equal(web.Ports, before.Ports) {
				t.Errorf("before %+v, after %+v", before, web)
			}
			h.Write("web.hcl", moreMemory(text))
			h.AwaitTask("web", "another process", func(task TaskStatus) bool { return task.Phase == "running" && task.PID != before.PID })
			if stopped := h.AwaitEvent("stopped", "web"); !stopped.Says("rung", "acpi") {
				t.Errorf("the stop was %s", stopped.Line)
			}
		})
	}
}

// known says whether the record on the disk has the field.
func known(h *Host, task, field string) bool {
	data, err := os.ReadFile(h.recordPath(task))
	var record map[string]any
	return err == nil && json.Unmarshal(data, &record) == nil && record[field] != nil
}

// A daemon with a run directory of its own takes the state directory that was
// removed under the first: then there is one that acts, and the other says that
// it does not any more.
func TestStateTakenByAnother(t *testing.T) {
	t.Parallel()
	h := Start(t)
	h.Write("web.hcl", h.Task("web", guest.Button))
	before := h.AwaitRunning("web")
	h.AwaitConverged()
	other := *h
	other.Run += ".other"
	// While the first stands still the second is sure to come first.
	h.Signal(syscall.SIGSTOP)
	h.Await("standstill", func() bool { return procStat(t, h.DaemonPID())[0] == "T" })
	h.must(os.RemoveAll(h.State))
	other.StartDaemon()
	h.Signal(syscall.SIGCONT)
	task := h.AwaitTask("web", "reason", func(task TaskStatus) bool { return strings.Contains(task.Reason, "another daemon has taken it") })
	if !strings.Contains(task.Reason, fmt.Sprintf("pid %d", other.DaemonPID())) || task.Converged {
		t.Errorf("%+v", task)
	}
	if code, body := h.Act("stop", "web", true); code == 200 {
		t.Errorf("the first obeys: %s", body)
	}
	if pid := h.OnlyQEMU("web"); pid != before.PID {
		t.Errorf("the QEMU was %d and is %d", before.PID, pid)
	}
	h.Terminate()
	other.AwaitTask("web", "adoption", func(task TaskStatus) bool { return task.PID == before.PID })
	other.Terminate()
	h.Run = other.Run // where the status is now
}

// The run directory goes while VMs run: the daemon answers again, and a VM whose
// QMP is lost with it is stopped by signals.
func TestRunDirectoryRemovedWhileRunning(t *testing.T) {
	t.Parallel()
	h := Start(t)
	h.Write("web.hcl", with(h.Task("web", guest.Button, graceful), `kill_timeout = "1s"`))
	h.Write("asked.hcl", h.Task("asked", guest.Button, graceful))
	before, asked := h.AwaitRunning("web"), h.AwaitRunning("asked")
	h.must(os.RemoveAll(h.Run))
	h.AwaitTask("web", "reason", func(task TaskStatus) bool { return strings.Contains(task.Reason, "removed with the run directory") })
	h.ExpectUntouched(asked)
	h.expect(0, "", "stop", "asked") // the session that is open goes on
	if stopped := h.AwaitEvent("stopped", "asked"); !stopped.Says("rung", "acpi") {
		t.Errorf("the stop was %s", stopped.Line)
	}
	h.Kill()
	h.StartDaemon()
	h.AwaitTask("web", "reason", func(task TaskStatus) bool { return strings.Contains(task.Reason, "QMP socket lost") })
	h.ExpectUntouched(before)
	h.Remove("web.hcl")
	h.AwaitGone("web")
	if stopped := h.AwaitEvent("stopped", "web"); !stopped.Says("rung", "sigterm") {
		t.Errorf("the stop was %s", stopped.Line)
	}
}

// Somebody rotates, truncates or removes the daemon's event log: what happens
// afterwards is in the file of that name, line by line.
func TestEventLogOfOthers(t *testing.T) {
	t.Parallel()
	h := Start(t)
	path := filepath.Join(h.State, "events.jsonl")
	for i, do := range []func(){
		func() { h.must(os.Rename(path, path+"-20260102")) },
		func() { h.must(os.Remove(path)) },
		func() { h.must(os.Truncate(path, 0)) },
		func() { h.must(os.WriteFile(path+".new", nil, 0o600)); h.must(os.Rename(path+".new", path)) },
		func() { h.must(os.WriteFile(path, []byte(`{"time":"2026-01-02T03:04:05Z","type":"ha`), 0o600)) },
	} {
		do()
		name := fmt.Sprintf("web%d", i)
		h.Write(name+".hcl", h.Task(name, guest.Button))
		h.AwaitRunning(name)
		h.Await("event of "+name, func() bool { return strings.Contains(h.read("events.jsonl"), `"type":"started","task":"`+name+`"`) })
		if i == 4 { // what was there stays, and spoils no line of ours
			lines := strings.Split(h.read("events.jsonl"), "\n")
			if !strings.HasSuffix(lines[0], `"ha`) || !json.Valid([]byte(lines[1])) {
				t.Errorf("lines: %q", lines)
			}
			h.must(os.Remove(path))
		}
	}
}

// The QMP socket is gone and the record as well: the VM is known by what runs, and
// that nobody will ever hear it does not call it starting for the rest of its life.
// The view without a daemon says the same.
func TestSocketAndRecordLost(t *testing.T) {
	t.Parallel()
	h := Start(t)
	h.Write("web.hcl", h.Task("web", guest.Deaf))
	before := h.AwaitRunning("web")
	h.AwaitConverged()
	h.AwaitSecured()
	h.Kill()
	h.must(os.Remove(filepath.Join(h.Run, "vms", "web", "qmp.sock")))
	h.must(os.Remove(h.recordPath("web")))
	h.must(os.Remove(h.recordPath("web") + ".durable"))
	h.StartDaemon()
	lost := func(task TaskStatus) bool {
		return task.Phase == "running" && strings.Contains(task.Reason, "QMP socket lost")
	}
	h.AwaitTask("web", "running without QMP", lost)
	h.AwaitConverged()
	h.ExpectUntouched(before)
	h.Kill()
	if task, _ := h.StatusByCommand().Task("web"); task.Phase != "running" || task.PID != before.PID {
		t.Errorf("without a daemon: %+v", task)
	}
	h.StartDaemon()
	h.AwaitTask("web", "running without QMP", lost)
	h.expect(0, "", "restart", "web")
	if after := h.AwaitRunning("web"); after.PID == before.PID || after.UUID != before.UUID {
		t.Errorf("before %+v, after %+v", before, after)
	}
}

// The words of a QEMU are not taken for those of the next one in the same log: neither
// after the loss of its record, when nobody knows where its own begin, nor when the
// daemon died before it could record the process that it had started.
func TestWordsOfTheProcessBefore(t *testing.T) {
	t.Parallel()
	for name, replace := range map[string]func(h *Host, before TaskStatus){
		"record lost": func(h *Host, before TaskStatus) {
			h.SignalQEMU("web", syscall.SIGTERM)
			h.AwaitTask("web", "another process", func(task TaskStatus) bool { return task.Phase == "running" && task.PID != before.PID })
			h.AwaitConverged()
			h.AwaitSecured()
			h.Kill()
			h.must(os.Remove(h.recordPath("web")))
			h.must(os.Remove(h.recordPath("web") + ".durable"))
			h.StartDaemon()
		},
		"start cut": func(h *Host, _ TaskStatus) {
			h.orderDeath("start.forked", 1)
			h.SignalQEMU("web", syscall.SIGTERM)
			h.awaitDeath("start.forked", "restart")
			h.must(os.Remove(h.orders))
			h.StartDaemon()
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := Start(t, CrashPoints())
			h.Write("web.hcl", with(h.Task("web", guest.Deaf), `restart { delay = "1h" }`))
			first := h.AwaitRunning("web")
			replace(h, first)
			second := h.AwaitRunning("web")
			if exited := h.AwaitEvent("exited", "web"); !strings.Contains(exited.Line, "terminating on signal 15") || second.PID == first.PID {
				t.Fatalf("pid %d, then %d; QEMU has said nothing: %s", first.PID, second.PID, exited.Line)
			}
			h.SignalQEMU("web", syscall.SIGKILL)
			h.Await("end of the second process", func() bool {
				exited := h.AwaitEvent("exited", "web")
				return exited.Says("pid", fmt.Sprint(second.PID))
			})
			if exited := h.AwaitEvent("exited", "web"); strings.Contains(exited.Line, "terminating") {
				t.Errorf("%s", exited.Line)
			}
		})
	}
}
