package runtime

import (
	"strings"
	"time"

	"github.com/qemu-reconciler/qemu-reconciler/internal/crash"
)

// lastLines is how many of QEMU's last lines are kept with an exit.
const lastLines = 10

// endsAtOnce is how many ends have their logs read at a time. Hundreds that come at
// once would each be a thread.
const endsAtOnce = 4

// inTurn reads the logs of an end, of which some others are read at the same time.
func (r *Runtime) inTurn(read func()) {
	r.ends <- struct{}{}
	defer func() { <-r.ends }()
	read()
}

// end records the end of a process that was followed.
func (m *machine) end(l *life) {
	crash.Point("end.gone")
	at := time.Now()
	m.countMissed(l)
	m.tellReboots(l, time.Now()) // the keeper does not come by any more
	var shutdown *ShutdownEvent
	m.rt.inTurn(func() { shutdown = LastShutdown(m.rt.layout.QMPLog(m.name)) })
	if shutdown == nil {
		shutdown = l.shutdown
	}
	status := l.process.Status()
	m.conclude(m.current().Process, Evidence{Status: status, Shutdown: shutdown}, at, func() {
		m.life, m.facts = nil, facts{}
	})
	crash.Point("end.told")
	awaited := l.stopping.Load()
	close(l.over)
	if !awaited { // else a look would find the deed still under way
		m.rt.poke()
	}
}

// concludeUnseen writes down the end of a process that nobody watched.
func (m *machine) concludeUnseen(process *ProcessInfo) {
	if process.BootID == BootID() {
		if n, _ := missedResets(m.rt.layout.QMPLog(m.name), process.EventsSeen); n > 0 {
			m.keep(func(r *Record) { r.Reboots += n })
		}
	}
	evidence, at := unseen(m.rt.layout, m.name, process)
	m.conclude(process, evidence, at, func() {})
}

// unseen is what is left to tell of the end of a process that nobody watched,
// and when it was: what QEMU said last, else now.
func unseen(layout Layout, task string, process *ProcessInfo) (Evidence, time.Time) {
	at := time.Now()
	if process.BootID != BootID() {
		return Evidence{OtherBoot: true}, at
	}
	shutdown := LastShutdown(layout.QMPLog(task))
	if shutdown != nil && shutdown.At.After(process.StartedAt) && shutdown.At.Before(at) {
		at = shutdown.At
	}
	return Evidence{Shutdown: shutdown}, at
}

// conclude judges the evidence and writes the exit down. Afterwards the record
// has no process, and no intent either.
func (m *machine) conclude(process *ProcessInfo, evidence Evidence, at time.Time, also func()) {
	var exit Exit
	m.rt.inTurn(func() { exit = judgeEnd(m.rt.layout, m.current(), process, evidence, at) })
	crash.Point("end.judged")
	err := m.replace(saveAnyway, func(r *Record) {
		r.Process, r.Intent, r.LastExit = nil, nil, &exit
	}, also)
	if err != nil {
		m.log.Error("exit cannot be recorded", "error", err)
	}
	crash.Point("end.recorded")
	m.tellExit(exit)
}

// judgeEnd adds to the evidence what the record and the logs know, and judges
// it.
func judgeEnd(layout Layout, record *Record, process *ProcessInfo, evidence Evidence, at time.Time) Exit {
	evidence.Answered = process.Answered
	if record.Stopping() {
		evidence.Stop = record.Intent
	}
	if !evidence.OtherBoot {
		evidence.Spoke = hasContent(layout.QMPLog(record.Task))
		evidence.Words = LastWords(layout.QEMULog(record.Task), process.LogOffset, lastLines)
	}
	exit := evidence.Exit(at.UTC())
	exit.PID, exit.StartedAt, exit.BootID = process.PID, process.StartedAt, process.BootID
	return exit
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
