package runtime

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	goruntime "runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/coreos/go-semver/semver"
	"golang.org/x/sys/unix"

	"github.com/qemu-reconciler/qemu-reconciler/spec"
)

// probeTimeout is for the whole of a probe. It takes about 0.1 s on an idle
// host, and whoever looks at a task file that names the emulator waits for it.
const probeTimeout = 5 * time.Second

// answer is what a binary said about itself.
type answer struct {
	Version      semver.Version `json:"version"`
	Accelerators []string       `json:"accelerators,omitempty"`
	MachineTypes []string       `json:"machine_types,omitempty"`
	// Options are the command line options that were compiled in and can be
	// asked for over QMP.
	Options map[string]bool `json:"options,omitempty"`
}

// probe runs a binary without a machine and asks it over QMP. The error
// completes the sentence that begins with the emulator's name.
func probe(ctx context.Context, path string) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	// The kernel kills the child when the thread that started it ends, so the
	// thread is kept; a daemon that is killed meanwhile leaves nothing behind.
	goruntime.LockOSThread()
	defer goruntime.UnlockOSThread()
	conn, theirs, err := qmpPair()
	if err != nil {
		return answer{}, fmt.Errorf("could not be asked: %w", err)
	}
	defer conn.Close()
	var words bytes.Buffer
	cmd := exec.Command(path, "-machine", "none", "-nodefaults", "-no-user-config", "-display", "none",
		"-chardev", "socket,id=probe,fd=3", "-mon", "chardev=probe,mode=control")
	cmd.Dir, cmd.Env = "/", CleanEnv(os.Environ(), &spec.Task{}, Layout{}, nil)
	cmd.Stdout, cmd.Stderr = &words, &words
	cmd.ExtraFiles = []*os.File{theirs}
	cmd.WaitDelay = time.Second // a helper of its own may hold its output open
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
	err = cmd.Start()
	theirs.Close() // ours alone would keep the connection open after its death
	if err != nil {
		return answer{}, fmt.Errorf("cannot be run: %w", plainPathError(err))
	}
	out, asked := interview(ctx, conn)
	conn.Close()
	// A wrapper script goes with what it runs. Nobody has waited for it yet, so
	// its pid is still its group's.
	_ = unix.Kill(-cmd.Process.Pid, unix.SIGKILL)
	if err := cmd.Wait(); asked != nil {
		return answer{}, probeError(asked, err, words.String())
	}
	return out, nil
}

// probeError says what went wrong, by QEMU's own words when it has any.
func probeError(asked, exit error, words string) error {
	if words = strings.TrimSpace(words); words != "" {
		return fmt.Errorf("does not run: %s", words)
	}
	var status *exec.ExitError
	if errors.As(exit, &status) && status.Exited() { // by itself
		return fmt.Errorf("does not answer: %w, %s", asked, status)
	}
	return fmt.Errorf("does not answer: %w", asked)
}

// interview asks all questions of a session, but no more than its version of
// one that is too old for the rest.
func interview(ctx context.Context, conn net.Conn) (answer, error) {
	monitor, err := NewMonitor(ctx, conn)
	if err != nil {
		return answer{}, err
	}
	defer monitor.Close()
	out := answer{Options: map[string]bool{}}
	if out.Version, err = askVersion(ctx, monitor); err != nil {
		return answer{}, err
	}
	if _, tooOld := judge(out.Version, nil); tooOld == nil {
		if err := out.askRest(ctx, monitor); err != nil {
			return answer{}, err
		}
	}
	// It leaves with or without an answer, which comes late or not at all.
	_ = monitor.Execute(ctx, "quit", nil, nil)
	return out, nil
}

func askVersion(ctx context.Context, monitor *Monitor) (semver.Version, error) {
	var version struct {
		QEMU struct{ Major, Minor, Micro int64 } `json:"qemu"`
	}
	err := monitor.Execute(ctx, "query-version", nil, &version)
	q := version.QEMU
	if err == nil && min(q.Major, q.Minor, q.Micro) < 0 {
		err = fmt.Errorf("QMP query-version: %d.%d.%d is no version", q.Major, q.Minor, q.Micro)
	}
	return semver.Version{Major: q.Major, Minor: q.Minor, Patch: q.Micro}, err
}

func (a *answer) askRest(ctx context.Context, monitor *Monitor) error {
	var accelerators []struct {
		Name string `json:"name"`
	}
	arguments := map[string]any{"implements": "accel", "abstract": false}
	if err := monitor.Execute(ctx, "qom-list-types", arguments, &accelerators); err != nil {
		return err
	}
	for _, t := range accelerators {
		if name, ok := strings.CutSuffix(t.Name, "-accel"); ok { // the class itself is just "accel"
			a.Accelerators = append(a.Accelerators, name)
		}
	}
	var machines []struct {
		Name  string `json:"name"`
		Alias string `json:"alias"`
	}
	if err := monitor.Execute(ctx, "query-machines", nil, &machines); err != nil {
		return err
	}
	for _, m := range machines {
		a.MachineTypes = append(a.MachineTypes, m.Name)
		if m.Alias != "" {
			a.MachineTypes = append(a.MachineTypes, m.Alias)
		}
	}
	var options []struct {
		Option string `json:"option"`
	}
	if err := monitor.Execute(ctx, "query-command-line-options", nil, &options); err != nil {
		return err
	}
	for _, o := range options {
		a.Options[o.Option] = true
	}
	slices.Sort(a.Accelerators)
	slices.Sort(a.MachineTypes)
	return nil
}

// qmpPair gives a connection and the other end of it for a child.
func qmpPair() (net.Conn, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "qmp"), os.NewFile(uintptr(fds[1]), "qmp of the child")
	defer ours.Close() // FileConn has a copy of its own
	conn, err := net.FileConn(ours)
	if err != nil {
		theirs.Close()
		return nil, nil, err
	}
	return conn, theirs, nil
}
