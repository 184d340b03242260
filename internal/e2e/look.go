package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"time"

	"github.com/qemu-reconciler/qemu-reconciler/runtime"
)

// Status is `status --json` as the contract has it, written down a second time
// so that a field that is renamed in the program is noticed.
type Status struct {
	Format   int    `json:"format"`
	Host     string `json:"host"`
	VMsDir   string `json:"vms_dir"`
	StateDir string `json:"state_dir"`
	Daemon   struct {
		Running bool   `json:"running"`
		PID     int    `json:"pid"`
		Version string `json:"version"`
	} `json:"daemon"`
	Converged    bool         `json:"converged"`
	Drained      bool         `json:"drained"`
	Tasks        []TaskStatus `json:"tasks"`
	Files        []FileStatus `json:"files"`
	HeldRemovals []string     `json:"held_removals"`
	Unsettled    []string     `json:"unsettled"`
	DirError     string       `json:"dir_error"`
}

// TaskStatus is one task of Status.
type TaskStatus struct {
	Name        string     `json:"name"`
	File        string     `json:"file"`
	Desired     string     `json:"desired"`
	Phase       string     `json:"phase"`
	Reason      string     `json:"reason"`
	Converged   bool       `json:"converged"`
	PID         int        `json:"pid"`
	UUID        string     `json:"uuid"`
	StartedAt   *time.Time `json:"started_at"`
	Restarts    int        `json:"restarts"`
	Reboots     int        `json:"reboots"`
	ImageFormat string     `json:"image_format"`
	Ports       []struct {
		Label     string   `json:"label"`
		HostIP    string   `json:"host_ip"`
		Host      int      `json:"host"`
		Guest     int      `json:"guest"`
		Protocols []string `json:"protocols"`
	} `json:"ports"`
	Pending []struct {
		Field    string `json:"field"`
		From, To any
		Price    string `json:"price"`
		Reason   string `json:"reason"`
	} `json:"pending"`
	LastExit *Exit             `json:"last_exit"`
	Meta     map[string]string `json:"meta"`
}

// Exit is a task's last_exit.
type Exit struct {
	At      time.Time `json:"at"`
	Cause   string    `json:"cause"`
	Code    *int      `json:"code"`
	Signal  string    `json:"signal"`
	Rung    string    `json:"rung"`
	Seconds float64   `json:"seconds"`
}

// FileStatus is one file of Status.
type FileStatus struct {
	Path   string `json:"path"`
	Errors []struct {
		Line    int    `json:"line"`
		Column  int    `json:"column"`
		Summary string `json:"summary"`
		Detail  string `json:"detail"`
	} `json:"errors"`
}

// Event is one line of events.jsonl; Line is all of it. At is when a process was
// started or ended.
type Event struct {
	Time    time.Time `json:"time"`
	At      time.Time `json:"at"`
	Type    string    `json:"type"`
	Task    string    `json:"task"`
	Message string    `json:"message"`
	Line    string    `json:"-"`
}

// Says tells whether the event has this fact.
func (e Event) Says(fact, value string) bool {
	var facts map[string]any
	return json.Unmarshal([]byte(e.Line), &facts) == nil && fmt.Sprint(facts[fact]) == value
}

// pollInterval is how often Await looks. A look costs the daemon one answer
// from memory.
const pollInterval = 15 * time.Millisecond

// Await looks until it is so. The test fails at the deadline, and says what it
// was waiting for.
func (h *Host) Await(what string, so func() bool) {
	h.t.Helper()
	h.AwaitEvery(pollInterval, what, so)
}

// AwaitEvery is Await for those who need to look more often.
func (h *Host) AwaitEvery(interval time.Duration, what string, so func() bool) {
	h.t.Helper()
	deadline := time.After(Patience)
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for !so() {
		select {
		case <-tick.C:
		case <-deadline:
			h.t.Fatalf("no %s in %s", what, Patience)
		}
	}
}

// AwaitStatus looks at the daemon's status until it is so, and gives it. It
// goes on looking while no daemon answers.
func (h *Host) AwaitStatus(what string, so func(Status) bool) Status {
	h.t.Helper()
	var last Status
	h.Await(what, func() bool {
		st, err := h.fetchStatus()
		if err == nil {
			last = st
		}
		return err == nil && so(st)
	})
	return last
}

// AwaitTask looks at one task until it is so, and gives it.
func (h *Host) AwaitTask(name, what string, so func(TaskStatus) bool) TaskStatus {
	h.t.Helper()
	st := h.AwaitStatus(name+": "+what, func(st Status) bool {
		task, there := st.Task(name)
		return there && so(task)
	})
	task, _ := st.Task(name)
	return task
}

// AwaitPhase waits until a task is in that phase, and gives it.
func (h *Host) AwaitPhase(name, phase string) TaskStatus {
	h.t.Helper()
	return h.AwaitTask(name, phase, func(task TaskStatus) bool { return task.Phase == phase })
}

// AwaitRunning waits until a task runs and its guest has said READY.
func (h *Host) AwaitRunning(name string) TaskStatus {
	h.t.Helper()
	h.AwaitConsole(name, "READY")
	return h.AwaitPhase(name, "running")
}

// AwaitGone waits until a task is in the status no more.
func (h *Host) AwaitGone(name string) {
	h.t.Helper()
	h.AwaitStatus("end of "+name, func(st Status) bool {
		_, there := st.Task(name)
		return !there
	})
}

// AwaitConverged waits until everything is as wanted by the files as they are
// now. What the daemon knows by itself is asked first, so that a change of which
// nothing told it is missed here as well.
func (h *Host) AwaitConverged() Status {
	h.t.Helper()
	return h.AwaitStatus("convergence", func(st Status) bool {
		if !st.Converged {
			return false
		}
		looked, err := h.StatusAfterLook()
		return err == nil && looked.Converged
	})
}

// AwaitConsole waits for a text on a task's console.
func (h *Host) AwaitConsole(task, text string) {
	h.t.Helper()
	h.Await(fmt.Sprintf("%q on the console of %s", text, task), func() bool { return strings.Contains(h.Console(task), text) })
}

// AwaitSecured waits until the durable copies have all that the records have, but
// for what is under way.
func (h *Host) AwaitSecured() {
	h.t.Helper()
	h.Await("durable copies of all records", func() bool {
		paths, err := filepath.Glob(filepath.Join(h.State, "tasks", "*.json"))
		h.must(err)
		for _, path := range paths {
			record, copied := lastingPart(path), lastingPart(path+".durable")
			if record == nil || !reflect.DeepEqual(record, copied) {
				return false
			}
		}
		return true
	})
}

// lastingPart is what must survive a power cut of a record's file; nil when that
// cannot be read, e.g. since it was removed just now.
func lastingPart(path string) map[string]any {
	var record map[string]any
	raw, err := os.ReadFile(path)
	if err != nil || json.Unmarshal(raw, &record) != nil {
		return nil
	}
	delete(record, "process")
	delete(record, "intent")
	delete(record, "seal") // each write has its own
	return record
}

// AwaitEvent waits for an event of that type and task, and gives the latest.
func (h *Host) AwaitEvent(kind, task string) Event {
	h.t.Helper()
	var found Event
	h.Await("event "+kind+" of "+task, func() bool {
		for _, e := range h.Events() {
			if e.Type == kind && e.Task == task {
				found = e
			}
		}
		return found.Type != ""
	})
	return found
}

// Events gives all events so far, oldest first. A line that is being written
// is not among them yet.
func (h *Host) Events() []Event {
	h.t.Helper()
	var events []Event
	text := h.read("events.jsonl.1") + h.read("events.jsonl")
	for line := range strings.Lines(text) {
		if !strings.HasSuffix(line, "\n") {
			break
		}
		e := Event{Line: strings.TrimSpace(line)}
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			h.t.Fatalf("events.jsonl: %v in %s", err, line)
		}
		events = append(events, e)
	}
	return events
}

// Status asks the daemon for its status.
func (h *Host) Status() Status {
	h.t.Helper()
	st, err := h.fetchStatus()
	h.must(err)
	return st
}

// StatusByCommand is what `status --json` prints, with or without a daemon.
func (h *Host) StatusByCommand() Status {
	h.t.Helper()
	result := h.Do("status", "--json")
	var st Status
	if err := json.Unmarshal([]byte(result.Stdout), &st); err != nil {
		h.t.Fatalf("status --json: %v in %s%s", err, result.Stdout, result.Stderr)
	}
	return st
}

// Task finds a task by name.
func (st Status) Task(name string) (TaskStatus, bool) {
	for _, task := range st.Tasks {
		if task.Name == name {
			return task, true
		}
	}
	return TaskStatus{}, false
}

// fetchStatus asks over the control socket: cheaper than a command.
func (h *Host) fetchStatus() (Status, error) { return h.askStatus("") }

// askStatus asks with a query; "?look=true" has the daemon look at its directory
// first, as the commands do.
func (h *Host) askStatus(query string) (Status, error) {
	client := http.Client{Timeout: Patience, Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return runtime.DialUnix(ctx, filepath.Join(h.Run, "control.sock"))
		}}}
	response, err := client.Get("http://daemon/v1/status" + query)
	if err != nil {
		return Status{}, err
	}
	defer response.Body.Close()
	var st Status
	err = json.NewDecoder(response.Body).Decode(&st)
	if err == nil && response.StatusCode != http.StatusOK {
		err = errors.New(response.Status)
	}
	return st, err
}
