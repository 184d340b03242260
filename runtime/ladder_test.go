package runtime

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qemu-reconciler/qemu-reconciler/internal/guest"
)

// climbed is what Climb did.
type climbed struct {
	rung  string
	rungs []string
	took  time.Duration
	err   error
}

// climb stops target and notes the rungs.
func climb(ctx context.Context, target StopTarget, opts StopOptions) climbed {
	var c climbed
	opts.Rung = func(rung string) { c.rungs = append(c.rungs, rung) }
	begun := time.Now()
	c.rung, c.err = Climb(ctx, target, opts)
	c.took = time.Since(begun)
	return c
}

func (c climbed) check(t *testing.T, rungs ...string) {
	t.Helper()
	if c.err != nil || c.rung != rungs[len(rungs)-1] || !slices.Equal(c.rungs, rungs) {
		t.Fatalf("climbed %q, ended on %q in %v (%v), want %q", c.rungs, c.rung, c.took, c.err, rungs)
	}
}

func (c climbed) intent(at time.Time) *Intent {
	return &Intent{Kind: IntentStop, At: at, Rung: c.rung}
}

func checkExit(t *testing.T, got Exit, cause, signal, rung string, code any) {
	t.Helper()
	var gotCode any
	if got.Code != nil {
		gotCode = *got.Code
	}
	if got.Cause != cause || got.Signal != signal || got.Rung != rung || gotCode != code {
		t.Errorf("exit is %+v with code %v, want cause %q, signal %q, rung %q, code %v", got, gotCode, cause, signal, rung, code)
	}
}

func TestClimbGuestHearsTheButton(t *testing.T) {
	t.Parallel()
	vm := startTiny(t, guest.Button)
	vm.connect(t)
	vm.says(t, guest.SaysReady)
	begun := time.Now()
	c := climb(t.Context(), vm.target(), StopOptions{Graceful: true, Timeout: testPatience})
	c.check(t, RungACPI)
	vm.says(t, guest.SaysButton)
	evidence := vm.evidence(t, c.intent(begun))
	if evidence.Shutdown == nil || evidence.Shutdown.Reason != reasonShutdown || evidence.Shutdown.At.Before(begun.Add(-time.Second)) {
		t.Errorf("QMP's log says %+v", evidence.Shutdown)
	}
	exit := evidence.Exit(time.Now())
	checkExit(t, exit, CauseStopped, "", RungACPI, 0)
	if exit.Seconds <= 0 || exit.Seconds > testPatience.Seconds() {
		t.Errorf("took %v s", exit.Seconds)
	}
}

// A stop right after exec finds no QMP session yet, and then a firmware that
// has not enabled the button.
func TestClimbRightAfterExec(t *testing.T) {
	t.Parallel()
	for _, age := range []time.Duration{0, 20 * time.Millisecond} {
		t.Run(age.String(), func(t *testing.T) {
			vm := startTiny(t, guest.Button)
			<-time.After(age) // the age of the process is the subject here
			done := make(chan climbed, 1)
			go func() {
				done <- climb(context.Background(), vm.target(), StopOptions{Graceful: true, Timeout: testPatience})
			}()
			vm.connect(t)
			await(t, done, "stop").check(t, RungACPI)
			vm.says(t, guest.SaysButton)
		})
	}
}

func TestClimbDeafGuest(t *testing.T) {
	t.Parallel()
	vm := startTiny(t, guest.Deaf)
	vm.connect(t)
	vm.says(t, guest.SaysReady)
	c := climb(t.Context(), vm.target(), StopOptions{Graceful: true, Timeout: 700 * time.Millisecond})
	c.check(t, RungACPI, RungQuit)
	if c.took < 700*time.Millisecond {
		t.Errorf("gave up after %v", c.took)
	}
	evidence := vm.evidence(t, c.intent(time.Now()))
	if evidence.Shutdown == nil || evidence.Shutdown.Reason != reasonQuit {
		t.Errorf("QMP's log says %+v", evidence.Shutdown)
	}
	checkExit(t, evidence.Exit(time.Now()), CauseStopped, "", RungQuit, 0)
}

func TestClimbBeginsAtQuit(t *testing.T) {
	t.Parallel()
	for name, opts := range map[string]StopOptions{
		"not graceful":      {Timeout: testPatience},
		"no time left over": {Graceful: true, Timeout: -time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			vm := startTiny(t, guest.Button)
			vm.connect(t)
			vm.says(t, guest.SaysReady)
			c := climb(t.Context(), vm.target(), opts)
			c.check(t, RungQuit)
			if c.took >= rungPatience {
				t.Errorf("took %v", c.took)
			}
		})
	}
}

func TestClimbWithoutQMP(t *testing.T) {
	t.Parallel()
	vm := startTiny(t, guest.Button)
	vm.says(t, guest.SaysReady)
	begun := time.Now()
	c := climb(t.Context(), vm.target(), StopOptions{Graceful: true, Timeout: 200 * time.Millisecond})
	c.check(t, RungACPI, RungQuit, RungSIGTERM)
	evidence := vm.evidence(t, c.intent(begun))
	checkExit(t, evidence.Exit(time.Now()), CauseStopped, "SIGTERM", RungSIGTERM, 0)
	evidence.Stop = nil
	checkExit(t, evidence.Exit(time.Now()), CauseKilled, "SIGTERM", "", 0)
}

func TestClimbStoppedQEMU(t *testing.T) {
	t.Parallel()
	vm := startTiny(t, guest.Button)
	vm.connect(t)
	vm.says(t, guest.SaysReady)
	must(t, vm.Signal(unix.SIGSTOP))
	c := climb(t.Context(), vm.target(), StopOptions{Graceful: true, Timeout: 200 * time.Millisecond})
	c.check(t, RungACPI, RungQuit, RungSIGTERM, RungSIGKILL)
	if limit := 200*time.Millisecond + 2*rungPatience + 5*time.Second; c.took > limit {
		t.Errorf("took %v, more than %v", c.took, limit)
	}
	checkExit(t, vm.evidence(t, c.intent(time.Now())).Exit(time.Now()), CauseStopped, "SIGKILL", RungSIGKILL, nil)
}

func TestClimbPausedGuestIsWoken(t *testing.T) {
	t.Parallel()
	vm := startTiny(t, guest.Button)
	m := vm.connect(t)
	vm.says(t, guest.SaysReady)
	must(t, m.Execute(t.Context(), "stop", nil, nil))
	climb(t.Context(), vm.target(), StopOptions{Graceful: true, Timeout: testPatience}).check(t, RungACPI)
	vm.says(t, guest.SaysButton)
}

func TestClimbCancelledLeavesTheVM(t *testing.T) {
	t.Parallel()
	vm := startTiny(t, guest.Deaf)
	m := vm.connect(t)
	ctx, cancel := context.WithCancel(t.Context())
	rung, err := Climb(ctx, vm.target(), StopOptions{Graceful: true, Timeout: testPatience, Rung: func(string) { cancel() }})
	if rung != RungACPI || !errors.Is(err, context.Canceled) {
		t.Errorf("rung %q, error %v", rung, err)
	}
	var state struct{ Running bool }
	if err := m.Execute(t.Context(), "query-status", nil, &state); err != nil || !state.Running {
		t.Errorf("the VM does not run any more: %v", err)
	}
}

func TestClimbProcessEndsByAnotherHand(t *testing.T) {
	t.Parallel()
	vm := startTiny(t, guest.Deaf)
	vm.connect(t)
	opts := StopOptions{Graceful: true, Timeout: testPatience, Rung: func(string) { _ = vm.Signal(unix.SIGSEGV) }}
	rung, err := Climb(t.Context(), vm.target(), opts)
	if rung != RungACPI || err != nil {
		t.Errorf("rung %q, error %v", rung, err)
	}
	exit := vm.evidence(t, &Intent{Kind: IntentStop, Rung: rung}).Exit(time.Now())
	checkExit(t, exit, CauseCrashed, "SIGSEGV", "", nil)

	c := climb(t.Context(), vm.target(), StopOptions{Graceful: true, Timeout: testPatience})
	if c.rung != "" || c.err != nil || len(c.rungs) != 0 {
		t.Errorf("a process that is gone was climbed: %+v", c)
	}
}

// A Linux guest with its guest agent: a deaf one obeys the agent, and one whose
// agent is not there hears the button.
func TestClimbLinuxGuest(t *testing.T) {
	t.Parallel()
	linux, err := guest.FindLinux(filepath.Join("..", "build", "linux-guest"))
	must(t, err)
	for rung, c := range map[string]struct {
		guest guest.LinuxOptions
		says  string
	}{
		RungAgent: {guest.LinuxOptions{Agent: true, Deaf: true}, guest.SaysAgent},
		RungACPI:  {guest.LinuxOptions{}, guest.SaysButton},
	} {
		t.Run(rung, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			initramfs, socket := filepath.Join(dir, "initramfs"), filepath.Join(dir, "qga.sock")
			must(t, linux.WriteInitramfs(initramfs))
			vm := startTiny(t, guest.Deaf, append(linux.Args(initramfs, c.guest),
				"-m", "128", "-device", "virtio-serial", "-chardev", "socket,id=qga,path="+socket+",server=on,wait=off",
				"-device", "virtserialport,chardev=qga,name=org.qemu.guest_agent.0")...)
			vm.connect(t)
			vm.says(t, guest.SaysReady)
			target := vm.target()
			target.DialAgent = func(ctx context.Context) (net.Conn, error) { return DialUnix(ctx, socket) }
			climb(t.Context(), target, StopOptions{Graceful: true, Timeout: testPatience}).check(t, rung)
			vm.says(t, c.says)
		})
	}
}
