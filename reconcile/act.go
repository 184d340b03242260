package reconcile

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/qemu-reconciler/qemu-reconciler/internal/crash"
	"github.com/qemu-reconciler/qemu-reconciler/runtime"
	"github.com/qemu-reconciler/qemu-reconciler/spec"
)

// unknownKillTimeout is how long a guest is asked of which no definition is
// known; it is the default of kill_timeout.
const unknownKillTimeout = time.Minute

// The waits after a step that failed for the host's sake, doubled from the
// first to the last.
const (
	faultDelay    = time.Second
	faultMaxDelay = 30 * time.Second
)

// begin carries out the step of a verdict in a goroutine of its own; the pass
// goes on. The caller holds e.mu.
func (e *Engine) begin(ctx context.Context, v *Verdict) {
	deed := e.deed(v)
	task, wanted := v.Task, (*spec.Task)(nil)
	if v.Want != nil {
		wanted = v.Want.Task
	}
	e.busy[task] = v.Step
	if v.Step == StepStart {
		e.starting[task] = wanted
	}
	delete(e.asked, task)
	e.work.Go(func() {
		err := guard(ctx, deed)
		e.done(task, wanted, err)
	})
}

// deed is how a step is carried out. A panic on the way to it is the task's
// failure, as one in it is. The caller holds e.mu.
func (e *Engine) deed(v *Verdict) (deed func(context.Context) error) {
	defer func() {
		if cause := recover(); cause != nil {
			err := bug(cause)
			deed = func(context.Context) error { return err }
		}
	}()
	switch v.Step {
	case StepStart:
		return e.startDeed(v)
	case StepStop:
		return e.stopDeed(v)
	case StepRecord:
		return e.recordDeed(v)
	case StepGiveUp:
		return func(context.Context) error {
			return e.cfg.Machines.Update(v.Task, func(r *runtime.Record) { r.GaveUp = true })
		}
	case StepKeep:
		return func(context.Context) error { return e.keep(v.Task, true) }
	case StepReturn:
		return func(context.Context) error { return e.keep(v.Task, false) }
	case StepForget:
		return func(context.Context) error { return e.forget(v.Task) }
	}
	return func(context.Context) error { return fmt.Errorf("there is no step %q", v.Step) }
}

// done ends a step: what failed waits, longer each time, unless the daemon is
// ending anyway.
func (e *Engine) done(task string, wanted *spec.Task, err error) {
	e.mu.Lock()
	delete(e.busy, task)
	delete(e.starting, task)
	switch {
	case err == nil:
		delete(e.faults, task)
	case !errors.Is(err, context.Canceled):
		delay := min(max(2*e.faults[task].Delay, faultDelay), faultMaxDelay)
		e.faults[task] = Fault{Reason: firstLine(err.Error()), Until: time.Now().Add(delay), Delay: delay, wanted: wanted}
		e.cfg.Log.Error("step failed", "task", task, "error", err, "again_in", delay)
	}
	e.mu.Unlock()
	e.Poke()
}

// startDeed starts the QEMU of a task.
func (e *Engine) startDeed(v *Verdict) func(context.Context) error {
	want, policy, fresh := v.Want, v.ByPolicy, v.Fresh
	restart := want.Task.Restart
	req := runtime.StartRequest{
		Task: v.Task, File: want.File, Labels: want.Task.Dynamic(), Reserved: e.reserved, Reason: v.Change.Reason,
		Wanted: func(allocated map[string]int) (*spec.Task, []spec.Diagnostic) {
			if want.Definition == nil {
				return want.Task, nil
			}
			return want.Definition.Bind(allocated)
		},
		Record: func(r *runtime.Record) {
			switch {
			case policy:
				countAttempt(r, restart, time.Now())
			case fresh:
				r.Attempts, r.GaveUp = nil, false
			}
		},
	}
	starts := e.starts
	return func(ctx context.Context) error {
		select {
		case starts <- struct{}{}:
			defer func() { <-starts }()
		case <-ctx.Done():
			return ctx.Err()
		}
		began := time.Now()
		err := e.cfg.Machines.Start(ctx, req)
		if err != nil && e.onRecord(req.Task, began) {
			return nil // the restart policy says when to try again
		}
		return err
	}
}

// onRecord says whether a start that failed has left an exit for the restart
// policy to judge.
func (e *Engine) onRecord(task string, began time.Time) bool {
	rec := e.cfg.Machines.Observe()[task].Record
	return rec != nil && rec.LastExit != nil && !rec.LastExit.At.Before(began)
}

// stopDeed climbs the stop ladder. How it is climbed is the wanted policy's
// say, else that of the last good definition.
func (e *Engine) stopDeed(verdict *Verdict) func(context.Context) error {
	v, task := *verdict, verdict.Task
	var policy *spec.Task
	switch {
	case v.Want != nil:
		policy = v.Want.Task
	case v.Record.Wanted != nil:
		policy = v.Record.Wanted
	default: // nothing is known of it: the gentlest treatment
		policy = &spec.Task{KillTimeout: spec.Duration(unknownKillTimeout)}
		policy.Config.GracefulShutdown = true
	}
	req := runtime.StopRequest{
		Reason: v.Change.Reason, Graceful: policy.Config.GracefulShutdown, Timeout: time.Duration(policy.KillTimeout),
		Agent: v.Record.Applied != nil && v.Record.Applied.Config.GuestAgent,
	}
	// What is wanted instead is written down first: should its file break
	// while the guest shuts down, the latest good definition is the one that
	// starts.
	remember := v.Want != nil && v.Want.Definition != nil && v.Record.Wanted != nil && redefined(v.Record.Wanted, v.Want.Task)
	// A stop once begun finishes, whatever comes after it.
	restart := v.Want != nil && v.Change.Action == ActionRestart && v.Record.Intent == nil
	removal := v.Removal != nil
	req.Restart = restart
	return func(ctx context.Context) error {
		if restart {
			if _, err := e.cfg.Machines.Preview(v.Want.Task, v.Record); err != nil {
				return fmt.Errorf("not restarted, as it could not be started again: %w", err)
			}
			crash.Point("replace.proved")
		}
		if removal {
			e.saveRemovals() // so that it counts also when this daemon dies now
			if e.isBack(task) {
				return nil
			}
		}
		if remember {
			err := e.cfg.Machines.Update(task, func(r *runtime.Record) { r.File, r.Wanted = v.Want.File, v.Want.Task })
			switch {
			case err != nil && restart:
				// What cannot be written down could not be started either.
				return fmt.Errorf("not restarted, since its new definition cannot be written down: %w", err)
			case err != nil:
				e.cfg.Log.Warn("the new definition could not be written down; stopping all the same", "task", task, "error", err)
			}
			crash.Point("replace.remembered")
		}
		err := e.cfg.Machines.Stop(ctx, task, req)
		if restart {
			crash.Point("replace.stopped")
		}
		return err
	}
}

// isBack says whether a file has the task again that was to be removed: a slow disk
// leaves time for that.
func (e *Engine) isBack(task string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.world(time.Now()).wants()[task] != nil
}

// recordDeed writes down a definition whose change touches no QEMU.
func (e *Engine) recordDeed(v *Verdict) func(context.Context) error {
	verdict := *v
	return func(context.Context) error { return e.define(verdict) }
}

func (e *Engine) define(v Verdict) error {
	alive := v.Record != nil && v.Record.Process != nil
	crash.Point("define.began")
	err := e.cfg.Machines.Update(v.Task, func(r *runtime.Record) {
		r.File, r.Wanted = v.Want.File, v.Want.Task
		if alive {
			r.Applied = v.Want.Task
		} else {
			r.Attempts, r.GaveUp = nil, false
		}
	})
	crash.Point("define.recorded")
	if err == nil && v.Change.Action == ActionLive {
		e.cfg.Machines.Event("changed", v.Task, "applied without touching QEMU: "+v.Change.Reason, nil)
	}
	return err
}

// keep lets go of a VM that stays, or takes it back.
func (e *Engine) keep(task string, kept bool) error {
	err := e.cfg.Machines.Update(task, func(r *runtime.Record) { r.Kept = kept })
	switch {
	case err != nil:
	case kept:
		crash.Point("keep.recorded")
		e.cfg.Machines.Event("kept", task, "no file defines it any more; its VM is left running (on_remove = \"keep\")", nil)
	default:
		crash.Point("return.recorded")
		e.cfg.Machines.Event("returned", task, "a file defines it again; its VM is taken back as it is", nil)
	}
	return err
}

func (e *Engine) forget(task string) error {
	err := e.cfg.Machines.Forget(task)
	e.mu.Lock()
	delete(e.asked, task) // meant for the one that is gone
	e.mu.Unlock()
	if err == nil {
		e.cfg.Machines.Event("removed", task, "no file defines it any more; its ports are free, its disk is untouched", nil)
	}
	crash.Point("forget.told")
	return err
}

func findDefinition(definitions []*spec.Definition, name string) (int, bool) {
	return slices.BinarySearchFunc(definitions, name, func(d *spec.Definition, name string) int {
		return strings.Compare(d.Task.Name, name)
	})
}
