package e2e

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Patience is how long anything may take on a host that is busy with other
// tests and has the race detector on.
const Patience = 60 * time.Second

// daemon is one life of the daemon.
type daemon struct {
	cmd   *exec.Cmd
	ended chan struct{}
	err   error // of Wait, once ended is closed
}

// Result is what a command printed and how it ended.
type Result struct {
	Stdout, Stderr string
	Code           int
}

// StartDaemon starts a daemon and waits until it answers.
func (h *Host) StartDaemon() {
	h.t.Helper()
	h.StartDaemonOnly()
	h.Await("an answer of the daemon", func() bool {
		select {
		case <-h.daemon.ended:
			h.t.Fatalf("the daemon ended: %v\n%s", h.daemon.err, h.DaemonLog())
		default:
		}
		_, err := h.fetchStatus()
		return err == nil
	})
}

// StartDaemonOnly starts a daemon and waits for nothing.
func (h *Host) StartDaemonOnly() {
	h.t.Helper()
	cmd := h.command(context.Background(), append([]string{"run", "--log-level", "debug"}, h.args...)...)
	cmd.Stdout, cmd.Stderr = h.logs, h.logs
	h.must(cmd.Start())
	d := &daemon{cmd: cmd, ended: make(chan struct{})}
	go func() {
		d.err = cmd.Wait()
		close(d.ended)
	}()
	h.daemon = d
	daemons.Store(d, nil)
}

// daemons are all *daemon of this test binary.
var daemons sync.Map

// endDaemons is for a test binary that is interrupted: those in sessions of their own
// do not hear of it, and would keep their VMs running.
func endDaemons() {
	daemons.Range(func(d, _ any) bool {
		// One that has ended is no error.
		_ = d.(*daemon).cmd.Process.Kill()
		return true
	})
}

// DaemonPID is the pid of the daemon that was started last.
func (h *Host) DaemonPID() int { return h.daemon.cmd.Process.Pid }

// Kill ends the daemon with SIGKILL and waits until it is gone.
func (h *Host) Kill() {
	h.t.Helper()
	h.Signal(syscall.SIGKILL)
	h.waitForDaemon()
}

// Terminate ends the daemon with SIGTERM, waits, and gives its exit code.
func (h *Host) Terminate() int {
	h.t.Helper()
	h.Signal(syscall.SIGTERM)
	h.waitForDaemon()
	return h.daemon.cmd.ProcessState.ExitCode()
}

// Signal sends a signal to the daemon. One that dies in this very moment, as a
// crash point may have it, needs none.
func (h *Host) Signal(signal syscall.Signal) {
	h.t.Helper()
	if err := h.daemon.cmd.Process.Signal(signal); !errors.Is(err, os.ErrProcessDone) {
		h.must(err)
	}
}

func (h *Host) waitForDaemon() {
	h.t.Helper()
	select {
	case <-h.daemon.ended:
	case <-time.After(Patience):
		h.t.Fatalf("the daemon has not ended in %s\n%s", Patience, h.DaemonLog())
	}
}

// daemonRuns says whether the last daemon is still there.
func (h *Host) daemonRuns() bool {
	if h.daemon == nil {
		return false
	}
	select {
	case <-h.daemon.ended:
		return false
	default:
		return true
	}
}

// Do runs a command of the program on this host's directories.
func (h *Host) Do(args ...string) Result {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	cmd := h.command(ctx, args...)
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || ctx.Err() != nil) {
		h.t.Fatalf("%s: %v\n%s%s", strings.Join(args, " "), err, stdout.String(), stderr.String())
	}
	return Result{Stdout: stdout.String(), Stderr: stderr.String(), Code: cmd.ProcessState.ExitCode()}
}

// command makes a command that knows this host's directories and nothing of
// the environment that could lead it elsewhere.
func (h *Host) command(ctx context.Context, args ...string) *exec.Cmd {
	flags := []string{"--config", h.config, "--vms-dir", h.VMs, "--state-dir", h.State, "--run-dir", h.Run}
	words := append([]string{h.binary, args[0]}, append(flags, args[1:]...)...)
	if args[0] == "run" {
		words = append(h.under[:len(h.under):len(h.under)], words...)
	}
	cmd := exec.CommandContext(ctx, words[0], words[1:]...)
	cmd.Env = append(cmd.Environ(), "QEMU_RECONCILER_CONFIG=", "NO_COLOR=1", "GORACE=halt_on_error=0")
	cmd.Env = append(cmd.Env, h.env...)
	if h.user != 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: h.user, Gid: h.user}}
	}
	return cmd
}
