package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/qemu-reconciler/qemu-reconciler/runtime"
)

// QEMU is a process that a daemon of this host has started.
type QEMU struct {
	PID  int
	Task string
}

// QEMUs lists them from /proc, by the mark that the daemon leaves in their
// environment; the daemon's own word is not taken for it. Zombies are dead and
// have no environment.
func (h *Host) QEMUs() []QEMU {
	h.t.Helper()
	dirs, err := filepath.Glob("/proc/[0-9]*")
	h.must(err)
	var found []QEMU
	for _, dir := range dirs {
		environ, err := os.ReadFile(filepath.Join(dir, "environ"))
		if err != nil { // gone, or somebody else's
			continue
		}
		variables := strings.Split(string(bytes.TrimRight(environ, "\x00")), "\x00")
		if !slices.Contains(variables, "QEMU_RECONCILER_STATE="+h.State) {
			continue
		}
		q := QEMU{}
		q.PID, err = strconv.Atoi(filepath.Base(dir))
		h.must(err)
		for _, variable := range variables {
			if name, is := strings.CutPrefix(variable, "QEMU_RECONCILER_TASK="); is {
				q.Task = name
			}
		}
		found = append(found, q)
	}
	return found
}

// AwaitNoQEMU waits until no QEMU of this host is left.
func (h *Host) AwaitNoQEMU() {
	h.t.Helper()
	h.Await("end of all QEMUs", func() bool { return len(h.QEMUs()) == 0 && !h.anyEnds() })
}

// anyEnds says whether a process that a record names is ending: it has lost its
// environment, and with it the mark, and lives still for whoever knows its pid.
func (h *Host) anyEnds() bool {
	h.t.Helper()
	paths, err := filepath.Glob(filepath.Join(h.State, "tasks", "*.json"))
	h.must(err)
	return slices.ContainsFunc(paths, func(path string) bool {
		var record runtime.Record
		data, err := os.ReadFile(path)
		if err != nil || json.Unmarshal(data, &record) != nil || record.Process == nil { // gone, or made garbage
			return false
		}
		p := record.Process
		environ, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", p.PID))
		if err != nil || len(environ) > 0 {
			return false
		}
		process, err := runtime.OpenProcess(p.PID, p.StartTicks, p.BootID)
		if err != nil {
			return false
		}
		process.Close()
		return true
	})
}

// end takes the host down: the daemon, then what it left, by pid. What is
// found that the daemon had no record of, or twice for one task, fails the
// test.
func (h *Host) end() {
	defer h.logs.Close()
	defer h.judgeLog()
	defer h.killAll() // also when something before it ends the test
	if h.daemonRuns() {
		h.Signal(syscall.SIGTERM)
		h.waitForDaemon()
	}
	if h.daemon != nil {
		h.judge(h.QEMUs())
	}
}

// killAll leaves nothing of the host running.
func (h *Host) killAll() {
	if h.daemonRuns() { // it does not end when it is told to
		h.Kill()
	}
	for _, q := range h.QEMUs() {
		// The mark was just seen, and pids are not handed out again so soon.
		syscall.Kill(q.PID, syscall.SIGKILL) //nolint:errcheck // it may just have ended
	}
	h.AwaitNoQEMU()
}

// judge compares what runs with what the records say.
func (h *Host) judge(left []QEMU) {
	if len(left) == 0 {
		return
	}
	known := make(map[int]string)
	for _, task := range h.StatusByCommand().Tasks {
		known[task.PID] = task.Name
	}
	seen := make(map[string]int)
	for _, q := range left {
		if other := seen[q.Task]; other != 0 {
			h.t.Errorf("two QEMUs for %s: %d and %d", q.Task, other, q.PID)
		}
		seen[q.Task] = q.PID
		if known[q.PID] != q.Task && h.alive(q) {
			h.t.Errorf("QEMU %d of %s was left behind: the status knows %v", q.PID, q.Task, known)
		}
	}
}

func (h *Host) alive(q QEMU) bool { return slices.Contains(h.QEMUs(), q) }

// judgeLog fails the test for a data race or a panic in any daemon, and shows
// the log of a test that has failed.
func (h *Host) judgeLog() {
	log := h.DaemonLog()
	for _, bad := range []string{"WARNING: DATA RACE", "panic:", "fatal error:"} {
		if strings.Contains(log, bad) {
			h.t.Errorf("the daemon's log has %q", bad)
		}
	}
	if !h.t.Failed() {
		return
	}
	story := "the daemon's log:\n" + log + "\nevents:\n"
	for _, e := range h.Events() {
		story += e.Line + "\n"
	}
	logs, _ := filepath.Glob(filepath.Join(h.State, "logs", "*", "*.log")) //nolint:errcheck // the pattern is sound
	for _, name := range logs {
		if text, err := os.ReadFile(name); err == nil {
			story += fmt.Sprintf("\n%s:\n%s", name, text)
		}
	}
	h.t.Log(story)
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
