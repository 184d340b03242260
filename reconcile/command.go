package reconcile

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/qemu-reconciler/qemu-reconciler/runtime"
	"github.com/qemu-reconciler/qemu-reconciler/spec"
)

// heldAtOnce is how many records are written at the same time for a command. Each
// that waits for the disk is a thread.
const heldAtOnce = 8

// UnknownTaskError names tasks of a command that neither a file nor a record
// knows.
type UnknownTaskError struct{ Names []string }

// Error implements error.
func (e *UnknownTaskError) Error() string {
	return "unknown task: " + strings.Join(e.Names, ", ")
}

// TaskError says why a command could not be carried out for a task.
type TaskError struct{ Task, Reason string }

// Error implements error.
func (e *TaskError) Error() string { return e.Task + ": " + e.Reason }

// StopTasks holds tasks stopped until StartTasks, or until they are removed.
// With wait it returns when their VMs are off.
func (e *Engine) StopTasks(ctx context.Context, names []string, wait bool) error {
	if err := e.known(ctx, names); err != nil {
		return err
	}
	if err := e.setHeld(names, true); err != nil {
		return err
	}
	e.Poke()
	if !wait {
		return nil
	}
	return e.await(ctx, names, func(t *TaskStatus) (bool, error) { return t.PID == 0 && t.Phase != PhaseStopping, nil })
}

// StartTasks lifts the operator's hold and starts what is down, whatever the
// restart policy thinks of it. With wait it returns when QMP has answered.
func (e *Engine) StartTasks(ctx context.Context, names []string, wait bool) error {
	return e.ask(ctx, names, AskStart, wait)
}

// RestartTasks stops and starts tasks now, as gracefully as their definitions
// say; one that is down is started. With wait it returns when QMP has answered
// in the new processes.
func (e *Engine) RestartTasks(ctx context.Context, names []string, wait bool) error {
	return e.ask(ctx, names, AskRestart, wait)
}

func (e *Engine) ask(ctx context.Context, names []string, ask Ask, wait bool) error {
	if err := e.known(ctx, names); err != nil {
		return err
	}
	tasks := e.tasks()
	for _, name := range names {
		if err := startable(name, tasks[name]); err != nil {
			return err
		}
	}
	before := map[string]int{}
	e.mu.Lock()
	for _, name := range names {
		pid := tasks[name].PID
		if ask == AskRestart {
			before[name] = pid
		}
		delete(e.faults, name)
		// Before the hold is lifted: a pass that comes in between would start the
		// task unasked, and what was asked for would never be taken up.
		if ask == AskRestart || pid == 0 {
			e.asked[name] = ask
		}
	}
	e.mu.Unlock()
	if err := e.setHeld(names, false); err != nil {
		e.mu.Lock()
		for _, name := range names {
			delete(e.asked, name)
		}
		e.mu.Unlock()
		return err
	}
	e.Poke()
	if !wait {
		return nil
	}
	return e.await(ctx, names, func(t *TaskStatus) (bool, error) {
		waiting, fault := e.isAsked(t.Name)
		if fault != "" {
			return true, &TaskError{Task: t.Name, Reason: fault}
		}
		if waiting || t.PID != 0 && t.PID == before[t.Name] {
			return false, nil
		}
		switch t.Phase {
		case PhaseRunning:
			return true, nil
		case PhaseBackoff, PhaseFailed:
			return true, &TaskError{Task: t.Name, Reason: t.Reason}
		case PhaseStopped:
			return true, &TaskError{Task: t.Name, Reason: "it has ended again: " + t.Reason}
		}
		return false, nil
	})
}

// StopAll stops every VM gracefully, and starts none any more. It returns when
// all are off.
func (e *Engine) StopAll(ctx context.Context) error {
	e.mu.Lock()
	e.stop = true
	e.mu.Unlock()
	e.Poke()
	for {
		e.mu.Lock()
		left := []string{}
		w, verdicts := e.judgeNow()
		for _, v := range verdicts {
			o := w.Observed[v.Task]
			if o.Alive && o.Refused == "" && !v.Hidden || e.busy[v.Task] != StepNone {
				left = append(left, v.Task)
			}
		}
		passed := e.passed
		e.mu.Unlock()
		if len(left) == 0 {
			return nil
		}
		select {
		case <-passed:
		case <-ctx.Done():
			return fmt.Errorf("still running: %s", strings.Join(left, ", "))
		}
	}
}

// Settled returns the status as soon as everything has converged, or nothing
// more will happen by itself, or ctx is done.
func (e *Engine) Settled(ctx context.Context) Status {
	for {
		e.mu.Lock()
		w, verdicts := e.judgeNow()
		status := e.statusOf(w, verdicts)
		moving := e.looksDone == 0 || e.look || e.looking != nil || len(e.busy) > 0 || w.Set.Unsettled
		for _, v := range verdicts {
			moving = moving || !v.Hidden && !v.Converged && !v.Final
		}
		passed := e.passed
		e.mu.Unlock()
		if !moving {
			return status
		}
		select {
		case <-passed:
		case <-ctx.Done():
			return status
		}
	}
}

// await looks after every pass until each task is done or failed.
func (e *Engine) await(ctx context.Context, names []string, done func(*TaskStatus) (bool, error)) error {
	var failures []error
	left := slices.Clone(names)
	for {
		e.mu.Lock()
		passed := e.passed
		e.mu.Unlock()
		status := e.Status()
		left = slices.DeleteFunc(left, func(name string) bool {
			i := slices.IndexFunc(status.Tasks, func(t TaskStatus) bool { return t.Name == name })
			t := &TaskStatus{Name: name, Desired: "absent", Phase: PhaseStopped, Reason: "no task file defines it any more"}
			if i >= 0 {
				t = &status.Tasks[i]
			}
			ok, err := done(t)
			if err != nil {
				failures = append(failures, err)
			}
			return ok
		})
		if len(left) == 0 {
			return errors.Join(failures...)
		}
		select {
		case <-passed:
		case <-ctx.Done():
			return fmt.Errorf("not done yet: %s: %w", strings.Join(left, ", "), ctx.Err())
		}
	}
}

// known refuses names that nobody knows. Before it does, it looks at the
// directory once more: the file may have been dropped this instant.
func (e *Engine) known(ctx context.Context, names []string) error {
	if len(e.strangers(names)) == 0 {
		return nil
	}
	if err := e.nextLook(ctx); err != nil {
		return err
	}
	if unknown := e.strangers(names); len(unknown) > 0 {
		return &UnknownTaskError{Names: unknown}
	}
	return nil
}

func (e *Engine) strangers(names []string) []string {
	tasks := e.tasks()
	return slices.DeleteFunc(slices.Clone(names), func(name string) bool {
		_, ok := tasks[name]
		return ok
	})
}

// tasks are those of the status, by name.
func (e *Engine) tasks() map[string]TaskStatus {
	tasks := map[string]TaskStatus{}
	for _, t := range e.Status().Tasks {
		tasks[t.Name] = t
	}
	return tasks
}

// startable refuses to start what the files want stopped, or what they do not
// define soundly.
func startable(name string, t TaskStatus) error {
	switch {
	case t.Desired == spec.StateStopped:
		return &TaskError{name, fmt.Sprintf("its file says state = \"stopped\"; edit %s to start it", t.File)}
	case t.Desired == "absent":
		return &TaskError{name, "no task file defines it any more; put it back to start it"}
	case t.Phase == PhaseFailed && t.UUID == "" && t.LastExit == nil:
		return &TaskError{name, t.Reason}
	}
	return nil
}

// setHeld holds tasks, or lets them go. Each is on the disk when it returns, and
// they go there side by side: a file system syncs many at once in the time of
// one.
func (e *Engine) setHeld(names []string, held bool) error {
	e.mu.Lock()
	w, verdicts := e.judgeNow()
	e.mu.Unlock()
	wants := map[string]*Want{}
	for _, v := range verdicts {
		wants[v.Task] = v.Want
	}
	errs := make([]error, len(names))
	room := make(chan struct{}, heldAtOnce)
	var work sync.WaitGroup
	for i, name := range names {
		room <- struct{}{}
		work.Go(func() {
			defer func() { <-room }()
			errs[i] = e.setOneHeld(name, held, w.Observed[name].Record, wants[name])
		})
	}
	work.Wait()
	return errors.Join(errs...)
}

func (e *Engine) setOneHeld(name string, held bool, rec *runtime.Record, want *Want) error {
	if rec == nil && !held || rec != nil && rec.Held == held && !(rec.GaveUp && !held) {
		return nil
	}
	err := e.cfg.Machines.Update(name, func(r *runtime.Record) {
		r.Held = held
		if !held {
			r.GaveUp, r.Attempts = false, nil
		}
		if r.Wanted == nil && want != nil {
			r.File, r.Wanted = want.File, want.Task
		}
	})
	if err != nil {
		return &TaskError{name, err.Error()}
	}
	kind, message := "released", "started by the operator"
	if held {
		kind, message = "held", "stopped by the operator until `start`"
	}
	e.cfg.Machines.Event(kind, name, message, nil)
	e.Poke() // it need not wait for the others
	return nil
}

// isAsked says whether an ask was not taken up yet, and why its step failed.
func (e *Engine) isAsked(name string) (waiting bool, fault string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.asked[name] != "", e.faults[name].Reason
}
