package runtime

import (
	"strings"
	"time"
)

// lastLines is how many of QEMU's last lines are kept with an exit.
const lastLines = 10

// end records the end of a process that was followed.
func (m *machine) end(l *life) {
	m.countMissed(l)
	m.tellReboots(l, time.Now()) // the keeper does not come by any more
	shutdown := LastShutdown(m.rt.layout.QMPLog(m.name))
	if shutdown == nil {
		shutdown = l.shutdown
	}
	status := l.process.Status()
	m.conclude(m.current().Process, Evidence{Status: status, Shutdown: shutdown}, time.Now(), func() {
		m.life, m.facts = nil, facts{}
	})
	close(l.over)
	m.rt.poke()
}

// concludeUnseen records the end of a process that ended while nobody looked.
func (m *machine) concludeUnseen(process *ProcessInfo) {
	at := time.Now()
	evidence := Evidence{OtherBoot: process.BootID != BootID()}
	if !evidence.OtherBoot {
		evidence.Shutdown = LastShutdown(m.rt.layout.QMPLog(m.name))
		if n, _ := missedResets(m.rt.layout.QMPLog(m.name), process.EventsSeen); n > 0 {
			m.keep(func(r *Record) { r.Reboots += n })
		}
	}
	if s := evidence.Shutdown; s != nil && s.At.After(process.StartedAt) && s.At.Before(at) {
		at = s.At
	}
	m.conclude(process, evidence, at, func() {})
}

// conclude judges the evidence and writes the exit down. Afterwards the record
// has no process, and no intent either.
func (m *machine) conclude(process *ProcessInfo, evidence Evidence, at time.Time, also func()) {
	evidence.Answered = process.Answered
	if intent := m.current().Intent; intent != nil && intent.Kind == IntentStop {
		evidence.Stop = intent
	}
	if !evidence.OtherBoot {
		evidence.Spoke = hasContent(m.rt.layout.QMPLog(m.name))
		evidence.Words = LastWords(m.rt.layout.QEMULog(m.name), process.LogOffset, lastLines)
	}
	exit := evidence.Exit(at.UTC())
	exit.PID, exit.StartedAt, exit.BootID = process.PID, process.StartedAt, process.BootID
	err := m.replace(saveAnyway, func(r *Record) {
		r.Process, r.Intent, r.LastExit = nil, nil, &exit
	}, also)
	if err != nil {
		m.log.Error("exit cannot be recorded", "error", err)
	}
	m.tellExit(exit)
}

func (m *machine) tellExit(exit Exit) {
	about := map[string]any{"cause": exit.Cause, "code": exit.Code, "signal": exit.Signal, "pid": exit.PID, "at": exit.At}
	if len(exit.Words) > 0 {
		about["words"] = exit.Words
	}
	switch exit.Cause {
	case CauseStopped:
		about["rung"], about["seconds"] = exit.Rung, exit.Seconds
		m.event(EventStopped, "stopped", about)
	case CauseLaunchFailed:
		m.event(EventStartFailed, "QEMU gave up: "+strings.Join(exit.Words, "; "), about)
	default:
		m.event(EventExited, "ended: "+exit.Cause, about)
	}
}

// keep changes the record come what may; it is for what has happened already.
func (m *machine) keep(edit func(*Record)) {
	if err := m.change(saveAnyway, edit); err != nil {
		m.log.Warn("record is not changed any more", "error", err)
	}
}
