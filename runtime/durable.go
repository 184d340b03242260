package runtime

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/qemu-reconciler/qemu-reconciler/internal/crash"
)

// copiesAtOnce is how many records are brought to the disk in one round of the
// keeper; the others follow a round later. Hundreds that end at once must not take
// the disk from those that start.
const copiesAtOnce = 100

// lacks says whether the disk lacks something that a power cut must not take.
func (r *Runtime) lacks() bool {
	return r.events.lacks() || r.store.stirred.Load() ||
		slices.ContainsFunc(r.list(), func(m *machine) bool { return m.unsynced.Load() })
}

// secureAside brings to the disk what a power cut must not take and nobody waits
// for, in a goroutine of its own: the disk takes as long as it likes. There is one
// at a time.
func (r *Runtime) secureAside() {
	if !r.lacks() || r.securing.Swap(true) {
		return
	}
	r.tasks.Go(func() {
		err := r.secure()
		if before, _ := r.diskFault.note(err); err != nil && before == "" {
			r.log.Error("what happened is not on the disk yet and would be lost in a power cut", "error", withAdvice(err))
		}
		r.securing.Store(false)
		if r.lacks() { // too much for one round, or it came meanwhile
			r.soon()
		}
	})
}

// secure is one round of it.
func (r *Runtime) secure() error {
	if !r.store.trusted.Load() {
		if err := r.store.syncNames(); err != nil {
			return err
		}
	}
	var errs []error
	var placed []func()
	left := copiesAtOnce
	for _, m := range r.list() {
		if left == 0 || r.ctx.Err() != nil {
			break
		}
		if !m.unsynced.Load() {
			continue
		}
		confirm, err := m.secure()
		if errs = append(errs, err); err != nil || confirm != nil {
			left--
		}
		if confirm != nil {
			placed = append(placed, confirm)
		}
	}
	if len(placed) > 0 || r.store.stirred.Load() {
		err := r.store.syncNames()
		if errs = append(errs, err); err == nil {
			for _, confirm := range placed {
				confirm()
			}
		}
	}
	return errors.Join(append(errs, r.events.Sync())...)
}

// secure puts a durable copy of the record in place, if the one that is there lacks
// something; confirm is to be called when the names are synced as well. The disk is
// waited for without the right to write: a deed meanwhile is not held up, and when
// it has written a copy itself this one is too old.
func (m *machine) secure() (confirm func(), err error) {
	defer m.rescue(&err)
	record, number, copied := m.lacking()
	if record == nil {
		return nil, nil
	}
	temporary, err := m.rt.store.stageCopy(record, number)
	m.writing.Lock()
	defer m.writing.Unlock()
	if err != nil {
		m.wavered = true
		return nil, fmt.Errorf("record of %s: %w", m.name, err)
	}
	if m.forgotten || m.refused() != nil || m.copied != copied {
		return nil, remove(temporary)
	}
	// Until the names are synced a power cut leaves the one copy or the other.
	both := &Record{Ports: maps.Clone(copied.Ports)}
	maps.DeleteFunc(both.Ports, func(label string, port int) bool { return record.Ports[label] != port })
	m.copied = both
	if err := m.rt.store.placeCopy(m.name, temporary); err != nil {
		return nil, err
	}
	crash.Point("record.secured")
	return func() { m.confirm(both, record) }, nil
}

// lacking gives the record when its copy lacks something, with the number of the
// write that brings it there, and what the copy has.
func (m *machine) lacking() (record *Record, number uint64, copied *Record) {
	m.writing.Lock()
	defer m.writing.Unlock()
	if m.forgotten || m.refused() != nil {
		m.unsynced.Store(false)
		return nil, 0, nil
	}
	copied = m.knownCopy()
	record = m.current()
	if m.owe(record); !m.unsynced.Load() {
		return nil, 0, nil
	}
	m.wavered = false // as of now
	return record, m.rt.store.number(), copied
}

// confirm notes that the disk has the copy that was placed, unless another took
// its place.
func (m *machine) confirm(placed, record *Record) {
	m.writing.Lock()
	defer m.writing.Unlock()
	if m.copied == placed {
		m.copied = record
		m.owe(m.current())
	}
}

// owe notes whether the disk lacks something of the record as it is or is about to
// be, which the keeper then sees to. The caller holds writing.
func (m *machine) owe(record *Record) {
	lacks := m.copied == nil || m.wavered || lasting(m.copied, record)
	if before := m.unsynced.Swap(lacks); lacks && !before {
		m.rt.soon()
	}
}

// knownCopy gives what the copy on the disk has. The caller holds writing.
func (m *machine) knownCopy() *Record {
	if m.copied == nil {
		m.copied = m.rt.store.copyOf(m.name)
	}
	return m.copied
}

// portsOnDisk says whether no power cut can take any of these ports from the task.
// The caller holds writing.
func (m *machine) portsOnDisk(ports map[string]int) bool {
	for label, port := range ports {
		if m.knownCopy().Ports[label] != port {
			return false
		}
	}
	return true
}

// stageCopy brings a new durable copy of a record to the disk, under another name
// until it is placed.
func (s *Store) stageCopy(record *Record, number uint64) (temporary string, err error) {
	raw, err := encodeRecord(record, number)
	if err != nil {
		return "", err
	}
	return s.stage(s.safe(record.Task), raw, s.sync)
}

// placeCopy makes it the copy, once the names are synced also after a power cut.
func (s *Store) placeCopy(task, temporary string) error {
	defer s.stirred.Store(true)
	return place(temporary, s.safe(task))
}

// copyOf gives the record that a task's copy has on the disk; one that says
// nothing when there is none.
func (s *Store) copyOf(task string) *Record {
	record, _, err := readRecord(s.safe(task), task)
	if err == nil && !s.trusted.Load() {
		err = s.syncNames()
	}
	if err != nil {
		return &Record{}
	}
	return record
}

// syncNames brings to the disk which records and copies there are.
func (s *Store) syncNames() error {
	s.stirred.Store(false) // what comes and goes from here on is for the next time
	if err := syncDir(s.layout.TasksDir(), s.sync); err != nil {
		s.stirred.Store(true)
		return err
	}
	s.trusted.Store(true)
	return nil
}
