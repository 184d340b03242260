package reconcile

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/qemu-reconciler/qemu-reconciler/runtime"
	"github.com/qemu-reconciler/qemu-reconciler/spec"
)

// writtenAtOnce is how many records are written at the same time for a command. Each
// that waits for the disk is a thread.
const writtenAtOnce = 8

// UnknownTaskError names tasks of a command that neither a file nor a record
// knows. Nothing was done for any task.
type UnknownTaskError struct{ Names []string }

// Error implements error.
func (e *UnknownTaskError) Error() string {
	return "unknown task: " + strings.Join(e.Names, ", ")
}

// CommandError says for which tasks a command was not carried out.
type CommandError struct {
	// Reasons are by task.
	Reasons map[string]string
	// Others says that it was carried out for the other tasks; else it was refused
	// before anything was done for any of them.
	Others bool
}

// Error implements error.
func (e *CommandError) Error() string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(e.Reasons)) {
		parts = append(parts, name+": "+e.Reasons[name])
	}
	return strings.Join(parts, "; ")
}

// failure is nil for no reasons.
func failure(reasons map[string]string, others bool) error {
	if len(reasons) == 0 {
		return nil
	}
	return &CommandError{Reasons: reasons, Others: others}
}

// StopTasks holds tasks stopped until StartTasks, or until they are removed.
// With wait it returns when their VMs are off.
func (e *Engine) StopTasks(ctx context.Context, names []string, wait bool) error {
	if _, err := e.allowed(ctx, names, stoppable); err != nil {
		return err
	}
	failed := e.setHeld(names, true)
	e.Poke()
	return e.answer(ctx, names, failed, wait, func(t *outlook) (done bool, fault string) {
		return t.PID == 0 && t.Phase != PhaseStopping && t.Phase != PhaseStarting, ""
	})
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
	tasks, err := e.allowed(ctx, names, startable)
	if err != nil {
		return err
	}
	before := map[string]int{} // the processes that are to end
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
	failed := e.setHeld(names, false)
	e.mu.Lock()
	for name := range failed {
		delete(e.asked, name)
	}
	e.mu.Unlock()
	e.Poke()
	return e.answer(ctx, names, failed, wait, func(t *outlook) (bool, string) { return t.upAgain(before[t.Name]) })
}

// upAgain says whether what was asked for is done, or why it will not be. before is
// the process that is to end first; zero for none.
func (t *outlook) upAgain(before int) (done bool, fault string) {
	switch {
	case t.fault != "":
		return true, t.fault
	case t.asked:
		return false, ""
	case t.Phase == PhaseRunning && t.PID != 0 && t.PID == before: // it was not taken up
		return true, joinReasons("it is not restarted", t.Reason)
	case t.PID != 0 && t.PID == before:
		return false, ""
	}
	switch t.Phase {
	case PhaseRunning:
		return true, ""
	case PhaseBackoff, PhaseFailed:
		return true, t.Reason
	case PhaseStopped:
		return true, "it has ended again: " + t.Reason
	}
	return false, ""
}

// dropAsk gives up what was asked for when it has come true by itself, or when
// nothing will come of it for as long as the world is as it is. The caller holds
// e.mu.
func (e *Engine) dropAsk(v *Verdict, o runtime.Observation) {
	ask := e.asked[v.Task]
	if ask == "" || e.busy[v.Task] != StepNone {
		return
	}
	if ask == AskStart && o.Alive || v.Step == StepNone && v.Final {
		delete(e.asked, v.Task)
	}
}

// allowed gives the status of the tasks of a command. Nothing is done for any of
// them when one is unknown or refused.
func (e *Engine) allowed(ctx context.Context, names []string, refusal func(TaskStatus, runtime.Observation) string) (map[string]outlook, error) {
	if err := e.known(ctx, names); err != nil {
		return nil, err
	}
	tasks, refused := e.refused(names, refusal)
	missed := func(name string) bool { return refused[name] != "" && tasks[name].Desired == "absent" }
	if !slices.ContainsFunc(names, missed) {
		return tasks, failure(refused, false)
	}
	// The file that defines it may be one that is still being read.
	unread := e.awaitFiles(ctx)
	tasks, refused = e.refused(names, refusal)
	for name, reason := range refused {
		if len(unread) > 0 && missed(name) {
			refused[name] = reason + "; " + strings.Join(unread, ", ") + ", which may do so, is still being written"
		}
	}
	return tasks, failure(refused, false)
}

func (e *Engine) refused(names []string, refusal func(TaskStatus, runtime.Observation) string) (tasks map[string]outlook, reasons map[string]string) {
	tasks, reasons = e.tasks(), map[string]string{}
	observed := e.cfg.Machines.Observe()
	for _, name := range names {
		if reason := refusal(tasks[name].TaskStatus, observed[name]); reason != "" {
			reasons[name] = reason
		}
	}
	return tasks, reasons
}

// stoppable refuses to stop what is none of the daemon's, or nothing at all; empty
// when it may be stopped.
func stoppable(t TaskStatus, o runtime.Observation) string {
	switch {
	case o.Refused != "":
		return o.Refused
	case o.Record != nil && o.Record.Kept && o.Alive:
		return fmt.Sprintf("its VM was let go of (on_remove = \"keep\"): put its file back first, or end process %d yourself", t.PID)
	case o.Record == nil && t.Phase == PhaseFailed:
		return t.Reason
	}
	return ""
}

// startable refuses to start what the files want stopped, or what they do not
// define soundly; empty when it may be started.
func startable(t TaskStatus, o runtime.Observation) string {
	switch {
	case t.Desired == spec.StateStopped:
		return fmt.Sprintf("its file says state = \"stopped\"; edit %s to start it", t.File)
	case t.Desired == "absent" && strings.HasPrefix(t.Reason, waitsUntil):
		return t.Reason
	case t.Desired == "absent":
		return "no task file defines it any more; put it back to start it"
	}
	return stoppable(t, o)
}

// setHeld holds tasks, or lets them go. It is written down when this returns, and
// acted upon from then on. It says why it failed, by task.
func (e *Engine) setHeld(names []string, held bool) (failed map[string]string) {
	e.mu.Lock()
	w, verdicts := e.judgeNow()
	e.mu.Unlock()
	wants := map[string]*Want{}
	for _, v := range verdicts {
		wants[v.Task] = v.Want
	}
	return sideBySide(names, func(name string) error {
		return e.setOneHeld(name, held, w.Observed[name].Record, wants[name])
	})
}

// answer says what came of a command, with wait when it is done for every task, and
// always when the disk has what was written down for it. The disk comes last: what
// guests wait for, or shut down for, is not held up by it. A power cut in between
// takes the VMs with it, and nobody was answered yet; what takes longer is on the
// disk by then.
func (e *Engine) answer(ctx context.Context, names []string, failed map[string]string, wait bool, done func(*outlook) (bool, string)) error {
	if wait {
		if err := e.await(ctx, names, failed, done); err != nil {
			return err
		}
	}
	names = slices.DeleteFunc(slices.Clone(names), func(name string) bool { return failed[name] != "" })
	for name, reason := range sideBySide(names, e.cfg.Machines.Secure) {
		failed[name] = "it is done, but a power cut would undo that, since it cannot be brought to the disk: " + reason
	}
	return failure(failed, true)
}

// sideBySide does something for many tasks: a file system syncs many files at once
// in the time of one. It says why that failed, by task.
func sideBySide(names []string, do func(name string) error) (failed map[string]string) {
	failed = map[string]string{}
	var failing sync.Mutex
	room := make(chan struct{}, writtenAtOnce)
	var work sync.WaitGroup
	for _, name := range names {
		room <- struct{}{}
		work.Go(func() {
			defer func() { <-room }()
			if err := do(name); err != nil {
				failing.Lock()
				failed[name] = err.Error()
				failing.Unlock()
			}
		})
	}
	work.Wait()
	return failed
}

func (e *Engine) setOneHeld(name string, held bool, rec *runtime.Record, want *Want) error {
	if rec == nil && !held || rec != nil && rec.Held == held && !(rec.GaveUp && !held) {
		return nil
	}
	err := e.cfg.Machines.Write(name, func(r *runtime.Record) {
		r.Held = held
		if !held {
			r.GaveUp, r.Attempts = false, nil
		}
		if r.Wanted == nil && want != nil {
			r.File, r.Wanted = want.File, want.Task
		}
	})
	if err != nil {
		return err
	}
	kind, message := "released", "started by the operator"
	if held {
		kind, message = "held", "stopped by the operator until `start`"
	}
	e.cfg.Machines.Event(kind, name, message, nil)
	e.Poke() // it need not wait for the others
	return nil
}
