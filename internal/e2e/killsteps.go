package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/qemu-reconciler/qemu-reconciler/runtime"
)

// killStep is a step of a start or a stop, told by nothing but what a daemon
// that died in it has left behind.
type killStep string

// The steps in the order in which a task goes through them.
const (
	// stepNothing is a task file of which nothing is recorded yet.
	stepNothing killStep = "start: nothing written"
	// stepCopy lies within one write: its durable copy is there, it is not.
	stepCopy       killStep = "start: durable copy, no record"
	stepAnnounced  killStep = "start: announced, no process"
	stepUnrecorded killStep = "start: process runs, pid not recorded"
	stepUnanswered killStep = "start: recorded, QMP has not answered"
	stepRunning    killStep = "runs as wanted"
	// stepDue is a VM that is to be stopped, of which nothing is recorded yet.
	stepDue           killStep = "stop: due, not announced"
	stepStopAnnounced killStep = "stop: announced, on no rung"
	stepAgent         killStep = "stop: rung agent"
	stepACPI          killStep = "stop: rung acpi"
	stepQuit          killStep = "stop: rung quit"
	stepSIGTERM       killStep = "stop: rung sigterm"
	stepSIGKILL       killStep = "stop: rung sigkill"
	stepGone          killStep = "stop: process gone, end not recorded"
	stepEnded         killStep = "stop: end recorded"
	// stepHalf lies within the removal of a record: its copy is still there.
	stepHalf      killStep = "stop: record removed, copy left"
	stepForgotten killStep = "stop: forgotten"
)

// killSteps are all of them.
var killSteps = []killStep{stepNothing, stepCopy, stepAnnounced, stepUnrecorded, stepUnanswered, stepRunning, stepDue, stepStopAnnounced,
	stepAgent, stepACPI, stepQuit, stepSIGTERM, stepSIGKILL, stepGone, stepEnded, stepHalf, stepForgotten}

// long are the steps that last while a guest or a settle time takes them, not
// the daemon.
var long = []killStep{stepUnanswered, stepRunning, stepDue, stepACPI, stepSIGTERM, stepForgotten}

// rare are those that take seconds to get to, or only microseconds to pass: one
// kill is enough.
var rare = []killStep{stepAgent, stepSIGTERM, stepSIGKILL, stepCopy, stepHalf}

// remnant is what there is of a task: its record, the durable copy of that, and
// its processes.
type remnant struct {
	record *runtime.Record
	copy   bool
	pids   []int
}

// victim is a task of the kill test, and what is wanted of it.
type victim struct {
	name, text string
	memory     int
	present    bool // in a task file

	// What must not change: the process while the task is wanted as it is, the
	// ports while it is wanted, the uuid ever.
	pid, former int
	port        int
	uuid        string
}

// stepOf classifies what is left of a task.
func (v *victim) stepOf(left remnant) killStep {
	r := left.record
	switch {
	case r == nil && left.copy && v.present:
		return stepCopy
	case r == nil && left.copy:
		return stepHalf
	case r == nil && v.present:
		return stepNothing
	case r == nil:
		return stepForgotten
	case r.Intent != nil && r.Intent.Kind == runtime.IntentStart && len(left.pids) == 0:
		return stepAnnounced
	case r.Intent != nil && r.Intent.Kind == runtime.IntentStart:
		return stepUnrecorded
	case r.Process == nil:
		return stepEnded
	case !slices.Contains(left.pids, r.Process.PID):
		return stepGone
	case r.Intent != nil && r.Intent.Rung == "":
		return stepStopAnnounced
	case r.Intent != nil:
		return killStep("stop: rung " + r.Intent.Rung)
	case !v.present || r.Applied == nil || r.Applied.Resources.MemoryMiB != v.memory:
		return stepDue
	case !r.Process.Answered:
		return stepUnanswered
	}
	return stepRunning
}

// concerned says whether a start or a stop of the task is under way or was just
// done.
func (v *victim) concerned(step killStep) bool {
	return v.name != "bystander" && !(step == stepForgotten && v.former == 0)
}

// settled says whether nothing more happens to the task.
func (v *victim) settled(step killStep) bool {
	return step == stepRunning || step == stepForgotten && !v.present
}

// giveUpAfter sets kill_timeout.
func (v *victim) giveUpAfter(timeout string) {
	v.text = strings.Replace(v.text, "{\n", fmt.Sprintf("{\n  kill_timeout = %q\n", timeout), 1)
}

// file is the victim's task file as it is wanted.
func (v *victim) file() string {
	return strings.Replace(v.text, "memory = 128", fmt.Sprintf("memory = %d", v.memory), 1)
}

// remnants looks at what is left of tasks. Records and /proc are read one after
// the other: it is exact only when nobody changes either.
func (h *Host) remnants(names ...string) map[string]remnant {
	h.t.Helper()
	out := make(map[string]remnant, len(names))
	for _, name := range names {
		path := filepath.Join(h.State, "tasks", name+".json")
		_, err := os.Stat(path + ".durable")
		out[name] = remnant{record: h.record(path), copy: err == nil}
	}
	for _, q := range h.QEMUs() {
		if left, asked := out[q.Task]; asked {
			left.pids = append(left.pids, q.PID)
			out[q.Task] = left
		}
	}
	return out
}

// record reads a record; nil when there is none.
func (h *Host) record(path string) *runtime.Record {
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	h.must(err)
	var record runtime.Record
	h.must(json.Unmarshal(raw, &record))
	return &record
}

// freeze halts the daemon where it is; thaw lets it go on. Between the two all
// that it does stands still, but not its QEMUs.
func (h *Host) freeze() {
	h.t.Helper()
	h.Signal(syscall.SIGSTOP)
	deadline := time.Now().Add(Patience)
	for {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", h.DaemonPID()))
		h.must(err)
		_, after, _ := strings.Cut(string(stat[bytes.LastIndexByte(stat, ')'):]), " ")
		switch {
		case strings.HasPrefix(after, "T"):
			return
		case strings.HasPrefix(after, "Z") || time.Now().After(deadline):
			h.t.Fatalf("the daemon does not halt, its state is %.1s\n%s", after, h.DaemonLog())
		}
	}
}

func (h *Host) thaw() {
	h.t.Helper()
	h.Signal(syscall.SIGCONT)
}

// awaitForks waits until no child that a dead daemon forked is still on its way
// to become a QEMU: until then it is the daemon's program, with its arguments.
func (h *Host) awaitForks() {
	h.t.Helper()
	h.Await("exec of the last forks", func() bool {
		dirs, err := filepath.Glob("/proc/[0-9]*")
		h.must(err)
		return !slices.ContainsFunc(dirs, func(dir string) bool {
			program, err := os.Readlink(filepath.Join(dir, "exe"))
			if err != nil || filepath.Base(program) != filepath.Base(Binary(h.t)) {
				return false
			}
			arguments, err := os.ReadFile(filepath.Join(dir, "cmdline"))
			return err == nil && bytes.Contains(arguments, []byte("\x00"+h.State+"\x00"))
		})
	})
}

// readyDaemons counts the daemons so far that got as far as their first pass.
func (h *Host) readyDaemons() int {
	return strings.Count(h.read("events.jsonl.1")+h.read("events.jsonl"), `"type":"daemon-started"`)
}

// halt stops a QEMU from doing anything, its own end included.
func (h *Host) halt(q QEMU) {
	h.t.Helper()
	if !h.alive(q) {
		h.t.Fatalf("no QEMU %+v to halt", q)
	}
	h.must(syscall.Kill(q.PID, syscall.SIGSTOP))
}

// checkDoubles fails the test when a task has two QEMUs.
func (h *Host) checkDoubles() {
	h.t.Helper()
	seen := map[string]int{}
	for _, q := range h.QEMUs() {
		if other := seen[q.Task]; other != 0 {
			h.t.Errorf("two QEMUs for %s: %d and %d", q.Task, other, q.PID)
		}
		seen[q.Task] = q.PID
	}
}

// checkCommandLine looks at what the process itself was given.
func (h *Host) checkCommandLine(v *victim) {
	h.t.Helper()
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", v.pid))
	h.must(err)
	line := strings.ReplaceAll(string(raw), "\x00", " ")
	for _, part := range []string{" -uuid " + v.uuid + " ", fmt.Sprintf(":%d-:80", v.port), fmt.Sprintf(" -m %dM ", v.memory)} {
		if !strings.Contains(line, part) {
			h.t.Errorf("QEMU %d of %s has no %q: %s", v.pid, v.name, part, line)
		}
	}
}
