package runtime

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/go-hclog"

	"github.com/qemu-reconciler/qemu-reconciler/internal/crash"
)

// machine is one task: its record, and its process while there is one. Deeds
// (start, stop, forget) take turns; exits, monitor events and Observe come at
// any time.
type machine struct {
	rt   *Runtime
	name string
	log  hclog.Logger

	// turn is taken for a deed.
	turn chan struct{}

	// writing is held while the record is replaced and written.
	writing sync.Mutex
	// copied is the record that the durable copy has, on the disk itself; nil as
	// long as nobody has looked. Guarded by writing.
	copied *Record
	// wavered says that since that was written a record was that differed from it,
	// and is perhaps what a power cut leaves, though the latest one differs no more.
	wavered bool
	// unsynced says that the copy lacks something that must survive a power cut.
	unsynced atomic.Bool
	// forgotten stops writes of a task that is gone; guarded by writing.
	forgotten bool
	// unsaved says that the record in memory is newer than the one on the disk.
	unsaved atomic.Bool

	// mu guards what Observe reads. It is never held over anything that waits.
	mu     sync.Mutex
	record *Record
	life   *life
	facts  facts
	// refusal says why the record and its process may not be touched at all,
	// undecided why nobody can say yet whether there is a process.
	refusal   error
	undecided error
}

// facts are what is known of a process beside its record.
type facts struct {
	answering bool
	paused    string
	trouble   string
	// unreachable says that the process has lost its sockets.
	unreachable bool
}

// newMachine makes one of a record that was found; what of it is on the disk
// itself is seen later.
func newMachine(rt *Runtime, record *Record) *machine {
	m := &machine{
		rt: rt, name: record.Task, record: record,
		log:  rt.log.With("task", record.Task),
		turn: make(chan struct{}, 1),
	}
	m.unsynced.Store(true)
	return m
}

// take waits for the machine's turn for a deed, which lasts until end is called.
func (m *machine) take(ctx context.Context) (end func(), err error) {
	select {
	case m.turn <- struct{}{}:
		return func() { <-m.turn }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// observe costs a lock that nobody holds for long.
func (m *machine) observe() Observation {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := Observation{
		Record:    m.record,
		Alive:     m.life != nil || m.untouchableLocked() != nil && m.record.Process != nil,
		Answering: m.facts.answering,
		Paused:    m.facts.paused,
		Trouble:   m.facts.trouble,
	}
	if m.refusal != nil {
		out.Refused = m.refusal.Error()
	}
	if out.Trouble == "" && m.facts.unreachable {
		out.Trouble = troubleUnreachable
	}
	return out
}

func (m *machine) current() *Record {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.record
}

func (m *machine) currentLife() *life {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.life
}

func (m *machine) refused() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.refusal
}

// refuse leaves a record and its process alone for the life of this runtime.
// process is the one that exists, as far as one is known; nil means that the
// record's stays.
func (m *machine) refuse(reason error, process *ProcessInfo) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.refusal = reason
	m.facts.trouble = reason.Error()
	if process != nil {
		m.record = m.record.clone()
		m.record.Process = process
	}
	m.rt.soon()
}

// untouchable says why no deed may begin; nil when one may.
func (m *machine) untouchable() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.untouchableLocked()
}

// untouchableLocked is untouchable for callers that hold mu.
func (m *machine) untouchableLocked() error {
	if m.refusal != nil {
		return m.refusal
	}
	return m.undecided
}

// saving says what happens when a record cannot be written.
type saving int

const (
	// saveFirst changes nothing unless it is written. The disk itself is waited
	// for only where a host port is new; what else must survive a power cut the
	// keeper brings there, so that no start waits for it.
	saveFirst saving = iota
	// saveAnyway changes the record in memory all the same; the next write, or
	// the keeper, brings the disk up to date. No VM is stopped for a full disk.
	saveAnyway
	// saveLater leaves the write to the keeper, and what the disk lacks is seen with
	// the next change or telling: for what may come in floods.
	saveLater
	// saveDurably changes nothing unless it is on the disk itself; a change that
	// changes nothing is not written.
	saveDurably
)

// change replaces the record by a copy that edit has changed. edit must
// replace what the record points to and never write through it. The error is
// nil unless nothing was changed.
func (m *machine) change(how saving, edit func(*Record)) error {
	return m.replace(how, edit, func() {})
}

// replace is change with something that becomes true at the same moment as the
// new record: also runs under mu.
func (m *machine) replace(how saving, edit func(*Record), also func()) error {
	m.writing.Lock()
	defer m.writing.Unlock()
	if m.forgotten {
		return fmt.Errorf("task %s was forgotten", m.name)
	}
	if err := m.refused(); err != nil {
		return err
	}
	before := m.current()
	after := before.clone()
	edit(after)
	after.Version, after.Task = RecordVersion, m.name
	if how == saveDurably && !m.unsaved.Load() && reflect.DeepEqual(before, after) {
		return nil
	}
	settle, err := m.exchangePorts(before.Ports, after.Ports)
	if err != nil {
		return err
	}
	if how == saveLater {
		m.unsaved.Store(true)
		m.set(after, also)
		settle(true)
		return nil
	}
	durable := how == saveDurably || how == saveFirst && !m.portsOnDisk(after.Ports)
	crash.Point("record.changing")
	err = m.rt.store.Put(after, durable)
	crash.Point("record.saved")
	switch {
	case durable && err == nil:
		m.copied, m.wavered = after, false
	case durable:
		m.copied = &Record{} // the old one or the new one
	case lasting(before, after):
		m.wavered = true
	}
	if err != nil && how != saveAnyway {
		settle(false)
		m.owe(before)
		return err
	}
	m.owe(after)
	m.set(after, also)
	settle(true)
	m.noteWrite(err)
	return nil
}

// exchangePorts keeps the table of ports to what records say. The error names
// the task that has one of the new ports already. settle says whether the new
// record counts.
func (m *machine) exchangePorts(before, after map[string]int) (settle func(changed bool), err error) {
	if maps.Equal(before, after) {
		return func(bool) {}, nil
	}
	added, gone := maps.Clone(after), maps.Clone(before)
	maps.DeleteFunc(added, func(label string, port int) bool { return before[label] == port })
	maps.DeleteFunc(gone, func(_ string, port int) bool { return slices.Contains(slices.Collect(maps.Values(after)), port) })
	fresh, err := m.rt.ports.adopt(m.name, added)
	if err != nil {
		return nil, err
	}
	return func(changed bool) {
		if changed {
			m.rt.ports.release(m.name, gone)
		} else {
			m.rt.ports.release(m.name, fresh)
		}
	}, nil
}

// noteWrite remembers whether memory is ahead of the record's file.
func (m *machine) noteWrite(err error) {
	if err == nil {
		m.unsaved.Store(false)
		return
	}
	if !m.unsaved.Swap(true) {
		m.log.Error("record cannot be written; it is kept in memory and written later", "error", err)
	}
	m.rt.soon()
}

// save writes what is only in memory, and says whether there was something and
// it succeeded.
func (m *machine) save() bool {
	if !m.unsaved.Load() {
		return false
	}
	m.writing.Lock()
	defer m.writing.Unlock()
	if m.forgotten || m.refused() != nil {
		return false
	}
	err := m.rt.store.Put(m.current(), false)
	m.noteWrite(err)
	return err == nil
}

func (m *machine) set(record *Record, also func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.record = record
	also()
}

// setFacts changes the facts and says whether that made a difference.
func (m *machine) setFacts(edit func(*facts)) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	before := m.facts
	edit(&m.facts)
	return m.facts != before
}

func (m *machine) setTrouble(trouble string) {
	if m.setFacts(func(f *facts) { f.trouble = trouble }) {
		if trouble != "" {
			m.log.Warn("trouble", "reason", trouble)
		}
		m.rt.poke()
	}
}

func (m *machine) event(kind, message string, about map[string]any) {
	m.rt.Event(kind, m.name, message, about)
}

// rescue turns a panic into this machine's trouble. It is to be deferred.
func (m *machine) rescue(err *error) {
	cause := recover()
	if cause == nil {
		return
	}
	m.log.Error("internal fault", "panic", cause, "stack", string(debug.Stack()))
	m.setTrouble(fmt.Sprintf("internal fault: %v (the daemon's log has the details)", cause))
	*err = errors.Join(*err, fmt.Errorf("task %s: internal fault: %v", m.name, cause))
}
