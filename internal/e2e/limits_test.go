package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qemu-reconciler/qemu-reconciler/internal/guest"
)

// The daemon runs out of descriptors: the new task waits and says what is short,
// what runs is untouched, edits are not begun, the daemon neither dies nor spins,
// and all is done when the limit is lifted. So it is with one that begins so.
func TestDescriptorsRunOut(t *testing.T) {
	t.Parallel()
	h := Start(t)
	quick := "restart {\n max_delay = \"1s\"\n }"
	text := h.Task("edited", guest.Button, graceful)
	h.Write("edited.hcl", text)
	h.Write("killed.hcl", with(h.Task("killed", guest.Button), quick))
	edited, killed := h.AwaitRunning("edited"), h.AwaitRunning("killed")
	h.AwaitConverged()
	late := with(h.Task("late", guest.Button), quick)
	lift := h.limitDescriptors(1)
	began, used := time.Now(), cpuTime(t, h.DaemonPID())
	h.Write("late.hcl", late)
	h.Write("edited.hcl", moreMemory(text))
	h.SignalQEMU("killed", unix.SIGKILL)
	// Without a descriptor to spare the commands read the records.
	for time.Since(began) < 5*time.Second {
		st := h.StatusByCommand()
		if task, _ := st.Task("edited"); task.PID != edited.PID {
			t.Errorf("%+v", task)
		}
	}
	if pid := h.OnlyQEMU("edited"); pid != edited.PID || h.Count("stopping", "edited") != 0 {
		t.Errorf("the QEMU was %d and is %d", edited.PID, pid)
	}
	if used = cpuTime(t, h.DaemonPID()) - used; used > time.Since(began)/2 {
		t.Errorf("it used %s of %s", used, time.Since(began))
	}
	if !strings.Contains(h.DaemonLog(), "too many open files") {
		t.Error("it does not say what is short")
	}
	lift()
	h.AwaitRunning("late")
	for _, before := range []TaskStatus{edited, killed} {
		h.AwaitTask(before.Name, "another process", func(task TaskStatus) bool { return task.Phase == "running" && task.PID != before.PID })
	}
	h.AwaitConverged()
}

// A few descriptors are left, which a start needs more of than a look: its reason
// is in the status.
func TestFewDescriptorsLeft(t *testing.T) {
	t.Parallel()
	h := Start(t)
	h.Write("web.hcl", h.Task("web", guest.Button))
	before := h.AwaitRunning("web")
	h.AwaitConverged()
	lift := h.limitDescriptors(6)
	h.Write("late.hcl", with(h.Task("late", guest.Button), "restart {\n max_delay = \"1s\"\n }"))
	task := h.AwaitTask("late", "reason", func(task TaskStatus) bool {
		return strings.Contains(task.Reason, "too many open files") && strings.Contains(task.Reason, "LimitNOFILE")
	})
	if task.PID != 0 || len(h.QEMUs()) != 1 {
		t.Errorf("%+v", task)
	}
	h.ExpectUntouched(before)
	lift()
	h.AwaitRunning("late")
	h.AwaitConverged()
}

// limitDescriptors leaves the daemon so many descriptors more than it has open,
// until lift is called.
func (h *Host) limitDescriptors(more int) (lift func()) {
	h.t.Helper()
	open, err := os.ReadDir(filepath.Join("/proc", fmt.Sprint(h.DaemonPID()), "fd"))
	h.must(err)
	return h.limit(unix.RLIMIT_NOFILE, len(open)+more)
}

// limit lowers a limit of the daemon until lift is called.
func (h *Host) limit(resource, most int) (lift func()) {
	h.t.Helper()
	pid := h.DaemonPID()
	var before unix.Rlimit
	h.must(unix.Prlimit(pid, resource, nil, &before))
	h.must(unix.Prlimit(pid, resource, &unix.Rlimit{Cur: uint64(most), Max: before.Max}, nil))
	return func() {
		h.t.Helper()
		h.must(unix.Prlimit(pid, resource, &before, nil))
	}
}

// A daemon that begins with too few descriptors for what runs does not take the
// VMs for gone: it either refuses to start, and says so, or watches them later.
// With less than a dozen not even the Go runtime comes up.
func TestDescriptorsRunOutAtTheStart(t *testing.T) {
	t.Parallel()
	h := Start(t)
	all := ""
	for i := range 6 {
		all += h.Task(fmt.Sprintf("vm%d", i), guest.Button)
	}
	h.Write("all.hcl", all)
	st := h.AwaitStatus("all of them", func(st Status) bool { return st.Converged && len(st.Tasks) == 6 })
	h.Terminate()
	for limit := 12; limit <= 36; limit++ {
		h.under = []string{"sh", "-c", fmt.Sprintf("ulimit -n %d; exec \"$@\"", limit), "sh"}
		h.StartDaemonOnly()
		select {
		case <-h.daemon.ended:
			if code := h.daemon.cmd.ProcessState.ExitCode(); code == 0 {
				t.Errorf("limit %d: exit code %d", limit, code)
			}
		case <-time.After(time.Second): // passes enough to do what is wrong
			h.Terminate()
		}
		for _, task := range st.Tasks {
			if pid := h.OnlyQEMU(task.Name); pid != task.PID {
				t.Fatalf("limit %d: the QEMU of %s was %d and is %d", limit, task.Name, task.PID, pid)
			}
		}
	}
	h.under = nil
	h.StartDaemon()
	h.AwaitConverged()
	for _, task := range st.Tasks {
		h.ExpectUntouched(task)
		if h.Count("exited", task.Name)+h.Count("start-failed", task.Name) != 0 {
			t.Errorf("%s was taken for gone", task.Name)
		}
	}
}

// No process can be forked: the task waits with the reason, what runs is left as
// it is, and it starts when the limit is lifted.
func TestProcessesRunOut(t *testing.T) {
	t.Parallel()
	h := Start(t, AsNobody()) // whom the limit binds
	text := h.Task("web", guest.Button)
	h.Write("web.hcl", text)
	before := h.AwaitRunning("web")
	h.AwaitConverged()
	lift := h.limitProcesses()
	h.Write("late.hcl", with(h.Task("late", guest.Button), "restart {\n max_delay = \"1s\"\n }"))
	task := h.AwaitTask("late", "reason", func(task TaskStatus) bool {
		return task.Phase == "backoff" && strings.Contains(task.Reason, "limit on processes")
	})
	if task.PID != 0 {
		t.Errorf("%+v", task)
	}
	used := cpuTime(t, h.DaemonPID())
	began := time.Now()
	h.Await("some more attempts", func() bool { return h.Count("start-failed", "late") >= 4 })
	if used = cpuTime(t, h.DaemonPID()) - used; used > time.Since(began)/2 {
		t.Errorf("it used %s of %s", used, time.Since(began))
	}
	h.ExpectUntouched(before)
	lift()
	h.AwaitRunning("late")
	h.AwaitConverged()
}

// limitProcesses forbids the daemon any more of them, until lift is called. Where
// even root may not limit another user's process, that user does it himself.
func (h *Host) limitProcesses() (lift func()) {
	h.t.Helper()
	set := func(soft string) {
		h.t.Helper()
		cmd := exec.Command("prlimit", "--pid", fmt.Sprint(h.DaemonPID()), "--nproc="+soft+":")
		if h.user != 0 {
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: h.user, Gid: h.user}}
		}
		if output, err := cmd.CombinedOutput(); err != nil {
			h.t.Fatalf("prlimit: %v: %s", err, output)
		}
	}
	var before unix.Rlimit
	h.must(unix.Getrlimit(unix.RLIMIT_NPROC, &before))
	set("1")
	return func() { set(strconv.FormatUint(before.Cur, 10)) }
}
