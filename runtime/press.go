package runtime

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/qemu-reconciler/qemu-reconciler/internal/crash"
)

// press presses the power button again and again: nobody can know whether the
// guest has heard it. It returns early when QMP has been silent for too long,
// and when the guest cannot ever hear it.
func (l *ladder) press(ctx context.Context) {
	for presses := 0; ; presses++ {
		hearing, cancel := context.WithTimeout(ctx, monitorSilence)
		m := l.session(hearing, nil)
		err := hearing.Err()
		if m != nil {
			err = pressOnce(hearing, m)
		}
		cancel()
		switch {
		case errors.Is(err, errLeaving):
			pause(ctx, monitorSilence)
			return
		case errors.Is(err, context.DeadlineExceeded), errors.Is(err, errCannotHear):
			return
		}
		if !pause(ctx, pressInterval(presses)) {
			return
		}
	}
}

// pressInterval is the wait after the n-th press, which is counted from zero.
func pressInterval(n int) time.Duration {
	wait := pressFirst
	for ; n >= int(time.Second/pressFirst) && wait < pressLast; n-- {
		wait += wait / 2
	}
	return min(wait, pressLast)
}

// errCannotHear says that the guest will never run again as it is; errLeaving
// that it has powered off, and QEMU may be writing out its disks before it ends.
var (
	errCannotHear = errors.New("the guest does not run any more")
	errLeaving    = errors.New("the guest has powered off")
)

// wakeCommands are the run states of QEMU (qapi/run-state.json) in which the
// guest's CPUs are stopped but can go on, each with the command for it. A guest
// that does not run hears no button. To stop it means more than to have it
// paused, so it is woken to hear: as systemd sends SIGCONT after SIGTERM.
var wakeCommands = map[string]string{
	"paused":    "cont",
	"io-error":  "cont",
	"watchdog":  "cont",
	"suspended": "system_wakeup",
}

// lostStates are those in which only a reset would make the CPUs run again.
var lostStates = []string{"internal-error", "guest-panicked"}

// leavingState is that of a QEMU on its way out.
const leavingState = "shutdown"

// pressOnce presses the button of a guest and wakes it where it does not run,
// in this order, so that the press is the first thing it notices.
func pressOnce(ctx context.Context, m *Monitor) error {
	err := m.Execute(ctx, "system_powerdown", nil, nil)
	crash.Point("stop.acpi.pressed")
	if err != nil {
		return err
	}
	var state struct {
		Status string `json:"status"`
	}
	if err := m.Execute(ctx, "query-status", nil, &state); err != nil {
		return err
	}
	if wake, ok := wakeCommands[state.Status]; ok {
		return m.Execute(ctx, wake, nil, nil)
	}
	switch {
	case state.Status == leavingState:
		return errLeaving
	case slices.Contains(lostStates, state.Status):
		return errCannotHear
	}
	return nil
}
