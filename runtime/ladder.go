package runtime

import (
	"context"
	"net"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qemu-reconciler/qemu-reconciler/internal/crash"
)

// The rungs of the stop ladder, from the gentlest to the hardest.
const (
	RungAgent   = "agent"
	RungACPI    = "acpi"
	RungQuit    = "quit"
	RungSIGTERM = "sigterm"
	RungSIGKILL = "sigkill"
)

// rungs is their order.
var rungs = []string{RungAgent, RungACPI, RungQuit, RungSIGTERM, RungSIGKILL}

// The waits of the ladder.
const (
	// agentPatience is how long the guest agent may take to answer, and then
	// to object to an order; never more than a quarter of the whole time.
	agentPatience = time.Second
	// monitorSilence is how long QMP may be lost or mute before the button is
	// given up. It is longer than the pauses that a busy host or a slow disk
	// cause, as what follows costs the guest its orderly end.
	monitorSilence = 10 * time.Second
	// rungPatience is how long quit and SIGTERM may take.
	rungPatience = 2 * time.Second
	// The power button is pressed every pressFirst for the first second: a
	// press before the firmware enabled the button is lost, and most stops so
	// early are tests and typing errors. Then ever more slowly, up to
	// pressLast.
	pressFirst = 100 * time.Millisecond
	pressLast  = 3 * time.Second
)

// Stoppable is a process, as far as the ladder needs it; a *Process.
type Stoppable interface {
	Done() <-chan struct{}
	Signal(unix.Signal) error
}

// StopTarget is the VM that is to be stopped.
type StopTarget struct {
	Process Stoppable
	// Monitor gives the QMP session; nil while there is none.
	Monitor func() *Monitor
	// MonitorChanged gives a channel that is closed when Monitor next gives
	// another session or none. It is asked before Monitor is.
	MonitorChanged func() <-chan struct{}
	// DialAgent connects to the guest agent's socket; nil when the VM has no
	// agent channel.
	DialAgent func(context.Context) (net.Conn, error)
}

// StopOptions say how the VM is to be stopped.
type StopOptions struct {
	// Graceful asks the guest before it is forced; else the ladder begins at
	// quit.
	Graceful bool
	// Timeout is how long the guest is asked. Zero or less does not ask it.
	Timeout time.Duration
	// From is the rung that an earlier climb was on: one of force is where this
	// one begins; after any other, and empty, the guest is asked anew.
	From string
	// Rung is called when a rung begins, before anything is done on it; nil
	// calls nothing.
	Rung func(rung string)
}

// Climb stops a VM: it goes up the ladder until the process has ended, and
// says which rung was in force then (empty when it had ended before). When ctx
// ends first it leaves the VM as it is and returns ctx's error; the rung is
// the one it was on. Another error means that the process cannot be killed.
func Climb(ctx context.Context, target StopTarget, opts StopOptions) (rung string, err error) {
	if isClosed(target.Process.Done()) {
		return "", nil
	}
	alive, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		defer cancel()
		select {
		case <-target.Process.Done():
		case <-alive.Done():
		}
	}()
	l := &ladder{target: target, opts: opts}
	err = l.climb(alive)
	if isClosed(target.Process.Done()) {
		return l.rung, nil
	}
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	return l.rung, err
}

func isClosed(ch <-chan struct{}) bool {
	select {
	case <-ch:
		return true
	default:
		return false
	}
}

// ladder is one climb.
type ladder struct {
	target StopTarget
	opts   StopOptions
	rung   string
}

// begin announces a rung; false when there is nothing left to do on it.
func (l *ladder) begin(ctx context.Context, rung string) bool {
	if ctx.Err() != nil {
		return false
	}
	crash.Point("stop.rung")
	l.rung = rung
	if l.opts.Rung != nil {
		l.opts.Rung(rung)
	}
	return true
}

// reaches says whether a rung is not below the one where this climb begins.
func (l *ladder) reaches(rung string) bool {
	return slices.Index(rungs, rung) >= slices.Index(rungs, l.opts.From)
}

// climb goes up the rungs until ctx ends, which it does with the process.
func (l *ladder) climb(ctx context.Context) error {
	if l.reaches(RungACPI) && l.opts.Graceful && l.opts.Timeout > 0 {
		l.ask(ctx)
	}
	if l.reaches(RungQuit) && l.begin(ctx, RungQuit) {
		l.quit(ctx)
	}
	if l.reaches(RungSIGTERM) && l.begin(ctx, RungSIGTERM) {
		l.terminate(ctx)
	}
	if l.begin(ctx, RungSIGKILL) {
		crash.Point("stop.sigkill.noted")
		if err := l.target.Process.Signal(unix.SIGKILL); err != nil {
			return err
		}
		crash.Point("stop.sigkill.sent")
		<-ctx.Done()
	}
	return nil
}

// ask asks the guest to power off, for the whole of the timeout. A guest whose
// agent took the order and that still runs at half time is asked by the button
// as well: an agent's word is not a power-off.
func (l *ladder) ask(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, l.opts.Timeout)
	defer cancel()
	half := time.Now().Add(l.opts.Timeout / 2)
	if l.target.DialAgent != nil && l.orderByAgent(ctx) {
		pause(ctx, time.Until(half))
	}
	if l.begin(ctx, RungACPI) {
		crash.Point("stop.acpi.noted")
		l.press(ctx)
	}
}

// orderByAgent says whether the agent took the order to power off. The rung
// begins when the agent has answered: one that is not there is no rung.
func (l *ladder) orderByAgent(ctx context.Context) bool {
	patience := min(agentPatience, l.opts.Timeout/4)
	answering, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	conn, err := l.target.DialAgent(answering)
	if err != nil {
		return false
	}
	agent, err := NewAgent(answering, conn)
	if err != nil {
		return false
	}
	// Whatever is unread is of no interest any more.
	defer func() { _ = agent.Close() }()
	if !l.begin(ctx, RungAgent) {
		return false
	}
	crash.Point("stop.agent.noted")
	objecting, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	err = agent.Shutdown(objecting)
	crash.Point("stop.agent.ordered")
	return err == nil
}

// quit tells QEMU to end, once in every session that there is within the
// rung's time: one may just be coming up.
func (l *ladder) quit(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, rungPatience)
	defer cancel()
	crash.Point("stop.quit.noted")
	var m *Monitor
	for {
		if m = l.session(ctx, m); m == nil {
			return
		}
		err := m.Execute(ctx, "quit", nil, nil)
		crash.Point("stop.quit.sent") // QEMU may have ended before its answer was heard
		if err == nil {
			<-ctx.Done()
			return
		}
	}
}

// terminate sends SIGTERM and gives it its time.
func (l *ladder) terminate(ctx context.Context) {
	crash.Point("stop.sigterm.noted")
	if l.target.Process.Signal(unix.SIGTERM) != nil {
		return
	}
	crash.Point("stop.sigterm.sent")
	pause(ctx, rungPatience)
}

// session waits for a QMP session that lasts, other than the given one; nil
// when ctx ended first.
func (l *ladder) session(ctx context.Context, other *Monitor) *Monitor {
	for {
		changed := l.target.MonitorChanged()
		m := l.target.Monitor()
		if m != nil && m != other && m.Err() == nil {
			return m
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
}

// pause waits; false when ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}
