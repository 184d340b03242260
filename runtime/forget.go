package runtime

import (
	"fmt"
	"os"

	"github.com/qemu-reconciler/qemu-reconciler/internal/crash"
)

// Update changes a task's record durably, and creates it for a task that has
// none. change must replace what the record points to and never write through
// it. Nothing is written when nothing changed. A host port that another task's
// record has is an error that names that task.
func (r *Runtime) Update(task string, change func(*Record)) error {
	return r.change(task, saveDurably, change)
}

// Write is Update for what is acted upon before it is on the disk: the record is
// written, so that a next daemon knows of it, and Secure is to be called before
// anybody is told that it is done.
func (r *Runtime) Write(task string, change func(*Record)) error {
	return r.change(task, saveFirst, change)
}

func (r *Runtime) change(task string, how saving, change func(*Record)) error {
	done, err := r.enter()
	if err != nil {
		return err
	}
	defer done()
	return r.ensure(task).change(how, change)
}

// Secure returns when no power cut can take from a task's record what it has at
// the time of the call.
func (r *Runtime) Secure(task string) error {
	done, err := r.enter()
	if err != nil {
		return err
	}
	defer done()
	m := r.find(task)
	if m == nil {
		return nil
	}
	for m.unsynced.Load() { // again when a deed or the keeper was faster
		confirm, err := m.secure()
		if err != nil {
			return err
		}
		if confirm == nil {
			continue
		}
		if err := r.store.syncNames(); err != nil {
			return err
		}
		confirm()
		return nil
	}
	return nil
}

// Forget removes the record of a task without a process, frees its ports and
// removes its sockets. Its logs stay.
func (r *Runtime) Forget(task string) error {
	done, err := r.enter()
	if err != nil {
		return err
	}
	defer done()
	m := r.find(task)
	if m == nil {
		return nil
	}
	end, err := m.take(r.ctx)
	if err != nil {
		return err
	}
	defer end()
	if err := m.forget(); err != nil {
		return fmt.Errorf("forget task %s: %w", task, err)
	}
	crash.Point("forget.done")
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.machines[task] == m {
		delete(r.machines, task)
	}
	return nil
}

// forget is what Forget does to the machine.
func (m *machine) forget() error {
	m.writing.Lock()
	defer m.writing.Unlock()
	if err := m.untouchable(); err != nil {
		return err
	}
	if p := m.current().Process; p != nil {
		return fmt.Errorf("it runs, pid %d", p.PID)
	}
	crash.Point("forget.began")
	if err := m.rt.store.Delete(m.name); err != nil {
		return err
	}
	crash.Point("forget.deleted")
	m.rt.soon() // until it is on the disk a power cut could bring it back
	m.forgotten = true
	m.unsaved.Store(false)
	m.unsynced.Store(false)
	m.rt.ports.release(m.name, m.current().Ports)
	crash.Point("forget.released")
	return os.RemoveAll(m.rt.layout.VMDir(m.name))
}
