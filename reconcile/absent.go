package reconcile

import (
	"fmt"
	"strings"

	"github.com/qemu-reconciler/qemu-reconciler/spec"
)

// waitsUntil begins the reason of a removal that waits until files can be read.
const waitsUntil = "its removal waits until "

// judgeKept handles a task whose VM was let go of and stays.
func (j *judgement) judgeKept() {
	v := &j.v
	switch {
	case j.want != nil:
		v.Step, v.Phase, v.Reason = StepReturn, PhasePending, "its VM is taken back"
		if j.o.Alive {
			v.Phase = PhaseRunning
		}
	case !j.o.Alive:
		v.Step, v.Hidden = StepForget, true
	default:
		v.Hidden = true
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
	v.Reason = "in no task file any more"
	if i, found := findDefinition(j.w.Set.Definitions, j.name); found {
		v.Reason = j.w.Set.Definitions[i].File + " wants it on other hosts only"
	}
	v.Change.Action, v.Change.Price, v.Change.Reason = ActionStop, "stop", v.Reason
	if !j.o.Alive {
		v.Change = Change{Task: j.name, Action: ActionNone, Price: string(spec.PriceNone), Fields: []FieldChange{}}
	}
	held, was := j.w.Removals.Held[j.name]
	begunRemoval, begun := j.w.Removals.Begun[j.name]
	begun = begun && !j.w.outlived(j.name, begunRemoval)
	free := j.brake.reason == "" || begun || held.Approved
	switch {
	case rec.Wanted == nil && j.o.Alive:
		j.hold("its VM was found running without a record; it stays until a file names the task, or `stop` does")
	case j.brake.mend != "":
		j.hold(fmt.Sprintf("%s%s: the task may be in there", waitsUntil, j.brake.mend))
	case was && !free:
		j.brakeOn()
	case j.w.Set.Unsettled:
		v.Reason += "; waits for " + strings.Join(j.w.Set.Writing, ", ") + ", which is being written"
	case j.w.Now.Before(j.brake.due):
		v.Wake = j.brake.due
	case j.w.Read.Before(j.brake.due):
		v.Look, v.Wake = true, j.w.Now
	case j.o.Alive && rec.Wanted.OnRemove == spec.OnRemoveKeep:
		v.Step, v.Change.Action, v.Change.Price = StepKeep, ActionNone, string(spec.PriceNone)
		v.Change.Reason = v.Reason + "; on_remove = \"keep\" leaves its VM running"
	case !free:
		j.brakeOn()
	case !j.o.Alive:
		v.Step, v.Hidden, v.Converged = StepForget, true, true
		if j.w.counts(j.name) {
			v.Removal = j.absence()
		}
	default:
		v.Step, v.Removal = StepStop, j.absence()
	}
}

// brakeOn holds a removal until it is approved.
func (j *judgement) brakeOn() {
	j.hold(j.brake.reason)
	if j.w.RemovalsFault == "" {
		j.v.Removal, j.v.Braked = j.absence(), true
	}
}

func (j *judgement) absence() *Absence {
	absence := j.brake.absent[j.name]
	return &absence
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
