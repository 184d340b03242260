package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	goruntime "runtime"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/qemu-reconciler/qemu-reconciler/internal/guest"
)

// threads lists those of a process.
func (h *Host) threads(pid int) (tids []int) {
	h.t.Helper()
	entries, err := os.ReadDir(filepath.Join("/proc", strconv.Itoa(pid), "task"))
	h.must(err)
	for _, entry := range entries {
		tid, err := strconv.Atoi(entry.Name())
		h.must(err)
		tids = append(tids, tid)
	}
	return tids
}

// niceness counts the threads of a process by theirs.
func (h *Host) niceness(pid int) map[int]int {
	h.t.Helper()
	counts := map[int]int{}
	for _, tid := range h.threads(pid) {
		attr, err := unix.SchedGetAttr(tid, 0)
		if errors.Is(err, unix.ESRCH) { // one of QEMU's workers, which end when idle
			continue
		}
		h.must(err)
		counts[int(attr.Nice)]++
	}
	return counts
}

// sessionNiceness is that of the session of a process, where the kernel has one.
func (h *Host) sessionNiceness(pid int) (nice int, ok bool) {
	h.t.Helper()
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "autogroup"))
	if errors.Is(err, os.ErrNotExist) || len(text) == 0 {
		return 0, false
	}
	h.must(err)
	_, err = fmt.Sscanf(string(text), "/autogroup-%d nice %d", new(int), &nice)
	h.must(err)
	return nice, true
}

// A daemon that may goes before the guests, which have the usual priority, whether it
// is the one that started them or not. What somebody has chosen for the service is
// for its guests, too.
func TestDaemonGoesBeforeItsGuests(t *testing.T) {
	own, err := unix.SchedGetAttr(0, 0)
	if err != nil || own.Policy != unix.SCHED_NORMAL || own.Nice != 0 {
		t.Skipf("these tests run with another priority than the usual one: %+v (%v)", own, err)
	}
	threads, sessions := mayRaise(t)
	for name, c := range map[string]struct {
		option                 Option
		daemon, session, guest int
	}{
		"a service":      {Leader(), -5, -5, 0},
		"in a shell":     {func(*options) {}, -5, ownSession, 0},
		"niceness given": {Under(`exec nice -n 3 setsid "$@"`), 3, 0, 3},
		"nobody":         {func(o *options) { AsNobody()(o); Leader()(o) }, 0, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			switch {
			case c.daemon < 0 && !threads, c.session == -5 && !sessions:
				t.Skip("needs CAP_SYS_NICE")
			case name == "nobody" && os.Geteuid() != 0 && threads:
				t.Skip("nobody is who may raise it")
			}
			h := Start(t, c.option)
			if c.session == ownSession {
				c.session, _ = h.sessionNiceness(os.Getpid())
			}
			h.Write("first.hcl", h.Task("first", guest.Button))
			first := h.AwaitRunning("first").PID
			h.Kill()
			h.StartDaemon()
			h.Write("second.hcl", h.Task("second", guest.Button))
			second := h.AwaitRunning("second").PID
			for who, pid := range map[string]int{"first": first, "second": second} {
				if counts := h.niceness(pid); len(counts) != 1 || counts[c.guest] == 0 {
					t.Errorf("%s: threads by niceness %v, want all at %d", who, counts, c.guest)
				}
				h.expectSession(who, pid, 0)
			}
			// A thread that came later is none of those that were raised.
			if counts := h.niceness(h.DaemonPID()); counts[c.daemon] < leastThreads {
				t.Errorf("the daemon: threads by niceness %v, want %d of them at %d", counts, leastThreads, c.daemon)
			}
			h.expectSession("the daemon", h.DaemonPID(), c.session)
		})
	}
}

// ownSession stands for the niceness of the session that these tests run in.
const ownSession = 100

// expectSession compares the niceness of a session, where the kernel has one.
func (h *Host) expectSession(who string, pid, want int) {
	h.t.Helper()
	if nice, ok := h.sessionNiceness(pid); ok && nice != want {
		h.t.Errorf("%s: the niceness of its session is %d, want %d", who, nice, want)
	}
}

// mayRaise says whether this process, and so a daemon of the same user, may raise the
// priority of threads and of sessions, as far as the kernel has one for these.
func mayRaise(t *testing.T) (threads, sessions bool) {
	t.Helper()
	raised := make(chan bool)
	go func() {
		goruntime.LockOSThread() // which ends with this goroutine
		raised <- unix.SchedSetAttr(0, &unix.SchedAttr{Policy: unix.SCHED_NORMAL, Flags: unix.SCHED_FLAG_RESET_ON_FORK, Nice: -5}, 0) == nil
	}()
	err := exec.Command("setsid", "--wait", "sh", "-c", "test ! -e /proc/self/autogroup || echo -5 >/proc/self/autogroup").Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return <-raised, err == nil
}
