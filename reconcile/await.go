package reconcile

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

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

// await looks after every pass until each task is done or has a fault. failed has
// those that have one already, and gets the others; the error is that of ctx.
func (e *Engine) await(ctx context.Context, names []string, failed map[string]string, done func(*outlook) (bool, string)) error {
	left := slices.Clone(names)
	for {
		e.mu.Lock()
		passed := e.passed
		e.mu.Unlock()
		tasks := e.tasks()
		left = slices.DeleteFunc(left, func(name string) bool {
			if failed[name] != "" {
				return true
			}
			t, known := tasks[name]
			if !known {
				t.TaskStatus = TaskStatus{Name: name, Desired: "absent", Phase: PhaseStopped, Reason: "no task file defines it any more"}
			}
			ok, fault := done(&t)
			if fault != "" {
				failed[name] = fault
			}
			return ok
		})
		if len(left) == 0 {
			return nil
		}
		select {
		case <-passed:
		case <-ctx.Done():
			return fmt.Errorf("not done yet: %s: %w", strings.Join(left, ", "), ctx.Err())
		}
	}
}

// filesPatience is how long a command waits for files that are being written, or
// take long to parse, before it is refused for what they might say.
const filesPatience = 10 * time.Second

// awaitFiles waits until every file is read, and gives those that are not in time.
func (e *Engine) awaitFiles(ctx context.Context) (unread []string) {
	ctx, cancel := context.WithTimeout(ctx, filesPatience)
	defer cancel()
	for {
		e.mu.Lock()
		passed := e.passed
		if unread = nil; e.set != nil {
			unread = e.set.Writing
		}
		e.mu.Unlock()
		if len(unread) == 0 {
			return nil
		}
		select {
		case <-passed:
		case <-ctx.Done():
			return unread
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

// outlook is a task as a command sees it: how it stands, and, of the same moment,
// whether what was asked for is still to be taken up, and what its step failed of.
type outlook struct {
	TaskStatus
	asked bool
	fault string
}

// tasks are those of the status, by name.
func (e *Engine) tasks() map[string]outlook {
	e.mu.Lock()
	defer e.mu.Unlock()
	tasks := map[string]outlook{}
	for _, t := range e.statusOf(e.judgeNow()).Tasks {
		tasks[t.Name] = outlook{TaskStatus: t, asked: e.asked[t.Name] != "", fault: e.faults[t.Name].Reason}
	}
	return tasks
}
