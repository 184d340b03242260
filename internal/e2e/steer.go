package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/qemu-reconciler/qemu-reconciler/internal/guest"
	"github.com/qemu-reconciler/qemu-reconciler/runtime"
)

// Act asks the daemon, without a command in between, for a verb of one task,
// and gives the answer's status code and body.
func (h *Host) Act(verb, task string, wait bool) (int, string) {
	h.t.Helper()
	return h.ActAll(verb, []string{task}, wait)
}

// ActAll is Act for several tasks in one request.
func (h *Host) ActAll(verb string, tasks []string, wait bool) (int, string) {
	h.t.Helper()
	client := http.Client{Timeout: Patience, Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return runtime.DialUnix(ctx, filepath.Join(h.Run, "control.sock"))
		}}}
	request, err := json.Marshal(map[string][]string{"names": tasks})
	h.must(err)
	response, err := client.Post(fmt.Sprintf("http://daemon/v1/tasks/%s?wait=%t", verb, wait), "application/json", bytes.NewReader(request))
	h.must(err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	h.must(err)
	return response.StatusCode, string(body)
}

// SignalQEMU sends a signal to the one QEMU of a task and gives its pid.
func (h *Host) SignalQEMU(task string, signal syscall.Signal) int {
	h.t.Helper()
	pid := h.OnlyQEMU(task)
	h.must(syscall.Kill(pid, signal))
	return pid
}

// OnlyQEMU gives the pid of the one QEMU of a task; any other number of them
// fails the test.
func (h *Host) OnlyQEMU(task string) int {
	h.t.Helper()
	var pids []int
	for _, q := range h.QEMUs() {
		if q.Task == task {
			pids = append(pids, q.PID)
		}
	}
	if len(pids) != 1 {
		h.t.Fatalf("QEMUs of %s: %v, one was expected", task, pids)
	}
	return pids[0]
}

// Count counts the events of a type and task so far.
func (h *Host) Count(kind, task string) int {
	h.t.Helper()
	n := 0
	for _, e := range h.Events() {
		if e.Type == kind && e.Task == task {
			n++
		}
	}
	return n
}

// ProvePass proves that the directory was read after the call, and that what
// came of it was done: a task that is wanted off comes into it and is seen.
func (h *Host) ProvePass() string {
	h.t.Helper()
	h.proofs++
	name := fmt.Sprintf("proof%d", h.proofs)
	h.Write(name+".hcl", strings.Replace(h.Task(name, guest.Button), "{", "{\n  state = \"stopped\"", 1))
	h.AwaitPhase(name, "stopped")
	return name
}

// ProveRemovals proves that whatever was to be removed when it was called is:
// a task comes and goes.
func (h *Host) ProveRemovals() {
	h.t.Helper()
	name := h.ProvePass()
	h.Remove(name + ".hcl")
	h.AwaitGone(name)
}

// ExpectUntouched fails the test unless the task's VM is still the one that it
// was, and no other was ever started or stopped in its place.
func (h *Host) ExpectUntouched(before TaskStatus) {
	h.t.Helper()
	now, there := h.Status().Task(before.Name)
	if !there || now.PID != before.PID || now.Restarts != before.Restarts || now.Phase != "running" {
		h.t.Errorf("%s was %+v and is %+v", before.Name, before, now)
	}
	if pid := h.OnlyQEMU(before.Name); pid != before.PID {
		h.t.Errorf("the QEMU of %s was %d and is %d", before.Name, before.PID, pid)
	}
	for _, e := range h.Events() {
		if e.Task == before.Name && e.Type == "stopping" && e.Time.After(*before.StartedAt) {
			h.t.Errorf("%s was stopped: %s", before.Name, e.Line)
		}
	}
}

// EditRecord changes the record of a task, as nothing but a forger would. No
// daemon may be running.
func (h *Host) EditRecord(task string, edit func(record map[string]any)) {
	h.t.Helper()
	path := filepath.Join(h.State, "tasks", task+".json")
	data, err := os.ReadFile(path)
	h.must(err)
	var record map[string]any
	h.must(json.Unmarshal(data, &record))
	edit(record)
	data, err = json.Marshal(record)
	h.must(err)
	h.must(os.WriteFile(path, data, 0o600))
}
