package runtime

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/qemu-reconciler/qemu-reconciler/internal/crash"
)

// StopRequest says how to stop a task's QEMU.
type StopRequest struct {
	// Reason says why, in a few words, e.g. "removed".
	Reason string
	// Graceful asks the guest to power off before it is forced.
	Graceful bool
	// Agent says that the guest has an agent channel.
	Agent bool
	// Restart says that a start is to follow: what cannot be written down could
	// not be started either, and the VM stays as it is then.
	Restart bool
	// Timeout is how long the guest is asked. A stop that is resumed before it
	// came to force has the whole of it again: the time without a daemon, in
	// which nobody asked, and jumps of the clock are not the guest's.
	Timeout time.Duration
}

// firstRung is the rung that a stop begins on, as far as that is known before; an
// agent is one only when it answers.
func (req StopRequest) firstRung() string {
	switch {
	case !req.Graceful || req.Timeout <= 0:
		return RungQuit
	case req.Agent:
		return ""
	}
	return RungACPI
}

// Stop stops the QEMU of a task, and returns when it is gone and that is
// recorded; at once when there is none. Its caller looks at the world again by
// himself: that end is not poked. When ctx or the runtime ends first the
// VM is left as it is, and the record says that it is being stopped: the next
// Stop goes on from there.
func (r *Runtime) Stop(ctx context.Context, task string, req StopRequest) (err error) {
	done, err := r.enter()
	if err != nil {
		return err
	}
	defer done()
	m := r.find(task)
	if m == nil {
		return nil
	}
	ctx, cancel := r.within(ctx)
	defer cancel()
	end, err := m.take(ctx)
	if err != nil {
		return err
	}
	defer end()
	defer m.rescue(&err)
	if err := m.untouchable(); err != nil {
		return fmt.Errorf("stop task %s: %w", task, err)
	}
	if err := m.stop(ctx, req); err != nil {
		return fmt.Errorf("stop task %s: %w", task, err)
	}
	return nil
}

func (m *machine) stop(ctx context.Context, req StopRequest) error {
	l := m.currentLife()
	if l == nil {
		return nil
	}
	l.want()
	l.stopping.Store(true)
	defer l.stopping.Store(false)
	crash.Point("stop.began")
	intent, err := m.announceStop(req)
	if err != nil {
		return err
	}
	if intent == nil { // it ended by itself just now
		return m.awaitEnd(ctx, l)
	}
	target := StopTarget{
		Process:        l.process,
		Monitor:        func() *Monitor { return m.session(l) },
		MonitorChanged: func() <-chan struct{} { return m.sessionChanged(l) },
	}
	if req.Agent {
		target.DialAgent = func(ctx context.Context) (net.Conn, error) {
			return DialUnix(ctx, m.rt.layout.AgentSocket(m.name))
		}
	}
	if _, err := Climb(ctx, target, StopOptions{Graceful: req.Graceful, Timeout: req.Timeout, From: intent.Rung, Rung: m.climbed}); err != nil {
		return err
	}
	crash.Point("stop.climbed")
	return m.awaitEnd(ctx, l)
}

// announceStop writes the intent, or finds that of a stop that was interrupted.
// It is nil when the process has ended. A stop goes on also when the disk is
// full, unless a start is to follow: what is not announced is found wanting again
// later.
func (m *machine) announceStop(req StopRequest) (*Intent, error) {
	var intent *Intent
	resumed := false
	announce := func(r *Record) {
		intent, resumed = nil, false
		switch {
		case r.Process == nil:
			return
		case r.Stopping() && r.Intent.BootID == BootID():
			resumed = true
		default:
			r.Intent = &Intent{Kind: IntentStop, At: time.Now().UTC(), BootID: BootID(), Reason: req.Reason, Rung: req.firstRung()}
		}
		intent = r.Intent
	}
	if req.Restart {
		err := spareDescriptors()
		if err == nil {
			err = m.change(saveFirst, announce)
		}
		if err != nil {
			return nil, fmt.Errorf("not begun, since it could not be started again: %w", err)
		}
	} else {
		m.keep(announce)
	}
	if intent == nil {
		return nil, nil
	}
	crash.Point("stop.announced")
	m.event(EventStopping, because("stopping", intent.Reason), map[string]any{"resumed": resumed, "graceful": req.Graceful})
	crash.Point("stop.told")
	m.rt.poke()
	return intent, nil
}

// climbed notes the rung before anything is done on it: an exit that follows
// is judged by it. The first was noted with the announcement.
func (m *machine) climbed(rung string) {
	m.log.Debug("stopping", "rung", rung)
	if r := m.current(); r.Stopping() && r.Intent.Rung == rung {
		return
	}
	m.keep(func(r *Record) {
		if r.Stopping() {
			intent := *r.Intent
			intent.Rung = rung
			r.Intent = &intent
		}
	})
	m.rt.poke()
}

// awaitEnd waits until the end of a process is recorded.
func (m *machine) awaitEnd(ctx context.Context, l *life) error {
	select {
	case <-l.over:
		crash.Point("stop.done")
		return nil
	case <-ctx.Done():
	}
	if m.rt.ctx.Err() != nil {
		return errors.Join(ErrClosed, ctx.Err())
	}
	return ctx.Err()
}
