package runtime

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/qemu-reconciler/qemu-reconciler/internal/crash"
)

// undecidedInterval is how often it is looked again whether an interrupted
// start has become a process, after the first moments.
const undecidedInterval = 200 * time.Millisecond

// adoptStarted looks for the process of a start that was announced: it holds
// the socket that was bound for it. While somebody holds it who is no QEMU, it
// is looked again in the background: to take him for nobody would leave an
// orphan beside a second start.
func (m *machine) adoptStarted(intent *Intent) {
	patience := execPatience
	m.adoptOrWait(func() error {
		err := m.decideStarted(m.rt.ctx, intent, patience)
		patience = 0 // whoever waits for it later has other things to do
		return err
	})
}

// adoptOrWait takes charge of what runs, or tries again in the background while
// it cannot be seen or cannot be watched.
func (m *machine) adoptOrWait(adopt func() error) {
	if err := adopt(); err != nil {
		m.leaveUndecided(err)
		m.rt.tasks.Go(func() { m.decideLater(adopt) })
	}
}

// decideStarted adopts the process of an announced start, or clears the intent
// when there is none. The error is an *UndecidedError, that of ctx, or says why
// the process cannot be watched.
func (m *machine) decideStarted(ctx context.Context, intent *Intent, patience time.Duration) error {
	if intent.BootID != BootID() {
		m.keep(func(r *Record) { r.callOff(intent.At) })
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	pid, ticks, err := FindHolder(ctx, intent.SocketInode, m.name)
	switch {
	case err == nil:
		crash.Point("adopt.socket.found")
		err := m.adoptFound(foundAt(m.name, pid, ticks), "socket", intent.LogOffset)
		crash.Point("adopt.socket.written")
		return err
	case !errors.Is(err, ErrGone):
		return err
	default:
		if s := LastShutdown(m.rt.layout.QMPLog(m.name)); s != nil && s.At.After(intent.At) {
			m.concludeUnseen(&ProcessInfo{BootID: intent.BootID, StartedAt: intent.At, LogOffset: intent.LogOffset})
			return nil
		}
		crash.Point("adopt.nobody")
		m.keep(func(r *Record) { r.callOff(intent.At) })
		crash.Point("adopt.cleared")
	}
	return nil
}

// leaveUndecided keeps deeds off the task.
func (m *machine) leaveUndecided(reason error) {
	m.mu.Lock()
	m.undecided = reason
	m.mu.Unlock()
	m.setTrouble(reason.Error())
}

// noteDecided lets deeds on it again.
func (m *machine) noteDecided() {
	m.mu.Lock()
	if m.facts.trouble == m.undecided.Error() { // and not that of what was found
		m.facts.trouble = ""
	}
	m.undecided = nil
	m.mu.Unlock()
	m.rt.poke()
}

// decideLater looks until it is decided.
func (m *machine) decideLater(adopt func() error) {
	var fault error
	defer m.rescue(&fault)
	ticker := time.NewTicker(undecidedInterval)
	defer ticker.Stop()
	for {
		select {
		case <-m.rt.ctx.Done():
			return
		case <-ticker.C:
		}
		if m.decideNow(adopt) {
			return
		}
	}
}

// decideNow looks once. It is a deed, so that others find the task decided or
// not, and nothing in between.
func (m *machine) decideNow(adopt func() error) bool {
	end, err := m.take(m.rt.ctx)
	if err != nil {
		return false
	}
	defer end()
	if adopt() != nil {
		return false
	}
	m.noteDecided()
	return true
}

// UndecidedError says that a process holds the socket of a start that a dead
// daemon had begun, and is not, or not yet, the QEMU that was to be.
type UndecidedError struct {
	PID     int
	Program string
}

func (e *UndecidedError) Error() string {
	return fmt.Sprintf("it was being started when the last daemon died, and process %d (%s) still holds its socket without being its QEMU: it is waited for", e.PID, e.Program)
}
