package reconcile

import (
	"fmt"
	"time"

	"github.com/qemu-reconciler/qemu-reconciler/runtime"
	"github.com/qemu-reconciler/qemu-reconciler/spec"
)

// judgeOff handles a task whose VM is to be off.
func (j *judgement) judgeOff(why string) {
	v := &j.v
	v.Reason = why
	if j.o.Alive {
		v.Step, v.Phase = StepStop, PhaseRunning
		v.Change.Action, v.Change.Price, v.Change.Reason = ActionStop, "stop", why
		return
	}
	v.Phase, v.Converged = PhaseStopped, true
	if j.want != nil && !j.w.Stopping && j.changed() {
		v.Step = StepRecord
	}
}

// changed says whether the wanted definition is another than the one that was
// last written down.
func (j *judgement) changed() bool {
	rec := j.rec()
	if rec == nil || rec.Wanted == nil || rec.File != j.want.File {
		return true
	}
	return redefined(rec.Wanted, j.want.Task)
}

func redefined(from, to *spec.Task) bool {
	return from != to && (from.State != to.State || len(spec.Differences(from, to)) > 0)
}

// judgeAlive handles a VM that runs and shall run.
func (j *judgement) judgeAlive() {
	v, rec := &j.v, j.rec()
	v.Phase, v.Reason, v.Converged = PhaseRunning, "", true
	if !j.o.Answering && (rec.Process == nil || !rec.Process.Answered) {
		v.Phase, v.Converged, v.Reason = PhaseStarting, false, "QEMU has not answered yet"
	}
	if j.o.Trouble != "" {
		v.Reason = j.o.Trouble
	}
	if j.o.Paused != "" && v.Phase == PhaseRunning {
		v.Converged, v.Reason, v.Final = false, joinReasons("paused: "+j.o.Paused, j.o.Trouble), true
	}
	differences := spec.Differences(inForce(rec, j.want.Task), j.want.Task)
	v.Change.Fields = fieldChanges(differences)
	restart := dearest(differences) == spec.PriceRestart
	switch {
	case j.w.Asked[j.name] == AskRestart:
		j.restart("asked for by the operator")
	case restart:
		j.restart("changed: " + fieldNames(v.Change.Fields, string(spec.PriceRestart)))
	case len(differences) > 0:
		v.Step, v.Converged = StepRecord, false
		v.Change.Action, v.Change.Price, v.Change.Reason = ActionLive, string(spec.PriceLive), "changed: "+fieldNames(v.Change.Fields, "")
	case j.changed():
		v.Step = StepRecord
	}
}

func (j *judgement) restart(why string) {
	j.v.Step, j.v.Converged, j.v.Final = StepStop, false, false
	j.v.Change.Action, j.v.Change.Price, j.v.Change.Reason = ActionRestart, string(spec.PriceRestart), why
	if j.v.Phase == PhaseRunning {
		j.v.Reason = "restarts: " + why
	}
}

// judgeDown handles a VM that shall run and does not.
func (j *judgement) judgeDown() {
	v, rec := &j.v, j.rec()
	v.Phase = PhasePending
	why, at, ok := j.mayStart(rec)
	if !ok {
		return
	}
	v.Change.Action, v.Change.Price, v.Change.Reason = ActionStart, "start", why
	v.Reason = why
	if at.After(j.w.Now) {
		v.Phase, v.Wake = PhaseBackoff, at
		v.Reason = fmt.Sprintf("starts again at %s: %s", at.UTC().Format("15:04:05.000Z"), why)
		v.Change.Reason = v.Reason
		return
	}
	if owner, what := j.claims().holder(j.want.Task, ports(rec)); owner != "" {
		j.wait(owner, what)
		return
	}
	v.Step = StepStart
}

// wait keeps a start from meeting the holder of what it needs. A holder that
// is wanted with it keeps it: then only an edit helps.
func (j *judgement) wait(owner, what string) {
	v := &j.v
	v.Reason = fmt.Sprintf("waits for %s, which still holds %s", owner, what)
	rec := j.w.Observed[owner].Record // which a first start in flight need not have yet
	if o := j.wants[owner]; o != nil && o.Task.State == spec.StateRunning && (rec == nil || !rec.Held) {
		theirs := newClaims()
		theirs.add(owner, o.Task, o.Task.Forwards(ports(rec)))
		if holder, _ := theirs.holder(j.want.Task, ports(j.rec())); holder != "" {
			v.Phase, v.Final = PhaseFailed, true
			v.Reason = fmt.Sprintf("needs %s, which task %s holds and keeps: give one of them another", what, owner)
		}
	}
	v.Change.Reason = v.Reason
}

// mayStart says why and when a VM that is down is started. When it is not, the
// verdict says how the task rests.
func (j *judgement) mayStart(rec *runtime.Record) (why string, at time.Time, ok bool) {
	v := &j.v
	v.Fresh = true
	switch {
	case rec == nil || rec.LastExit == nil:
		return "new task", at, true
	case j.w.Asked[j.name] != "":
		return "asked for by the operator", at, true
	case rec.Wanted != nil && j.deservesStart(rec):
		return "its definition changed", at, true
	case rec.LastExit.Cause == runtime.CauseHostReboot, rec.LastExit.BootID != j.w.BootID:
		return "the host was rebooted", at, true
	case rec.LastExit.Cause == runtime.CauseStopped && rec.LastExit.Rung != "":
		return "again, after its stop", at, true
	}
	v.Fresh, v.ByPolicy = false, true
	verdict := judgeExit(j.want.Task.Restart, rec, j.w.Now)
	if verdict.Stay == "" {
		return exitReason(rec), verdict.At, true
	}
	if rec.Due { // for another reason than the policy's
		v.Fresh, v.ByPolicy = true, false
		return "again, since its start was called off", at, true
	}
	v.Phase, v.Converged, v.Reason = PhaseStopped, true, verdict.Stay
	if j.changed() {
		v.Step = StepRecord
	}
	if verdict.GaveUp {
		v.Phase, v.Converged, v.Final = PhaseFailed, false, true
		v.Reason = joinReasons(exitReason(rec), verdict.Stay)
		if !rec.GaveUp {
			v.Step = StepGiveUp
		}
	}
	return "", at, false
}

// deservesStart says whether the definition changed so that a VM that rests is
// started: it is wanted running again, it is another machine, or a policy that
// gave up gets a new chance. Any other change of policy leaves it at rest.
func (j *judgement) deservesStart(rec *runtime.Record) bool {
	from, to := rec.Wanted, j.want.Task
	return redefined(from, to) &&
		(from.State != to.State || rec.GaveUp || dearest(spec.Differences(from, to)) == spec.PriceRestart)
}

// exitReason tells how the VM ended, in the words of whoever knows most.
func exitReason(rec *runtime.Record) string {
	if rec.LastExit.Cause == runtime.CauseLaunchFailed && rec.Failure != "" {
		return rec.Failure
	}
	reason := "ended: " + rec.LastExit.Cause
	if rec.LastExit.Signal != "" {
		reason += " (" + rec.LastExit.Signal + ")"
	}
	if failed(rec.LastExit.Cause) && len(rec.LastExit.Words) > 0 {
		reason = joinReasons(reason, rec.LastExit.Words[len(rec.LastExit.Words)-1])
	}
	return reason
}
