package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/qemu-reconciler/qemu-reconciler/internal/guest"
)

// niceness counts the threads of a process by theirs.
func (h *Host) niceness(pid int) map[int]int {
	h.t.Helper()
	threads, err := os.ReadDir(filepath.Join("/proc", strconv.Itoa(pid), "task"))
	h.must(err)
	counts := map[int]int{}
	for _, thread := range threads {
		tid, err := strconv.Atoi(thread.Name())
		h.must(err)
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
	if errors.Is(err, os.ErrNotExist) {
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
	mayRaise := mayBeLessNice(t)
	if own, err := unix.SchedGetAttr(0, 0); err != nil || own.Nice != 0 {
		t.Skipf("these tests run at another niceness than 0 (%v)", err)
	}
	for name, c := range map[string]struct {
		option                 Option
		daemon, session, guest int
	}{
		"a service":      {Leader(), -5, -5, 0},
		"in a shell":     {func(*options) {}, -5, 0, 0},
		"niceness given": {Under(`exec nice -n 3 setsid "$@"`), 3, 0, 3},
		"nobody":         {func(o *options) { AsNobody()(o); Leader()(o) }, 0, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if c.daemon < 0 && !mayRaise {
				t.Skip("needs CAP_SYS_NICE")
			}
			if name == "nobody" && os.Geteuid() != 0 && mayRaise {
				t.Skip("nobody is who may raise it")
			}
			h := Start(t, c.option)
			h.Write("first.hcl", h.Task("first", guest.Button))
			first := h.AwaitRunning("first").PID
			h.Kill()
			h.StartDaemon()
			h.Write("second.hcl", h.Task("second", guest.Button))
			for who, pid := range map[string]int{"first": first, "second": h.AwaitRunning("second").PID} {
				counts := h.niceness(pid)
				if session, ok := h.sessionNiceness(pid); len(counts) != 1 || counts[c.guest] == 0 || ok && session != 0 {
					t.Errorf("%s: threads by niceness %v, want all at %d; session %d", who, counts, c.guest, session)
				}
			}
			// A thread that came later is none of those that were raised.
			counts := h.niceness(h.DaemonPID())
			if session, ok := h.sessionNiceness(h.DaemonPID()); counts[c.daemon] < leastThreads || ok && session != c.session {
				t.Errorf("the daemon: threads by niceness %v, want %d; session %d, want %d", counts, c.daemon, session, c.session)
			}
		})
	}
}

// mayBeLessNice says whether this process, and so a daemon of the same user, may
// raise its priority.
func mayBeLessNice(t *testing.T) bool {
	t.Helper()
	out, err := exec.Command("nice", "-n", "-5", "nice").Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out)) == "-5"
}
