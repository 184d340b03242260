package runtime

import (
	"errors"
	"fmt"
	"reflect"
)

// keepStateDirectory makes the state directory anew when somebody removed it or
// put another one in its place, and writes everything that is known into it. The
// VMs are untouched: their logs go on into files that nobody finds any more.
func (r *Runtime) keepStateDirectory() {
	if r.tasksDir.current(r.layout.TasksDir()) && r.stateLock.current(r.layout.StateLock()) {
		return
	}
	err := r.renewState()
	var locked *LockedError
	if errors.As(err, &locked) {
		r.depose(locked)
		return
	}
	if _, changed := r.stateFault.note(err); err != nil {
		if changed {
			r.log.Error("state directory was removed and cannot be made anew; everything is kept in memory", "error", withAdvice(err))
		}
		return
	}
	r.Event(EventStateRemoved, "", "the state directory was removed or replaced: it is made anew with all that is known; "+
		"the logs of VMs that run are lost until they are started again", map[string]any{"path": r.layout.State})
	r.poke()
}

// renewState makes the directory, takes the lock that went away with it, and has
// all records written by the keeper's round that follows. Between the removal and
// here only the run directory's lock keeps a second daemon off, and one that has
// a run directory of its own may have come: then it is the one that stays.
func (r *Runtime) renewState() error {
	if err := r.layout.Prepare(); err != nil {
		return err
	}
	if !r.stateLock.current(r.layout.StateLock()) {
		if err := r.stateLock.renew(r.layout.StateLock()); err != nil {
			return err
		}
	}
	if err := r.tasksDir.hold(r.layout.TasksDir()); err != nil {
		return err
	}
	for _, m := range r.list() {
		m.rewrite()
	}
	return r.rewriteNotes()
}

// rewriteNotes writes anew what concerns no single task.
func (r *Runtime) rewriteNotes() error {
	r.directory.mu.Lock()
	directory := r.directory.rewrite()
	r.directory.mu.Unlock()
	r.removals.mu.Lock()
	defer r.removals.mu.Unlock()
	return errors.Join(directory, r.removals.rewrite())
}

// depose leaves everything to the daemon that has taken the state: of two that
// act on the same VMs each would undo what the other does.
func (r *Runtime) depose(locked *LockedError) {
	reason := fmt.Errorf("the state directory was removed, and another daemon has taken it since: this one does nothing any more, end it: %w", locked)
	r.mu.Lock()
	first := r.deposed == nil
	r.deposed = reason
	r.mu.Unlock()
	if !first {
		return
	}
	r.log.Error("deposed", "error", reason)
	for _, m := range r.list() {
		m.refuse(reason, nil)
	}
	r.poke()
}

// rewrite has the record written anew, and its copy. One that says nothing was
// never written.
func (m *machine) rewrite() {
	m.writing.Lock()
	defer m.writing.Unlock()
	nothing := &Record{Version: RecordVersion, Task: m.name}
	if m.forgotten || m.refused() != nil || reflect.DeepEqual(m.current(), nothing) {
		return
	}
	m.unsaved.Store(true)
	m.copied = &Record{}
	m.owe(m.current())
}
