package reconcile

import (
	"fmt"
	"strings"

	"github.com/qemu-reconciler/qemu-reconciler/spec"
)

// judgeKept handles a task whose VM was let go of and stays.
func (j *judgement) judgeKept() {
	j.v.Hidden = true
	switch {
	case j.want != nil:
		j.v.Step = StepReturn
	case !j.o.Alive:
		j.v.Step = StepForget
	}
}

// judgeAbsent handles a task that is in no file, or not for this host.
func (j *judgement) judgeAbsent() {
	v, rec := &j.v, j.rec()
	if rec == nil {
		v.Hidden = true
		return
	}
	v.Phase = PhaseStopped
	if j.o.Alive {
		v.Phase = PhaseRunning
	}
	due := j.w.removalDue(j.name)
	v.Reason = "in no task file any more"
	if i, found := findDefinition(j.w.Set.Definitions, j.name); found {
		v.Reason = j.w.Set.Definitions[i].File + " wants it on other hosts only"
	}
	v.Change.Action, v.Change.Price, v.Change.Reason = ActionStop, "stop", v.Reason
	if !j.o.Alive {
		v.Change = Change{Task: j.name, Action: ActionNone, Price: string(spec.PriceNone), Fields: []FieldChange{}}
	}
	file := j.w.brokenFile()
	switch {
	case rec.Wanted == nil && j.o.Alive:
		j.hold("its VM was found running without a record; it stays until a file names the task, or `stop` does")
	case file != "":
		j.hold(fmt.Sprintf("its removal waits until %s is mended: the task may be in there", file))
	case j.w.Set.Unsettled:
		v.Reason += "; waits for " + strings.Join(j.w.Set.Writing, ", ") + ", which is being written"
	case j.w.Now.Before(due):
		v.Wake = due
	case !j.o.Alive:
		v.Step, v.Hidden, v.Converged = StepForget, true, true
	case rec.Wanted.OnRemove == spec.OnRemoveKeep:
		v.Step, v.Change.Reason = StepKeep, v.Reason+"; on_remove = \"keep\" leaves its VM running"
	default:
		v.Step = StepStop
	}
}

// hold keeps a removal from going on.
func (j *judgement) hold(reason string) {
	v := &j.v
	v.Reason = reason
	if j.o.Alive {
		v.Phase = PhaseHeld
	}
	v.Change.Action, v.Change.Price, v.Change.Reason = ActionHeld, "held", reason
	v.Final = true
}
