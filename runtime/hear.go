package runtime

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"
)

// rebootGap is how much later than the last reboot a reset must come to be
// another one. SeaBIOS answers a guest's reset with one of its own while it
// starts again (seen 20 to 30 ms later under TCG), and nobody can tell the two
// apart. No guest that gets as far as its own boot loader is back so soon; of
// one that only faults, some resets go uncounted.
const rebootGap = 200 * time.Millisecond

// rebootTelling is how often events tell of a task's reboots: a guest that
// triple-faults resets eleven times a second.
const rebootTelling = time.Minute

// logPiece is how much of a QMP log is read at once. Most are shorter, and those of
// hundreds are read when a daemon takes over.
const logPiece = 4 << 10

// converse listens to a session until it, the process or the runtime ends.
func (m *machine) converse(ctx context.Context, l *life, monitor *Monitor) {
	defer func() {
		m.setSession(l, nil)
		if fault := (*faultError)(nil); errors.As(monitor.Err(), &fault) {
			m.log.Error("QMP session ended", "error", fault, "stack", string(fault.stack))
		}
		if err := monitor.Close(); err != nil {
			m.log.Debug("QMP session did not close cleanly", "error", err)
		}
	}()
	m.setSession(l, monitor)
	m.countMissed(l)
	m.ask(ctx, l, monitor)
	l.greeted()
	for {
		select {
		case e, ok := <-monitor.Events():
			if !ok {
				return
			}
			m.hear(l, e)
			if e.Name == QMPStop && l.shutdown == nil {
				m.ask(ctx, l, monitor) // only QEMU knows why
			}
		case <-l.probe:
			m.ask(ctx, l, monitor)
		case <-l.process.Done():
			m.hearLast(l, monitor)
			return
		case <-ctx.Done():
			return
		}
	}
}

// hear takes note of one event.
func (m *machine) hear(l *life, e Event) {
	switch data := e.Data.(type) {
	case ShutdownEvent:
		l.shutdown = &data
	case ResetEvent:
		if data.Guest && anotherReboot(l.counted, e.At) {
			l.counted = e.At
			m.countReboots(l, 1, e.At)
		}
	}
	if e.Name == QMPResume && !m.stoppedByError() {
		m.setRunState("")
	}
}

// hearLast takes what a dead process had still said.
func (m *machine) hearLast(l *life, monitor *Monitor) {
	timer := time.NewTimer(lastWordsPatience)
	defer timer.Stop()
	for {
		select {
		case e, ok := <-monitor.Events():
			if !ok {
				return
			}
			m.hear(l, e)
		case <-timer.C:
			return
		}
	}
}

// ask asks QEMU how it is. It proves that it answers, and tells why the guest
// does not run.
func (m *machine) ask(ctx context.Context, l *life, monitor *Monitor) {
	asking, cancel := context.WithTimeout(ctx, probePatience)
	defer cancel()
	var state struct {
		Status  string `json:"status"`
		Running bool   `json:"running"`
	}
	err := monitor.Execute(asking, "query-status", nil, &state)
	switch {
	case err == nil:
		m.answered(monitor.Version())
		switch {
		case state.Running:
			state.Status = ""
			l.relief.ran(time.Now())
		case state.Status == stateIOError:
			state.Status = m.relieve(asking, l, monitor)
		}
		m.setRunState(state.Status)
	case monitor.Err() != nil || ctx.Err() != nil || l.gone():
		// The session is over, which its listener sees by itself.
	case asking.Err() != nil:
		m.setTrouble(l.silence())
		m.rt.soon() // it is asked again, and again
	default:
		m.setTrouble(err.Error())
	}
}

// answered notes that QMP has answered: only now is the VM running.
func (m *machine) answered(version string) {
	first := false
	if p := m.current().Process; p != nil && !p.Answered {
		first = true
		m.keep(func(r *Record) {
			if r.Process != nil {
				r.Process.Answered, r.Process.Version = true, version
			}
		})
	}
	changed := m.setFacts(func(f *facts) { f.answering, f.trouble = true, "" })
	if first {
		m.event(EventRunning, "QMP answers", map[string]any{"version": version})
	}
	if changed {
		m.rt.poke()
	}
}

// stoppedByError says whether the guest was last seen stopped by an I/O error. It
// is looked at more often then, and counts as running only when it was seen so.
func (m *machine) stoppedByError() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return strings.HasPrefix(m.facts.paused, stateIOError)
}

// setRunState notes why the guest's CPUs are stopped; empty when they run. It is
// QEMU's run state, and what is known beyond that after a colon.
func (m *machine) setRunState(paused string) {
	before := ""
	changed := m.setFacts(func(f *facts) { before, f.paused = f.paused, paused })
	if !changed {
		return
	}
	if paused != "" {
		status, _, _ := strings.Cut(paused, ":")
		m.event(EventPaused, "the guest is paused: "+paused, map[string]any{"status": status})
	} else {
		status, _, _ := strings.Cut(before, ":")
		m.event(EventResumed, "the guest runs again", map[string]any{"before": status})
	}
	m.rt.poke()
	m.rt.soon()
}

// countReboots counts resets by the guest up to a moment.
func (m *machine) countReboots(l *life, n int, upTo time.Time) {
	err := m.change(saveLater, func(r *Record) {
		r.Reboots += n
		if r.Process != nil {
			r.Process.EventsSeen = upTo
		}
	})
	if err != nil {
		return // forgotten or refused: nobody counts any more
	}
	m.mu.Lock()
	l.untold += n
	m.mu.Unlock()
	m.rt.soon()
}

// tellReboots writes an event about reboots, the first at once and more of them
// at long intervals, which is how often their count is brought to the disk; it
// gives the time of the next, if there is one.
func (m *machine) tellReboots(l *life, now time.Time) (next time.Time) {
	m.mu.Lock()
	n := l.untold
	if n == 0 || now.Sub(l.lastTelling) < rebootTelling {
		if n > 0 {
			next = l.lastTelling.Add(rebootTelling)
		}
		m.mu.Unlock()
		return next
	}
	l.untold, l.lastTelling = 0, now
	total := m.record.Reboots
	m.mu.Unlock()
	message := "the guest rebooted"
	if n > 1 {
		message = fmt.Sprintf("the guest rebooted %d times", n)
	}
	m.event(EventRebooted, message, map[string]any{"count": n, "reboots": total})
	m.writing.Lock()
	defer m.writing.Unlock()
	m.owe(m.current())
	return time.Time{}
}

// countMissed counts the resets that QEMU noted in its log while nobody
// listened.
func (m *machine) countMissed(l *life) {
	process := m.current().Process
	if process == nil {
		return
	}
	n, last := missedResets(m.rt.layout.QMPLog(m.name), process.EventsSeen)
	l.counted = last
	if n > 0 {
		m.countReboots(l, n, last)
	}
}

// anotherReboot says whether a reset is another reboot than the one before. A
// clock that was set back in between says nothing against it.
func anotherReboot(before, at time.Time) bool {
	gap := at.Sub(before)
	return gap < 0 || gap >= rebootGap
}

// missedResets counts the reboots in a QMP log and its predecessor that came
// after the last one that was counted, and gives the time of the last now. The
// order of the lines is the order of what happened, whatever the clock did; only
// when the one that was counted last is not among them must the times do.
func missedResets(path string, after time.Time) (n int, last time.Time) {
	var resets []time.Time
	from := -1
	for _, name := range []string{path + previousSuffix, path} {
		file, err := os.Open(name)
		if err != nil {
			continue
		}
		lines := newLineReader(bufio.NewReaderSize(file, logPiece), maxMonitorLine)
		for line, err := lines.next(); err == nil; line, err = lines.next() {
			if at, ok := guestReset(line); ok {
				resets = append(resets, at)
				if at.Equal(after) {
					from = len(resets)
				}
			}
		}
		// The file was only read.
		_ = file.Close()
	}
	last = after
	for _, at := range resets[max(from, 0):] {
		if from < 0 && at.Before(after) {
			continue
		}
		if anotherReboot(last, at) {
			n, last = n+1, at
		}
	}
	return n, last
}

// guestReset says whether a line of a QMP log is a reset by the guest.
func guestReset(line []byte) (at time.Time, ok bool) {
	var msg message
	if !bytes.Contains(line, []byte(QMPReset)) || json.Unmarshal(line, &msg) != nil || msg.Event != QMPReset {
		return time.Time{}, false
	}
	e := decodeEvent(msg)
	reset, ok := e.Data.(ResetEvent)
	return e.At, ok && reset.Guest
}
