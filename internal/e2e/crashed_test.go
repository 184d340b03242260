package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/qemu-reconciler/qemu-reconciler/internal/crash"
	"github.com/qemu-reconciler/qemu-reconciler/internal/guest"
	"github.com/qemu-reconciler/qemu-reconciler/runtime"
	"github.com/qemu-reconciler/qemu-reconciler/spec"
)

// crashLane is a host on which the daemon dies time and again, with a VM that
// no death may touch.
type crashLane struct {
	h         *Host
	tally     *crashTally
	bystander TaskStatus
	started   string // when its process was started, as the kernel has it
	ways      int
}

func newCrashLane(t *testing.T, tally *crashTally) *crashLane {
	l := &crashLane{h: Start(t, CrashPoints()), tally: tally}
	l.h.Write("bystander.hcl", l.h.Task("bystander", guest.Deaf, crashPort))
	l.bystander = l.h.AwaitRunning("bystander")
	l.h.AwaitConverged()
	l.started = l.h.startOf(l.bystander.PID)
	return l
}

// crashed is a task on its way through a crash point, and what must not change.
type crashed struct {
	*crashLane
	crossing
	name, text string
	memory     int
	stranger   net.Listener

	// pid is the process that must stay, former the one that must go; uuid and
	// port are those that it has. Zero is not known yet.
	pid, former, port int
	uuid              string
}

// cross leads a new task through a point, and the daemon back to where all is
// as wanted.
func (l *crashLane) cross(plan crossing) {
	l.h.t.Helper()
	l.ways++
	c := &crashed{crashLane: l, crossing: plan, name: fmt.Sprintf("task%d", l.ways), memory: 128}
	c.text = l.h.Task(c.name, plan.way.variant, plan.way.config...)
	if len(plan.way.task) > 0 {
		c.text = with(c.text, plan.way.task...)
	}
	if c.way.ready != nil {
		c.way.ready(c)
	}
	if strings.HasPrefix(c.point, "record.") && c.h.daemonRuns() {
		c.h.AwaitSecured() // what is brought to the disk later goes through these points, too
	}
	c.h.orderDeath(c.point, c.pass)
	if c.way.walk != nil {
		c.way.walk(c)
	}
	if !l.h.daemonRuns() {
		l.h.StartDaemonOnly()
	}
	c.die(c.point, l.tally.first)
	c.look()
	if c.way.died != nil {
		c.way.died(c)
	}
	if c.again {
		c.dieOn()
	}
	if c.way.mend != nil {
		c.way.mend(c)
	}
	c.h.must(remove(c.h.orders))
	c.h.StartDaemonOnly()
	c.verify()
	c.bury()
}

// orderDeath tells the daemon, this one or the next, where to die.
func (h *Host) orderDeath(point string, pass int) {
	h.t.Helper()
	temporary := h.orders + ".new"
	h.must(os.WriteFile(temporary, fmt.Appendf(nil, "%s#%d", point, pass), 0o600))
	h.must(os.Rename(temporary, h.orders))
}

// awaitDeath waits for the death that was ordered, and gives its point.
func (h *Host) awaitDeath(point, on string) string {
	h.t.Helper()
	h.Await(fmt.Sprintf("death at %s (%s)", point, on), func() bool { return !h.daemonRuns() })
	var exit *exec.ExitError
	if !errors.As(h.daemon.err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL { //nolint:forcetypeassert // Linux has no other
		h.t.Fatalf("the daemon was to die at %s and ended: %v\n%s", point, h.daemon.err, h.DaemonLog())
	}
	told, err := os.ReadFile(h.orders + crash.Died)
	h.must(err)
	h.must(os.Remove(h.orders + crash.Died))
	at := strings.TrimSpace(string(told))
	if point != "*" && at != point {
		h.t.Fatalf("the daemon was to die at %s and died at %s", point, at)
	}
	return at
}

// die waits for the death that was ordered, and counts it.
func (c *crashed) die(point string, deaths map[string]int) {
	c.h.t.Helper()
	c.tally.count(deaths, c.h.awaitDeath(point, c.crossing.String()))
}

// dieOn has the daemon die on its way back: at the same point, should it come
// there again, and then at one of the first that it comes to.
func (c *crashed) dieOn() {
	c.h.t.Helper()
	if c.way.repeat != nil {
		c.h.StartDaemonOnly()
		c.way.repeat(c)
		c.die(c.point, c.tally.later)
		c.look()
	} else {
		c.dieOrRest(c.point)
	}
	c.h.orderDeath("*", 1+7*c.ways%24)
	c.dieOrRest("*")
}

// dieOrRest starts a daemon that has its order still, and kills it when it has
// recovered without coming to that point.
func (c *crashed) dieOrRest(point string) {
	c.h.t.Helper()
	c.h.StartDaemonOnly()
	c.h.Await(fmt.Sprintf("death at %s, or rest (%s)", point, c.crossing), func() bool { return !c.h.daemonRuns() || c.settled() })
	if c.h.daemonRuns() {
		c.h.Kill() // it may come to the point in this very moment
	}
	// Empty where this kill was quicker than the name of the point.
	if info, err := os.Stat(c.h.orders + crash.Died); err == nil && info.Size() > 0 {
		c.die(point, c.tally.later)
	} else {
		c.h.must(remove(c.h.orders + crash.Died))
		c.tally.countRest()
	}
	c.look()
}

// settled says whether a daemon answers and all is as wanted.
func (c *crashed) settled() bool {
	st, err := c.h.fetchStatus()
	return err == nil && c.asWanted(st)
}

// asWanted says whether the status and /proc are as they ought to become.
func (c *crashed) asWanted(st Status) bool {
	task, there := st.Task(c.name)
	if c.way.end == held {
		return task.Phase == "held" && task.PID == c.pid && slices.Equal(st.HeldRemovals, []string{c.name})
	}
	if !st.Converged || there != (c.way.end == running || c.way.end == off) {
		return false
	}
	pids := c.pids()
	if len(pids) != c.processes() {
		return false
	}
	switch c.way.end {
	case running:
		return task.Phase == "running" && task.PID == pids[0] && task.PID != c.former
	case off:
		return task.Phase == "stopped"
	}
	return true
}

// processes is how many the task is to have in the end.
func (c *crashed) processes() int {
	if c.way.end == absent || c.way.end == off {
		return 0
	}
	return 1
}

// pids are the task's processes.
func (c *crashed) pids() []int {
	c.h.t.Helper()
	var pids []int
	for _, q := range c.h.QEMUs() {
		if q.Task == c.name {
			pids = append(pids, q.PID)
		}
	}
	return pids
}

// look is what a dead daemon has left behind: one process of the task at most,
// which its record leads to, by its pid or by its socket.
func (c *crashed) look() {
	c.h.t.Helper()
	c.checkBystander()
	left := c.readRecord()
	if left != nil {
		c.checkRecord(left)
	}
	pids := c.pids()
	for _, pid := range pids {
		// One that ends just now has let go of its socket before its name.
		if !c.way.recordless && !leads(left, pid) && slices.Contains(c.pids(), pid) {
			c.h.t.Errorf("%s: nothing leads to QEMU %d, the record is %+v", c.crossing, pid, left)
		}
	}
	for _, pid := range c.h.unmarked() {
		c.h.t.Errorf("%s: process %d has a disk of this host and no mark", c.crossing, pid)
	}
	switch {
	case len(pids) > 1:
		c.h.t.Errorf("%s: QEMUs %v at once", c.crossing, pids)
	case c.pid != 0 && !slices.Equal(pids, []int{c.pid}):
		c.h.t.Errorf("%s: QEMU %d was to stay, there is %v", c.crossing, c.pid, pids)
	case c.processes() == 1 && c.pid == 0 && len(pids) == 1 && pids[0] != c.former:
		c.pid = pids[0]
	}
}

// checkRecord compares with what was known of the task before.
func (c *crashed) checkRecord(r *runtime.Record) {
	c.h.t.Helper()
	if c.uuid == "" {
		c.uuid = r.UUID
	}
	if c.way.recordless && r.UUID == "" {
		return // made anew, and its process not found yet
	}
	port := r.Ports["web"]
	if c.port == 0 {
		c.port = port
	}
	if r.UUID != c.uuid || port != 0 && port != c.port {
		c.h.t.Errorf("%s: uuid %s and port %d in the record, before %s and %d", c.crossing, r.UUID, port, c.uuid, c.port)
	}
}

// readRecord is nil for a record that is not there, and for one of a way that
// makes it unreadable.
func (c *crashed) readRecord() *runtime.Record {
	raw, err := os.ReadFile(c.record())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	c.h.must(err)
	var record runtime.Record
	if err := json.Unmarshal(raw, &record); err != nil {
		if !c.way.recordless {
			c.h.t.Errorf("%s: the record makes no sense: %v", c.crossing, err)
		}
		return nil
	}
	return &record
}

// leads says whether a record leads to a process.
func leads(r *runtime.Record, pid int) bool {
	switch {
	case r == nil:
		return false
	case r.Process != nil:
		return r.Process.PID == pid
	case r.Intent == nil || r.Intent.Kind != runtime.IntentStart:
		return false
	}
	descriptors, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	return err == nil && slices.ContainsFunc(descriptors, func(path string) bool {
		target, err := os.Readlink(path)
		return err == nil && target == fmt.Sprintf("socket:[%d]", r.Intent.SocketInode)
	})
}

func (c *crashed) checkBystander() {
	c.h.t.Helper()
	pid := c.h.OnlyQEMU("bystander")
	if started := c.h.startOf(pid); pid != c.bystander.PID || started != c.started {
		c.h.t.Errorf("%s: the bystander was %d (started at %s) and is %d (%s)", c.crossing, c.bystander.PID, c.started, pid, started)
	}
}

// verify waits until all is as wanted, and checks that it is.
func (c *crashed) verify() {
	c.h.t.Helper()
	st := c.h.AwaitStatus(fmt.Sprintf("convergence after a death at %s", c.crossing), c.asWanted)
	c.look()
	c.checkEvents()
	bystander, _ := st.Task("bystander")
	if bystander.PID != c.bystander.PID || bystander.Restarts != 0 || bystander.Ports[0].Host != c.bystander.Ports[0].Host {
		c.h.t.Errorf("%s: the bystander was %+v and is %+v", c.crossing, c.bystander, bystander)
	}
	task, there := st.Task(c.name)
	if !there {
		return
	}
	if c.way.restarts >= 0 && task.Restarts != c.way.restarts {
		c.h.t.Errorf("%s: %d restarts, %d were by policy", c.crossing, task.Restarts, c.way.restarts)
	}
	if c.uuid != "" && task.UUID != c.uuid {
		c.h.t.Errorf("%s: uuid %s, before %s", c.crossing, task.UUID, c.uuid)
	}
	if cause := c.way.cause; cause != "" && (task.LastExit == nil || task.LastExit.Cause != cause) {
		c.h.t.Errorf("%s: the last exit is %+v, its cause was %s", c.crossing, task.LastExit, cause)
	}
	for _, port := range task.Ports {
		if port.Label == "web" && c.port != 0 && port.Host != c.port {
			c.h.t.Errorf("%s: port %d, before %d", c.crossing, port.Host, c.port)
		}
	}
	if c.way.end == running {
		c.checkCommandLine(task)
	}
}

// checkEvents wants nothing told that would have gone wrong in silence: a second
// QEMU on an image fails for the first one's lock on it, and one is found by its
// environment when no record leads to it.
func (c *crashed) checkEvents() {
	c.h.t.Helper()
	for _, e := range c.h.Events() {
		lost := e.Type == "record-corrupt" || e.Type == "adopted" && e.Says("by", "environment")
		failed := e.Type == "start-failed" && c.way != wayFailing
		if e.Task == c.name && (failed || lost && !c.way.recordless) {
			c.h.t.Errorf("%s: %s", c.crossing, e.Line)
		}
	}
}

// checkCommandLine looks at what the process itself was given.
func (c *crashed) checkCommandLine(task TaskStatus) {
	c.h.t.Helper()
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", task.PID))
	c.h.must(err)
	line := strings.ReplaceAll(string(raw), "\x00", " ")
	wanted := []string{" -uuid " + task.UUID + " ", fmt.Sprintf(" -m %dM ", c.memory)}
	for _, port := range task.Ports {
		wanted = append(wanted, fmt.Sprintf(":%d-:%d", port.Host, port.Guest))
	}
	for _, part := range wanted {
		if !strings.Contains(line, part) {
			c.h.t.Errorf("%s: QEMU %d has no %q: %s", c.crossing, task.PID, part, line)
		}
	}
}

// bury takes the task away where it is still there, and wants nothing left of
// it but its logs.
func (c *crashed) bury() {
	c.h.t.Helper()
	switch c.way.end {
	case absent:
	case held:
		c.release()
	default:
		c.text = strings.Replace(c.text, `on_remove = "keep"`, `on_remove = "stop"`, 1)
		c.drop()
		c.h.AwaitTask(c.name, "burial", func(task TaskStatus) bool {
			left := c.readRecord()
			return task.Converged && left != nil && left.Wanted != nil && left.Wanted.OnRemove == spec.OnRemoveStop
		})
		c.h.Remove(c.name + ".hcl")
		c.h.AwaitGone(c.name)
	}
	left := ""
	deadline := time.Now().Add(Patience)
	for left = c.leftovers(); left != "" && time.Now().Before(deadline); left = c.leftovers() {
		<-time.After(pollInterval)
	}
	if left != "" {
		c.h.t.Errorf("%s: left behind: %s", c.crossing, left)
	}
}

// leftovers are the files that ought not to be there any more.
func (c *crashed) leftovers() string {
	expected := map[string][]string{
		filepath.Join(c.h.State, "tasks"): {"bystander.json", "bystander.json.durable"},
		filepath.Join(c.h.Run, "vms"):     {"bystander"},
		c.h.Run:                           {"control.sock", "lock", "vms"},
		c.h.State:                         {"blanks", "cache", "events.jsonl", "lock", "logs", "removals.json", "tasks", "vms_dir.json"},
		filepath.Join(c.h.State, "cache"): {"emulators.json"},
	}
	var left []string
	for dir, names := range expected {
		entries, err := os.ReadDir(dir)
		c.h.must(err)
		for _, entry := range entries {
			aside := c.way.recordless && strings.Contains(entry.Name(), ".json.corrupt-")
			if !slices.Contains(names, entry.Name()) && !aside {
				left = append(left, filepath.Join(dir, entry.Name()))
			}
		}
	}
	for _, q := range c.h.QEMUs() {
		if q.Task != "bystander" {
			left = append(left, fmt.Sprintf("QEMU %d of %s", q.PID, q.Task))
		}
	}
	return strings.Join(left, ", ")
}

// unmarked are the processes whose command line has a disk of this host and
// that have no mark of the daemon's.
func (h *Host) unmarked() []int {
	h.t.Helper()
	dirs, err := filepath.Glob("/proc/[0-9]*")
	h.must(err)
	var found []int
	for _, dir := range dirs {
		line, err := os.ReadFile(filepath.Join(dir, "cmdline"))
		if err != nil || !bytes.Contains(line, []byte(h.Disks+"/")) {
			continue
		}
		environ, err := os.ReadFile(filepath.Join(dir, "environ"))
		if err != nil || len(environ) == 0 || bytes.Contains(environ, []byte("QEMU_RECONCILER_STATE="+h.State+"\x00")) {
			continue // it ends, or is marked
		}
		var pid int
		_, err = fmt.Sscan(filepath.Base(dir), &pid)
		h.must(err)
		found = append(found, pid)
	}
	return found
}

// startOf is when a process was started: field 22 of /proc/PID/stat.
func (h *Host) startOf(pid int) string {
	h.t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	h.must(err)
	return strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))[22-3]
}
