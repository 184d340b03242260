package runtime

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	goruntime "runtime"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/qemu-reconciler/qemu-reconciler/internal/crash"
	"github.com/qemu-reconciler/qemu-reconciler/spec"
)

// LaunchRequest is all that a new process gets from this one.
type LaunchRequest struct {
	// Argv is the command line; the first is the program's path.
	Argv []string
	Env  []string
	// Files are the descriptors it has beside 0, 1 and 2, by their number
	// there. They stay the caller's to close.
	Files map[int]*os.File
	// Output takes its stdout and stderr.
	Output *os.File
}

// Launch starts a process that outlives this one: in its own session, at "/",
// with nothing to read on stdin and no descriptor but those of the request.
// It returns after the exec; an error says why there is no process. Launches
// may run in parallel.
func Launch(req LaunchRequest) (*Process, error) {
	if err := sealDescriptors(); err != nil {
		return nil, fmt.Errorf("keep descriptors from %s: %w", req.Argv[0], err)
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		return nil, err
	}
	defer null.Close()
	pidfd := -1
	pid, _, err := syscall.StartProcess(req.Argv[0], req.Argv, &syscall.ProcAttr{
		Dir:   "/",
		Env:   req.Env,
		Files: descriptors(null, req),
		Sys:   &syscall.SysProcAttr{Setsid: true, PidFD: &pidfd},
	})
	goruntime.KeepAlive(req) // else a file could be closed under the fork
	if err != nil {
		return nil, launchError(req.Argv[0], err)
	}
	crash.Point("start.forked")
	return adoptChild(pid, pidfd)
}

// adoptChild makes a Process of a new child. Nothing else waits for it, so its
// pid stays its own until the Process reaps it.
func adoptChild(pid, pidfd int) (*Process, error) {
	// A failure leaves the child with the oom_score_adj of this process, which
	// is a lesser evil than no child.
	_ = os.WriteFile(fmt.Sprintf("/proc/%d/oom_score_adj", pid), []byte("0"), 0)
	crash.Point("start.adjusted")
	ticks, err := readStartTicks(pid)
	if err == nil && pidfd < 0 { // a kernel that cannot give it with the clone
		pidfd, err = unix.PidfdOpen(pid, 0)
	}
	var p *Process
	if err == nil {
		p, err = newProcess(pidfd, pid, ticks)
	} else if pidfd >= 0 {
		unix.Close(pidfd)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("watch process %d: %w", pid, err), killChild(pid))
	}
	return p, nil
}

// killChild ends a child that cannot be watched: better none than one that
// nobody knows of.
func killChild(pid int) error {
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		return err
	}
	_, err := unix.Wait4(pid, nil, 0, nil)
	return err
}

// descriptors lays out what the child has open. A gap in the numbers is closed
// there.
func descriptors(null *os.File, req LaunchRequest) []uintptr {
	const closed = ^uintptr(0)
	files := []uintptr{null.Fd(), req.Output.Fd(), req.Output.Fd()}
	for _, number := range slices.Sorted(maps.Keys(req.Files)) {
		for len(files) < number {
			files = append(files, closed)
		}
		files = append(files, req.Files[number].Fd())
	}
	return files
}

// sealDescriptors keeps from children what this process itself inherited: Go
// opens everything for this process alone, its own parent may have not.
func sealDescriptors() error {
	err := unix.CloseRange(3, ^uint(0)>>1, unix.CLOSE_RANGE_CLOEXEC)
	if err == nil || !errors.Is(err, unix.ENOSYS) && !errors.Is(err, unix.EINVAL) {
		return err
	}
	// Before Linux 5.11.
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return err
	}
	for _, entry := range entries {
		var fd int
		if _, err := fmt.Sscan(entry.Name(), &fd); err == nil && fd > 2 {
			unix.CloseOnExec(fd)
		}
	}
	return nil
}

// launchError says what an errno of fork or exec means to an operator.
func launchError(path string, err error) error {
	switch {
	case errors.Is(err, unix.ENOENT):
		return fmt.Errorf("%s does not exist: %w", path, err)
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.ENOEXEC):
		return fmt.Errorf("%s may not be executed: %w", path, err)
	case errors.Is(err, unix.EAGAIN):
		return fmt.Errorf("no process for %s: a limit on processes is reached (ulimit -u, pids.max, kernel.pid_max): %w", path, err)
	case errors.Is(err, unix.ENOMEM):
		return fmt.Errorf("no process for %s: the host is out of memory: %w", path, err)
	case errors.Is(err, unix.E2BIG):
		return fmt.Errorf("args and env are too long for %s: %w", path, err)
	}
	return fmt.Errorf("start %s: %w", path, err)
}

// CleanEnv gives a QEMU's environment: the parent's, then the task's, both
// without what is the service manager's or meant for the daemon, then the marks
// by which the process is known again when its record is lost: ports are the
// allocated ones by label. Of two with one name the later counts.
func CleanEnv(parent []string, task *spec.Task, layout Layout, ports map[string]int) []string {
	env := map[string]string{}
	for _, entry := range parent {
		if name, value, ok := strings.Cut(entry, "="); ok && name != "" {
			env[name] = value
		}
	}
	maps.Copy(env, task.Env)
	maps.DeleteFunc(env, func(name, _ string) bool { return spec.ReservedVariable(name) })
	env[envTask] = task.Name
	env[envState] = layout.State
	if marks, err := json.Marshal(ports); err == nil && len(ports) > 0 {
		env[envPorts] = string(marks)
	}
	out := make([]string, 0, len(env))
	for _, name := range slices.Sorted(maps.Keys(env)) {
		out = append(out, name+"="+env[name])
	}
	return out
}
