package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Stranger is a process that no daemon has any business with. It blocks all
// signals that can be blocked: what is sent to it waits, and /proc shows it.
type Stranger struct{ cmd *exec.Cmd }

// StartStranger starts one that lives as long as the test.
func StartStranger(t testing.TB) Stranger {
	t.Helper()
	cmd := exec.Command("sleep", "100000")
	if err := startDeaf(cmd); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill() //nolint:errcheck // a test that failed may have seen its end
		cmd.Wait()         //nolint:errcheck // it was killed
	})
	return Stranger{cmd}
}

// startDeaf starts a command with the mask of this thread, which blocks everything
// meanwhile.
func startDeaf(cmd *exec.Cmd) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var all, before unix.Sigset_t
	for i := range all.Val {
		all.Val[i] = ^all.Val[i]
	}
	if err := unix.PthreadSigmask(unix.SIG_SETMASK, &all, &before); err != nil {
		return err
	}
	err := cmd.Start()
	if restored := unix.PthreadSigmask(unix.SIG_SETMASK, &before, nil); err == nil {
		err = restored
	}
	return err
}

// PID is its process id.
func (s Stranger) PID() int { return s.cmd.Process.Pid }

// Harm says what was done to it: it has ended, is halted, or has a signal waiting;
// empty when nothing was.
func (s Stranger) Harm() string {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.PID()))
	if err != nil {
		return err.Error()
	}
	for line := range strings.Lines(string(status)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":\t")
		if name == "State" && strings.ContainsAny(value[:1], "TZX") || strings.HasSuffix(name, "Pnd") && strings.Trim(value, "0") != "" {
			return fmt.Sprintf("process %d: %s %s", s.PID(), name, value)
		}
	}
	return ""
}
