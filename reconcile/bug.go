package reconcile

import (
	"context"
	"fmt"
	"runtime/debug"
	"strings"

	"github.com/qemu-reconciler/qemu-reconciler/spec"
)

// bug is the error for a panic; its first line is for the operator, the rest
// for the log.
func bug(cause any) error {
	return fmt.Errorf("a bug in qemu-reconciler, please report it: %v\n%s", cause, debug.Stack())
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return line
}

// guard turns a panic of one task's work into that task's failure.
func guard(ctx context.Context, deed func(context.Context) error) (err error) {
	defer func() {
		if cause := recover(); cause != nil {
			err = bug(cause)
		}
	}()
	return deed(ctx)
}

// judgeGuarded is judge, of which a panic is that task's failure: nothing is
// done for it, and the other tasks are judged all the same.
func judgeGuarded(w *World, c func() *claims, b *brake, wants map[string]*Want, name string) (v Verdict) {
	defer func() {
		cause := recover()
		if cause == nil {
			return
		}
		fault := bug(cause).Error()
		v = Verdict{Task: name, Want: wants[name], Record: w.Observed[name].Record, Bug: fault,
			Desired: "absent", Phase: PhaseFailed, Reason: firstLine(fault), Final: true}
		v.Change = Change{Task: name, Action: ActionNone, Price: string(spec.PriceNone), Fields: []FieldChange{}}
		if v.Want != nil {
			v.Desired = v.Want.Task.State
		}
	}()
	return judge(w, c, b, wants, name)
}

// logBug writes down the stack of a task's judgement that failed, once for as
// long as it fails in the same way. The caller holds e.mu.
func (e *Engine) logBug(v *Verdict) {
	switch {
	case v.Bug == "":
		delete(e.bugs, v.Task)
	case e.bugs[v.Task] != v.Reason:
		e.bugs[v.Task] = v.Reason
		e.cfg.Log.Error("a task cannot be judged", "task", v.Task, "error", v.Bug)
	}
}
