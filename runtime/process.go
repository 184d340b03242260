package runtime

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// ErrGone says that a process does not exist any more: its pid is unused,
// belongs to another process, or to a zombie.
var ErrGone = errors.New("process is gone")

// reapPatience is how long a dead process that is not our child may stay a
// zombie before its exit status is given up. Its parent, as a rule pid 1, needs
// well under a millisecond; nobody learns of the end before.
const reapPatience = 100 * time.Millisecond

// WaitStatus is how a process ended. Known is false where nobody could know it:
// not our child, reaped at once by its parent, and a kernel before 6.15. Signal
// is zero for a plain exit.
type WaitStatus struct {
	Known  bool
	Code   int
	Signal unix.Signal
}

// Process is one process, told from all others by pid, start time and boot, and
// held by a pidfd (pidfd_open(2)) so that no signal can reach a successor of
// its pid. Children and others are alike. Each costs a descriptor and a
// goroutine parked in the network poller: no thread, and nothing that polls.
type Process struct {
	pid        int
	startTicks uint64
	pidfd      *os.File
	raw        syscall.RawConn
	done       chan struct{}
	status     WaitStatus // written before done is closed
	close      sync.Once
}

// OpenProcess takes hold of a process that is known from before. startTicks is
// field 22 of /proc/PID/stat. The error is ErrGone when pid is not, or no more,
// that process of that boot.
func OpenProcess(pid int, startTicks uint64, bootID string) (*Process, error) {
	if pid <= 0 || bootID != BootID() {
		return nil, ErrGone
	}
	fd, err := unix.PidfdOpen(pid, 0)
	switch {
	case errors.Is(err, unix.ESRCH), errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOENT):
		return nil, ErrGone // EINVAL and ENOENT: the pid is a mere thread's now
	case err != nil:
		return nil, fmt.Errorf("pidfd of process %d: %w", pid, err)
	}
	// Judged after the pidfd is there: from now on both mean the same process
	// or the pidfd a dead one.
	ticks, err := readStartTicks(pid)
	if scarce := scarcity(err); scarce != nil && !hasEnded(fd) {
		unix.Close(fd)
		return nil, fmt.Errorf("start time of process %d: %w", pid, scarce)
	}
	if err != nil || ticks != startTicks || hasEnded(fd) {
		unix.Close(fd)
		return nil, ErrGone
	}
	return newProcess(fd, pid, startTicks)
}

// newProcess watches the process behind a pidfd, which is its own from here on.
func newProcess(fd, pid int, startTicks uint64) (*Process, error) {
	// Only a non-blocking descriptor gets into the poller. The flag of
	// pidfd_open for it is younger (5.10) than pidfds that can be polled.
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, err
	}
	file := os.NewFile(uintptr(fd), fmt.Sprintf("pidfd:%d", pid))
	raw, err := file.SyscallConn()
	if err != nil {
		file.Close()
		return nil, err
	}
	// A read deadline is only to be had from the poller: without it the watch
	// would block a thread.
	if err := file.SetReadDeadline(time.Time{}); err != nil {
		file.Close()
		return nil, fmt.Errorf("pidfd of process %d cannot be polled: %w", pid, err)
	}
	p := &Process{pid: pid, startTicks: startTicks, pidfd: file, raw: raw, done: make(chan struct{})}
	go p.watch()
	return p, nil
}

// PID is the process id. It means this process only until Done.
func (p *Process) PID() int { return p.pid }

// StartTicks is when it started, in clock ticks since boot.
func (p *Process) StartTicks() uint64 { return p.startTicks }

// Done is closed when the process has ended and its status was collected. A
// zombie has ended. After Close it may never be closed.
func (p *Process) Done() <-chan struct{} { return p.done }

// Status is how the process ended; only to be asked after Done.
func (p *Process) Status() WaitStatus {
	select {
	case <-p.done:
		return p.status
	default:
		return WaitStatus{}
	}
}

// Signal sends a signal to this very process; nil when it is gone already.
func (p *Process) Signal(sig unix.Signal) error {
	var sent error
	err := p.raw.Control(func(fd uintptr) { sent = unix.PidfdSendSignal(int(fd), sig, nil, 0) })
	if err != nil || errors.Is(sent, unix.ESRCH) {
		return nil // the pidfd is closed when the process has ended
	}
	if sent != nil {
		return fmt.Errorf("signal %s to process %d: %w", unix.SignalName(sig), p.pid, sent)
	}
	return nil
}

// Close stops watching. It does nothing to the process.
func (p *Process) Close() {
	p.close.Do(func() { p.pidfd.Close() })
}

// watch ends with the process or with Close.
func (p *Process) watch() {
	defer p.Close()
	err := p.raw.Read(func(fd uintptr) bool { return hasEnded(int(fd)) })
	if err != nil {
		return
	}
	if status, child := reap(p.raw, p.pid); child {
		p.status = status
	} else {
		p.status = p.foreignStatus()
	}
	close(p.done)
}

// foreignStatus asks the kernel (6.15 on, PIDFD_GET_INFO) how a process ended
// that another one reaps. It knows from the moment of the reaping on, which
// wakes the pidfd a second time.
func (p *Process) foreignStatus() WaitStatus {
	if status, known := p.zombieStatus(); known {
		return status
	}
	if err := p.pidfd.SetReadDeadline(time.Now().Add(reapPatience)); err != nil {
		return WaitStatus{}
	}
	var status WaitStatus
	err := p.raw.Read(func(fd uintptr) bool {
		reaped := wasReaped(int(fd)) // asked first: the answer is there by then, if ever
		var known bool
		status, known = exitStatus(int(fd))
		return known || reaped
	})
	if err != nil {
		return WaitStatus{}
	}
	return status
}

// zombieStatus reads how a process ended that is not reaped yet from field 52 of
// /proc/PID/stat (proc_pid_stat(5)). It is 0 there, too, for those who may not
// know it; whoever may has access to /proc/PID/io as well, which asks for the
// same right (PTRACE_MODE_READ_FSCREDS).
func (p *Process) zombieStatus() (status WaitStatus, known bool) {
	const stateField, exitField = 0, 52 - 3 // the state is field 3
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.pid))
	if err != nil {
		return WaitStatus{}, false
	}
	ticks, err := parseStartTicks(stat)
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if err != nil || ticks != p.startTicks || len(fields) <= exitField || string(fields[stateField]) != "Z" {
		return WaitStatus{}, false
	}
	code, err := strconv.ParseUint(string(fields[exitField]), 10, 32)
	if err != nil {
		return WaitStatus{}, false
	}
	if code == 0 {
		if _, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", p.pid)); err != nil {
			return WaitStatus{}, false
		}
	}
	return waitStatus(unix.WaitStatus(code)), true
}

// reap collects a dead child, and no other process. child is false when it is
// another's, or another holder of the same process was quicker.
func reap(raw syscall.RawConn, pid int) (status WaitStatus, child bool) {
	var wait unix.WaitStatus
	err := raw.Control(func(fd uintptr) {
		// The pidfd proves that the pid is still our own dead child's; only
		// then does the pid mean it, and it does until it is reaped.
		err := unix.Waitid(unix.P_PIDFD, int(fd), nil, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
		if err != nil {
			return
		}
		got, err := unix.Wait4(pid, &wait, unix.WNOHANG, nil)
		child = err == nil && got == pid
	})
	if err != nil || !child {
		return WaitStatus{}, false
	}
	return waitStatus(wait), true
}

func waitStatus(w unix.WaitStatus) WaitStatus {
	if w.Signaled() {
		return WaitStatus{Known: true, Signal: w.Signal()}
	}
	return WaitStatus{Known: true, Code: w.ExitStatus()}
}

// hasEnded says whether the process behind a pidfd has, zombies included.
func hasEnded(fd int) bool { return pollPidfd(fd)&unix.POLLIN != 0 }

// wasReaped says whether even its zombie is gone; older kernels never say so.
func wasReaped(fd int) bool { return pollPidfd(fd)&unix.POLLHUP != 0 }

func pollPidfd(fd int) int16 {
	poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(poll, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || n == 0 {
			return 0
		}
		return poll[0].Revents
	}
}
