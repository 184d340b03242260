package runtime

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// execPatience is how long a process that holds one of our sockets may
	// take from fork to exec.
	execPatience = 2 * time.Second
	// execInterval is how often it is looked at meanwhile: an exec of another's
	// child wakes nobody.
	execInterval = 5 * time.Millisecond
	// ticksPerSecond is USER_HZ, the unit of times in /proc, which is 100 on
	// every architecture that Go runs on.
	ticksPerSecond = 100
)

// The variables that CleanEnv puts into the environment of each QEMU, by which
// it is known again when its record is lost.
const (
	envTask  = "QEMU_RECONCILER_TASK"
	envState = "QEMU_RECONCILER_STATE"
	// envPorts has the allocated host ports by label, as JSON: a command line
	// does not tell labels.
	envPorts = "QEMU_RECONCILER_PORTS"
)

// BootID is the kernel's id of this boot; empty when it cannot be read.
var BootID = sync.OnceValue(func() string {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(id))
})

// Found is a QEMU of ours that was found by looking at what runs.
type Found struct {
	Task       string
	PID        int
	StartTicks uint64
	Argv       []string
	// Ports are the allocated host ports by label that it was started with.
	Ports map[string]int
}

// FindHolder gives the QEMU of task that holds the listening socket with the
// given inode (the socket's own, as ListenUnix gives it); ErrGone when nobody
// holds it. A process that holds it and is not that QEMU is a child between
// fork and exec, of this task or of another one that was being started at the
// same moment: it is waited for until ctx ends, and then told by an
// *UndecidedError.
func FindHolder(ctx context.Context, socketInode uint64, task string) (pid int, startTicks uint64, err error) {
	tick := time.NewTicker(execInterval)
	defer tick.Stop()
	for {
		pid, startTicks, err := lookForHolder(socketInode, task)
		var undecided *UndecidedError
		if !errors.As(err, &undecided) {
			return pid, startTicks, err
		}
		select {
		case <-ctx.Done():
			return 0, 0, err
		case <-tick.C:
		}
	}
}

// lookForHolder looks once.
func lookForHolder(socketInode uint64, task string) (pid int, startTicks uint64, err error) {
	pids, err := holders(socketInode)
	if err != nil {
		return 0, 0, err
	}
	err = ErrGone
	for _, pid := range pids {
		if !hasName(cmdline(pid), task) {
			err = &UndecidedError{PID: pid, Program: program(pid)}
		} else if ticks, failed := readStartTicks(pid); failed == nil {
			return pid, ticks, nil
		}
	}
	return 0, 0, err
}

// foundAt describes a QEMU of ours that is known by its pid.
func foundAt(task string, pid int, ticks uint64) Found {
	env, _ := environ(pid) // without it only the ports are not known
	return Found{Task: task, PID: pid, StartTicks: ticks, Argv: cmdline(pid), Ports: markedPorts(env)}
}

// markedPorts are the ports that a QEMU was marked with; nil when it was not.
func markedPorts(env map[string]string) map[string]int {
	var ports map[string]int
	if json.Unmarshal([]byte(env[envPorts]), &ports) != nil {
		return nil
	}
	for _, port := range ports {
		if port < 1 || port > 65535 {
			return nil // not ours, and no record may have it
		}
	}
	return ports
}

// OurProcesses gives every QEMU that the daemon of this state directory
// started, oldest first. They tell it by their environment and by the name on
// their command line; a helper that QEMU itself started has only the first. An
// error means that this host is too short of something to tell.
func OurProcesses(layout Layout) ([]Found, error) {
	all, err := pids()
	if err != nil {
		return nil, err
	}
	var found []Found
	for _, pid := range all {
		f, ok, err := ours(layout, pid)
		if err != nil {
			return nil, err
		}
		if ok {
			found = append(found, f)
		}
	}
	slices.SortFunc(found, func(a, b Found) int {
		return cmp.Or(cmp.Compare(a.StartTicks, b.StartTicks), cmp.Compare(a.PID, b.PID))
	})
	return found, nil
}

func ours(layout Layout, pid int) (found Found, ok bool, err error) {
	raw, err := readProcess(pid, "environ")
	if err != nil || !bytes.Contains(raw, []byte(envTask+"=")) { // most are strangers
		return Found{}, false, err
	}
	env := variables(nulTerminated(raw))
	task := env[envTask]
	if task == "" || !sameDir(env[envState], layout.State) {
		return Found{}, false, nil
	}
	argv, err := readArgv(pid)
	if err != nil || !hasName(argv, task) {
		return Found{}, false, err
	}
	ticks, err := readStartTicks(pid)
	if err != nil {
		return Found{}, false, scarcity(err)
	}
	return Found{Task: task, PID: pid, StartTicks: ticks, Argv: argv, Ports: markedPorts(env)}, true, nil
}

// sameDir compares directories as text first: the state directory may have
// been reached through another link.
func sameDir(a, b string) bool {
	if filepath.Clean(a) == filepath.Clean(b) {
		return true
	}
	infoA, errA := os.Stat(a)
	infoB, errB := os.Stat(b)
	return errA == nil && errB == nil && os.SameFile(infoA, infoB)
}

// hasName says whether argv is a command line of ours for the task.
func hasName(argv []string, task string) bool {
	for i, arg := range argv {
		if arg == "-name" && i+1 < len(argv) {
			return argv[i+1] == task // ours comes first, before the operator's args
		}
	}
	return false
}

// cmdline is empty for kernel threads, zombies and what cannot be read.
func cmdline(pid int) []string {
	argv, _ := readArgv(pid)
	return argv
}

// readArgv is empty for kernel threads, zombies and what may not be read.
func readArgv(pid int) ([]string, error) { return splitNul(pid, "cmdline") }

func environ(pid int) (map[string]string, error) {
	entries, err := splitNul(pid, "environ")
	return variables(entries), err
}

func variables(entries []string) map[string]string {
	env := map[string]string{}
	for _, entry := range entries {
		if name, value, ok := strings.Cut(entry, "="); ok {
			env[name] = value
		}
	}
	return env
}

func splitNul(pid int, file string) ([]string, error) {
	data, err := readProcess(pid, file)
	return nulTerminated(data), err
}

// readProcess reads a file of a process; nothing where it may not be read.
func readProcess(pid int, file string) ([]byte, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, file))
	if err != nil {
		return nil, scarcity(err)
	}
	return data, nil
}

// nulTerminated splits what the kernel shows of a process's memory, where the
// process may have put anything.
func nulTerminated(data []byte) []string {
	if len(data) == 0 {
		return nil
	}
	return strings.Split(strings.TrimSuffix(string(data), "\x00"), "\x00")
}

// program is the name of a process as an operator knows it.
func program(pid int) string {
	if argv := cmdline(pid); len(argv) > 0 {
		// A process may have rewritten its arguments into a title
		// ("nginx: master process …"): the first word names it still.
		if words := strings.Fields(argv[0]); len(words) > 0 {
			return strings.TrimSuffix(filepath.Base(words[0]), ":")
		}
	}
	comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(comm))
}

// readStartTicks reads field 22 of /proc/PID/stat (proc_pid_stat(5)). Fields
// are counted from the last parenthesis: the program's name before it may hold
// anything.
func readStartTicks(pid int) (uint64, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	return parseStartTicks(data)
}

func parseStartTicks(stat []byte) (uint64, error) {
	const fieldsAfterName = 22 - 3
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) <= fieldsAfterName {
		return 0, errors.New("process status is cut short")
	}
	return strconv.ParseUint(string(fields[fieldsAfterName]), 10, 64)
}

// isStopped says whether a process is stopped by a signal or a debugger.
func isStopped(pid int) bool {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, after, _ := bytes.Cut(data[bytes.LastIndexByte(data, ')')+1:], []byte(" "))
	return len(after) > 0 && (after[0] == 'T' || after[0] == 't')
}

// startedAt is the wall clock's time of a start, to a hundredth of a second, or
// zero when nobody knows how long ago the boot was.
func startedAt(ticks uint64) time.Time {
	var up unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &up) != nil {
		return time.Time{}
	}
	const tick = time.Second / ticksPerSecond
	age := time.Duration(up.Nano()) - time.Duration(ticks)*tick
	return time.Now().Add(-age).Round(tick).UTC()
}
