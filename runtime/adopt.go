package runtime

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"sync"

	"github.com/qemu-reconciler/qemu-reconciler/internal/crash"
)

// adopt takes charge of everything that runs, as the records and the processes
// themselves tell it. It speaks to no QEMU: hundreds are known within
// milliseconds. An error means that it cannot be seen what runs.
func (r *Runtime) adopt(stored Stored) error {
	all, err := OurProcesses(r.layout)
	if err != nil {
		return fmt.Errorf("it cannot be seen what runs: %w", withAdvice(err))
	}
	running := map[string][]Found{}
	for _, found := range all {
		running[found.Task] = append(running[found.Task], found)
	}
	for task, reason := range stored.Corrupt {
		r.log.Error("record is corrupt", "task", task, "error", reason)
		r.Event(EventRecordCorrupt, task, reason.Error(), nil)
	}
	for task, reason := range stored.Untouchable {
		r.leaveAlone(task, reason, running[task])
	}
	records := maps.Clone(stored.Records)
	restored := r.restore(stored, running)
	maps.Copy(records, restored)
	crash.Point("adopt.restored")
	r.adoptPorts(records)
	// A task whose process is between fork and exec is waited for; the others
	// need not wait for it.
	var waiting sync.WaitGroup
	for task, record := range records {
		m := newMachine(r, record)
		r.machines[task] = m
		if restored[task] != nil {
			m.keep(func(*Record) {}) // it is written at once
			crash.Point("adopt.rewritten")
		}
		if record.Process == nil && record.Intent != nil {
			waiting.Go(func() { m.adopt(running[task]) })
		} else {
			m.adopt(running[task])
		}
	}
	waiting.Wait()
	return nil
}

// adoptPorts takes the ports of all records as given. Where two have the same
// one, whose doing may only be somebody's with an editor, it is that of the task
// with a process; the other is told at its next start.
func (r *Runtime) adoptPorts(records map[string]*Record) {
	tasks := slices.SortedFunc(maps.Keys(records), func(a, b string) int {
		idle := func(task string) int {
			if records[task].Process == nil {
				return 1
			}
			return 0
		}
		return cmp.Or(cmp.Compare(idle(a), idle(b)), cmp.Compare(a, b))
	})
	for _, task := range tasks {
		ports := records[task].Ports
		if had := r.ports.offer(task, ports); len(had) != len(ports) {
			r.log.Warn("another task has some of this one's ports", "task", task, "ports", ports, "left", had)
		}
	}
}

// restore makes records for tasks whose own is corrupt or gone: of the copy
// that a durable write left, and else of nothing, when a process is all there
// is.
func (r *Runtime) restore(stored Stored, running map[string][]Found) map[string]*Record {
	out := map[string]*Record{}
	for task, spare := range stored.Spare {
		out[task] = spare.standIn()
	}
	for task := range running {
		if stored.Records[task] == nil && stored.Untouchable[task] == nil && out[task] == nil {
			out[task] = &Record{Version: RecordVersion, Task: task}
		}
	}
	for task := range out {
		r.log.Warn("record was lost and is made anew", "task", task, "processes", len(running[task]))
	}
	return out
}

// leaveAlone shows a task whose record may not be touched, and its process.
func (r *Runtime) leaveAlone(task string, reason error, running []Found) {
	m := newMachine(r, &Record{Version: RecordVersion, Task: task})
	var process *ProcessInfo
	if len(running) > 0 {
		process = m.infoOf(running[0])
	}
	m.refuse(reason, process)
	r.machines[task] = m
	r.log.Error("task is left alone", "task", task, "error", reason)
}

// adopt finds out what became of a task's process while nobody looked.
func (m *machine) adopt(running []Found) {
	var fault error
	defer m.rescue(&fault)
	record := m.current()
	switch intent := record.Intent; {
	case record.Process != nil:
		m.adoptOrWait(func() error { return m.adoptRecorded(record.Process, running) })
	case intent != nil && intent.Kind == IntentStart:
		m.adoptStarted(intent)
	case intent != nil: // what was to be stopped is gone
		m.keep(func(r *Record) { r.Intent = nil })
	}
	for _, found := range running {
		switch l := m.currentLife(); {
		case m.untouchable() != nil:
			return
		case l == nil:
			m.adoptOrWait(func() error {
				crash.Point("adopt.environment.found")
				// Where its words begin went with the record: those before may be another's.
				return m.adoptFound(found, "environment", logSize(m.rt.layout.QEMULog(m.name)))
			})
			crash.Point("adopt.environment.written")
		case l.process.PID() != found.PID:
			m.log.Error("a second QEMU carries the name of this task and is left alone", "pid", found.PID)
		}
	}
}

// adoptRecorded looks for the very process that the record names. An error means
// that it may be there and cannot be watched now.
func (m *machine) adoptRecorded(info *ProcessInfo, running []Found) error {
	open := func() (*Process, error) { return info.open(m.rt.layout, m.name) }
	if slices.ContainsFunc(running, func(f Found) bool { return f.PID == info.PID && f.StartTicks == info.StartTicks }) {
		// It was seen to be the task's just now.
		open = func() (*Process, error) { return OpenProcess(info.PID, info.StartTicks, info.BootID) }
	}
	p, err := open()
	switch {
	case err == nil:
		crash.Point("adopt.recorded")
		m.tellAdoption(info, "record") // before anything is heard from it
		crash.Point("adopt.told")
		m.resume(p)
	case errors.Is(err, ErrGone):
		crash.Point("adopt.unseen")
		m.concludeUnseen(info)
	default:
		return fmt.Errorf("process %d cannot be watched: %w", info.PID, withAdvice(err))
	}
	return nil
}

// logSize is the size of a log in bytes, zero when there is none.
func logSize(path string) int64 {
	info, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return info.Size()
}

// adoptFound makes a process the record's that the record did not know of, whose
// output begins at an offset of qemu.log in bytes. An error means that it cannot be
// watched now.
func (m *machine) adoptFound(found Found, by string, logOffset int64) error {
	p, err := OpenProcess(found.PID, found.StartTicks, BootID())
	if errors.Is(err, ErrGone) {
		m.keep(func(r *Record) { r.Intent = nil })
		return nil
	}
	if err != nil {
		return fmt.Errorf("process %d cannot be watched: %w", found.PID, withAdvice(err))
	}
	info := m.infoOf(found)
	info.LogOffset = logOffset
	ports := m.regain(found)
	m.begin(p, func(r *Record) {
		r.Process, r.Intent, r.Ports = info, nil, ports
		if r.UUID == "" {
			r.UUID = argumentOf(found.Argv, "-uuid")
		}
	}, func() { m.tellAdoption(info, by) })
	return nil
}

// regain gives the allocated ports of a process that was found: those of the
// record, and those that the process was marked with, which are all when the
// record was lost.
func (m *machine) regain(found Found) map[string]int {
	ports := maps.Clone(found.Ports)
	maps.DeleteFunc(ports, func(_ string, port int) bool { return port < 1 || port > 65535 })
	had := m.rt.ports.offer(m.name, ports)
	if had == nil {
		had = map[string]int{}
	}
	maps.Copy(had, m.current().Ports)
	return had
}

func (m *machine) tellAdoption(info *ProcessInfo, by string) {
	m.event(EventAdopted, fmt.Sprintf("adopted pid %d", info.PID), map[string]any{"pid": info.PID, "by": by})
}

// infoOf describes a process by what runs, as far as the record does not.
func (m *machine) infoOf(found Found) *ProcessInfo {
	info := found.info()
	if record := m.current(); record.Applied != nil {
		info.Forwards = record.Applied.Forwards(record.Ports)
	}
	return info
}

// info is what a process tells of itself.
func (f Found) info() *ProcessInfo {
	return &ProcessInfo{
		PID: f.PID, StartTicks: f.StartTicks, BootID: BootID(), StartedAt: startedAt(f.StartTicks),
		Argv: f.Argv, Format: imageFormatOf(f.Argv), Forwards: forwardsOf(f.Argv),
	}
}
