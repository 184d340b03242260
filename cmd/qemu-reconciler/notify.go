package main

import (
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/hashicorp/go-hclog"
)

// notifier tells the service manager how the daemon fares; without one every
// call does nothing.
type notifier struct {
	send func(state string) error
	log  hclog.Logger

	mu sync.Mutex
	// fed is when the watchdog was last fed.
	fed time.Time
}

func newNotifier(log hclog.Logger) *notifier {
	return &notifier{log: log, send: func(state string) error {
		_, err := daemon.SdNotify(false, state)
		return err
	}}
}

func (n *notifier) tell(state string) {
	if err := n.send(state); err != nil {
		n.log.Warn("the service manager could not be told", "state", state, "error", err)
	}
}

func (n *notifier) ready() { n.tell(daemon.SdNotifyReady) }

func (n *notifier) stopping() { n.tell(daemon.SdNotifyStopping) }

// reloading carries the time that systemd wants with it (Type=notify-reload).
func (n *notifier) reloading() {
	n.tell(daemon.SdNotifyReloading + "\n" + daemon.SdNotifyMonotonicUsec())
}

// watchdogEvery is how often the service manager wants to hear of the loop; it
// is zero without a watchdog. Three times an interval leaves room for a pass
// that takes long.
func watchdogEvery(log hclog.Logger) time.Duration {
	interval, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		log.Warn("the service manager's watchdog is not understood, so it is not fed", "error", err)
		return 0
	}
	return interval / 3
}

// passed feeds the watchdog after a pass of the loop, and from nowhere else: a
// loop that hangs is restarted. Between two meals a share of every must pass.
func (n *notifier) passed(now time.Time, every time.Duration) {
	if every == 0 {
		return
	}
	n.mu.Lock()
	due := now.Sub(n.fed) >= every/2
	if due {
		n.fed = now
	}
	n.mu.Unlock()
	if due {
		n.tell(daemon.SdNotifyWatchdog)
	}
}
