package reconcile

import (
	"slices"
	"strings"
	"time"

	"github.com/qemu-reconciler/qemu-reconciler/runtime"
	"github.com/qemu-reconciler/qemu-reconciler/spec"
)

// Step is one deed of the engine for one task; a pass begins at most one a
// task, and the next pass sees what came of it.
type Step string

// The steps.
const (
	StepNone Step = ""
	// StepStart starts a QEMU; StepStop climbs the stop ladder to its end.
	StepStart Step = "start"
	StepStop  Step = "stop"
	// StepRecord writes down a definition that touches no QEMU, StepGiveUp that
	// the restart policy has run out.
	StepRecord Step = "record"
	StepGiveUp Step = "give-up"
	// StepKeep lets go of a VM that stays (on_remove = "keep"), StepReturn
	// takes it back, StepForget drops the record of a task that is gone.
	StepKeep   Step = "keep"
	StepReturn Step = "return"
	StepForget Step = "forget"
)

// Verdict is what Diff says of one task: what to do now, what the plan shows,
// and how the task stands.
type Verdict struct {
	Task   string
	Want   *Want
	Record *runtime.Record
	Step   Step
	// Change is the step as the plan shows it; its reason goes into events and
	// the log, too.
	Change Change
	// ByPolicy marks a start that the restart policy counts.
	ByPolicy bool
	// Fresh marks a start that forgets earlier failures.
	Fresh bool
	// Removal marks a removal that counts for the brake: the stop of a VM whose
	// task is in no file, or the end of its record while it is down. Braked says
	// that it waits for an approval.
	Removal *Absence
	Braked  bool

	Desired   string
	Phase     Phase
	Reason    string
	Converged bool
	// Final means not converged, and nothing more happens by itself.
	Final bool
	// Hidden tasks are no business of the status.
	Hidden bool
	// Wake is when to decide again though nothing happened; zero for never. Look
	// says that the directory must be read for it.
	Wake time.Time
	Look bool
	// Same says that nothing about the task has changed since an earlier pass said
	// the same.
	Same bool
	// Bug is the panic, with its stack, that the judgement ended in; empty as a
	// rule.
	Bug string
}

// judgement is one task while it is judged.
type judgement struct {
	w      *World
	name   string
	want   *Want
	wants  map[string]*Want
	o      runtime.Observation
	claims func() *claims
	brake  *brake
	v      Verdict
}

func (j *judgement) rec() *runtime.Record { return j.o.Record }

// judge decides for one task. The order of the cases is the order of
// precedence: what may not be touched, what was let go of, the end of the
// daemon, an operator's will, absence, and then what the files say. Whatever
// they come to, a stop once begun finishes (settle).
func judge(w *World, c func() *claims, b *brake, wants map[string]*Want, name string) Verdict {
	want := wants[name]
	j := &judgement{w: w, name: name, want: want, wants: wants, o: w.Observed[name], claims: c, brake: b}
	j.v = Verdict{Task: name, Want: want, Record: j.rec(), Desired: "absent"}
	j.v.Change = Change{Task: name, Action: ActionNone, Price: string(spec.PriceNone), Fields: []FieldChange{}}
	if want != nil {
		j.v.Desired = want.Task.State
	}
	rec := j.rec()
	switch {
	case j.o.Refused != "":
		j.judgeRefused()
	case rec != nil && rec.Kept:
		j.judgeKept()
	case w.Stopping:
		j.judgeOff("the daemon stops its VMs")
	case rec != nil && rec.Held && (want != nil || j.o.Alive):
		j.judgeOff("held by operator")
	case want == nil:
		j.judgeAbsent()
	case want.Task.State == spec.StateStopped:
		j.judgeOff("state = \"stopped\"")
	case j.o.Alive:
		j.judgeAlive()
	default:
		j.judgeDown()
	}
	if want != nil && want.Stale != "" {
		j.v.Reason = joinReasons(j.v.Reason, "on the last good definition: "+want.Stale)
	}
	j.settle()
	return j.v
}

// outdated says whether the step failed for another definition than the one
// that is wanted now, which is tried at once.
func (f *Fault) outdated(want *Want) bool {
	return want != nil && (f.wanted == nil || redefined(f.wanted, want.Task))
}

// judgeRefused handles a task whose record is none of ours to change, e.g. of a
// newer version: its VM is left as it is.
func (j *judgement) judgeRefused() {
	v := &j.v
	v.Phase, v.Reason, v.Final = PhaseFailed, j.o.Refused, true
	if j.o.Alive {
		v.Phase = PhaseRunning
	}
}

// settle applies what holds whatever was decided: a stop once begun goes on,
// one step at a time, and a step that failed waits.
func (j *judgement) settle() {
	v := &j.v
	if j.o.Alive && j.o.Refused == "" && j.rec() != nil && j.rec().Stopping() {
		v.Step, v.Phase, v.Converged, v.Final = StepStop, PhaseStopping, false, false
		v.Reason = "stopping: " + j.rec().Intent.Reason
		if a := v.Change.Action; a == ActionNone || a == ActionLive || a == ActionHeld && !v.Braked {
			action, price := ActionStop, "stop"
			if v.Desired == spec.StateRunning {
				action, price = ActionRestart, string(spec.PriceRestart)
			}
			v.Change.Action, v.Change.Price, v.Change.Reason = action, price, j.rec().Intent.Reason
		}
	}
	fault, faulted := j.w.Faults[j.name]
	if v.Step != StepNone && faulted && j.w.Now.Before(fault.Until) && !fault.outdated(j.want) {
		v.Step, v.Wake, v.Converged, v.Hidden = StepNone, earlier(v.Wake, fault.Until), false, false
		v.Reason = fault.Reason
		if !j.o.Alive && v.Phase == PhasePending {
			v.Phase = PhaseBackoff
		}
	}
	switch j.w.Busy[j.name] {
	case StepNone:
		return
	case StepStart:
		v.Phase, v.Converged, v.Final = PhaseStarting, false, false
		v.Reason = "QEMU is being started"
	case StepStop:
		v.Phase, v.Converged, v.Final = PhaseStopping, false, false
	}
	v.Step = StepNone
}

func joinReasons(parts ...string) string {
	var out []string
	for _, p := range parts {
		if p != "" {
			out = append(out, p)
		}
	}
	return strings.Join(out, "; ")
}

func ports(rec *runtime.Record) map[string]int {
	if rec == nil {
		return nil
	}
	return rec.Ports
}

// inForce is the definition that the VM runs on, with what it left open filled
// in where the wanted one names it: to write down the format that was detected,
// or the port that was allocated, changes nothing. A VM that was found running
// without its record counts as running on what is wanted: nothing is restarted
// for a loss of ours.
func inForce(rec *runtime.Record, want *spec.Task) *spec.Task {
	if rec.Applied == nil {
		return want
	}
	task := *rec.Applied
	if task.Config.ImageFormat == "" && rec.Process != nil && want.Config.ImageFormat == rec.Process.Format {
		task.Config.ImageFormat = want.Config.ImageFormat
	}
	if task.UUID == "" && want.UUID == rec.UUID {
		task.UUID = want.UUID
	}
	task.Resources.Ports = slices.Clone(task.Resources.Ports)
	for i := range task.Resources.Ports {
		p := &task.Resources.Ports[i]
		wanted := slices.IndexFunc(want.Resources.Ports, func(w spec.Port) bool { return w.Label == p.Label })
		if p.Static == 0 && wanted >= 0 && want.Resources.Ports[wanted].Static == rec.Ports[p.Label] {
			p.Static = want.Resources.Ports[wanted].Static
		}
	}
	return &task
}

// earlier is the earlier of two times; zero is no time.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
