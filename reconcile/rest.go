package reconcile

import (
	"maps"

	"github.com/qemu-reconciler/qemu-reconciler/runtime"
)

// resting are the verdicts on VMs that run, or are off, as they should. Such a verdict tells of
// its task alone and of no time, so it is true until something about the task
// changes: on a host with thousands of VMs a pass judges the few that moved.
type resting map[string]restingVerdict

// restingVerdict is a verdict and all that it was made of.
type restingVerdict struct {
	observed runtime.Observation
	want     Want
	verdict  Verdict
}

// of gives the verdict on a task if it is still true.
func (r resting) of(w *World, name string, want *Want) (v Verdict, ok bool) {
	known, ok := r[name]
	if !ok || want == nil || known.want != *want || known.observed != w.Observed[name] || w.stirs(name) {
		return Verdict{}, false
	}
	known.verdict.Want, known.verdict.Same = want, true
	return known.verdict, true
}

// note remembers the verdicts of a pass that are good for the next one.
func (r resting) note(w *World, verdicts []Verdict) {
	n := 0
	for i := range verdicts {
		v := &verdicts[i]
		switch {
		case v.Same:
			n++
		case v.rests() && !w.stirs(v.Task):
			known := restingVerdict{observed: w.Observed[v.Task], want: *v.Want, verdict: *v}
			known.verdict.Want = nil // it would keep that of all tasks of this pass
			r[v.Task] = known
			n++
		default:
			delete(r, v.Task)
		}
	}
	if len(r) > n {
		maps.DeleteFunc(r, func(name string, _ restingVerdict) bool { return w.Observed[name].Record == nil })
	}
}

// rests says whether the verdict is on a VM that is as it should be, and for which
// nothing is to be done, now or at any time.
func (v *Verdict) rests() bool {
	return v.Converged && (v.Phase == PhaseRunning || v.Phase == PhaseStopped) && v.Step == StepNone && v.Wake.IsZero() && !v.Look &&
		v.Want != nil && v.Want.Stale == "" && !v.Hidden && v.Bug == ""
}

// stirs says whether anything beside its own state decides about a task.
func (w *World) stirs(task string) bool {
	_, faulty := w.Faults[task]
	return w.Stopping || faulty || w.Busy[task] != StepNone || w.Asked[task] != ""
}
