package runtime

import (
	"bytes"
	"errors"
	"os"
	"strconv"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sys/unix"
)

// niceness is the daemon's, below that of its guests, which is three times their
// weight (sched(7)). On a host whose processors the guests have all to themselves, a
// stop, or the restart of what crashed, would else stand in line with each of them.
const niceness = -5

// autogroup is where a session's own priority is: while the kernel groups processes by
// session, as it does for services that have no share of their own, the niceness of a
// process counts among those of its session alone (sched(7)).
const autogroup = "/proc/self/autogroup"

// GoBeforeGuests raises the priority of this process, and of nothing else: QEMU starts
// with the usual one. A niceness that somebody has chosen stays. Who may not raise it
// is none the worse for it. A thread that is started later is not raised.
func GoBeforeGuests(log hclog.Logger) {
	own, err := unix.SchedGetAttr(0, 0)
	if err == nil && (own.Policy != unix.SCHED_NORMAL || own.Nice != 0) {
		return
	}
	if err := errors.Join(err, raiseThreads(), raiseSession()); err != nil {
		log.Debug("the daemon's priority could not be raised", "error", err)
	}
}

// raiseThreads is for all threads that there are. What is forked from them, a thread or
// QEMU, begins at 0 again: that is the flag.
func raiseThreads() error {
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return err
	}
	raised := unix.SchedAttr{Policy: unix.SCHED_NORMAL, Flags: unix.SCHED_FLAG_RESET_ON_FORK, Nice: niceness}
	for _, thread := range threads {
		tid, err := strconv.Atoi(thread.Name())
		if err != nil {
			return err
		}
		if err := unix.SchedSetAttr(tid, &raised, 0); err != nil && !errors.Is(err, unix.ESRCH) {
			return os.NewSyscallError("sched_setattr", err)
		}
	}
	return nil
}

// raiseSession is for a daemon that has its session for itself, as a service has; each
// QEMU begins one of its own.
func raiseSession() error {
	if leader, err := unix.Getsid(0); err != nil || leader != os.Getpid() {
		return err
	}
	before, err := os.ReadFile(autogroup)
	if errors.Is(err, os.ErrNotExist) { // a kernel without
		return nil
	}
	if err != nil || !bytes.HasSuffix(before, []byte(" nice 0\n")) {
		return err
	}
	return os.WriteFile(autogroup, []byte(strconv.Itoa(niceness)), 0)
}
