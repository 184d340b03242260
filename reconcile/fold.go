package reconcile

import (
	"slices"
	"strings"
	"time"

	"github.com/qemu-reconciler/qemu-reconciler/runtime"
	"github.com/qemu-reconciler/qemu-reconciler/spec"
)

// statusOf folds the verdicts of a world into a status. It speaks to nobody,
// so a stuck guest cannot hang it.
func statusOf(w *World, verdicts []Verdict) Status {
	s := Status{
		Format: 1, VMsDir: w.Set.Dir, Converged: w.Set.Err == nil && !w.Set.Unsettled,
		Unsettled: w.Set.Writing, Tasks: make([]TaskStatus, 0, len(verdicts)), Files: fileStatuses(w.Set), HeldRemovals: []string{},
	}
	s.DirError = dirError(w.Set)
	known := map[string]bool{}
	for _, v := range verdicts {
		if v.Hidden {
			continue
		}
		known[v.Task] = true
		s.Tasks = append(s.Tasks, taskStatus(&v, w.Observed[v.Task]))
		s.Converged = s.Converged && v.Converged
		if v.Change.Action == ActionHeld {
			s.HeldRemovals = append(s.HeldRemovals, v.Task)
		}
	}
	for _, f := range w.Set.Files {
		s.Converged = s.Converged && len(f.Errors) == 0
		s.Tasks = append(s.Tasks, w.unstarted(f, known)...)
	}
	slices.SortFunc(s.Tasks, func(a, b TaskStatus) int { return strings.Compare(a.Name, b.Name) })
	return s
}

// dirError says why the directory could not be read; empty when it could.
func dirError(set *spec.Set) string {
	if set.Err != nil {
		return set.Err.Error()
	}
	return ""
}

// fileStatuses are the files about which there is something to say.
func fileStatuses(set *spec.Set) []FileStatus {
	out := []FileStatus{}
	for _, f := range set.Files {
		if len(f.Errors)+len(f.Warnings) > 0 {
			out = append(out, FileStatus{Path: f.Path, Errors: orEmpty(f.Errors), Warnings: orEmpty(f.Warnings)})
		}
	}
	return out
}

// unstarted are the tasks that have an error and no last good definition: they
// are listed so that nobody looks for them in vain. A VM that was let go of may run
// under that name.
func (w *World) unstarted(f spec.File, known map[string]bool) []TaskStatus {
	var out []TaskStatus
	for _, name := range f.Faulty {
		if known[name] {
			continue
		}
		known[name] = true
		v := Verdict{Task: name, Desired: spec.StateRunning, Phase: PhaseFailed, Reason: f.Errors[0].Error()}
		for _, d := range f.Errors {
			if d.Task == name {
				v.Reason = d.Error()
				break
			}
		}
		o := w.Observed[name]
		if o.Alive {
			v.Phase, v.Reason = PhaseRunning, "let go of (on_remove = \"keep\"); "+v.Reason
		}
		t := taskStatus(&v, o)
		t.File = f.Path
		out = append(out, t)
	}
	return out
}

func taskStatus(v *Verdict, o runtime.Observation) TaskStatus {
	t := TaskStatus{Name: v.Task, Desired: v.Desired, Phase: v.Phase, Reason: v.Reason, Converged: v.Converged,
		Pending: []FieldChange{}, Ports: []PortStatus{}}
	if v.Want != nil {
		t.File, t.Meta = v.Want.File, v.Want.Task.Meta
		t.Ports = portStatus(v.Want.Task, ports(o.Record))
	}
	if o.Alive && v.Change.Action != ActionStop {
		t.Pending = append(t.Pending, v.Change.Fields...)
	}
	rec := o.Record
	if rec == nil {
		return t
	}
	t.UUID, t.Restarts, t.Reboots, t.LastExit = rec.UUID, rec.Restarts, rec.Reboots, exitStatus(rec.LastExit)
	if v.Want == nil {
		t.File = rec.File
	}
	if v.Want != nil && v.Want.Task.Config.ImageFormat != "" {
		t.ImageFormat = v.Want.Task.Config.ImageFormat
	} else if rec.Format != nil {
		t.ImageFormat = rec.Format.Format
	}
	if p := rec.Process; o.Alive && p != nil {
		t.PID, t.StartedAt, t.ImageFormat = p.PID, &Moment{p.StartedAt}, p.Format
		if rec.Applied != nil {
			t.Ports = portStatus(rec.Applied, rec.Ports)
		}
	}
	return t
}

func portStatus(task *spec.Task, allocated map[string]int) []PortStatus {
	out := make([]PortStatus, 0, len(task.Resources.Ports))
	for _, p := range task.Resources.Ports {
		host := p.Static
		if host == 0 {
			host = allocated[p.Label]
		}
		out = append(out, PortStatus{Label: p.Label, HostIP: p.HostIP, Host: host,
			Guest: task.Config.PortMap[p.Label], Protocols: orEmpty(p.Protocols)})
	}
	return out
}

func exitStatus(e *runtime.Exit) *ExitStatus {
	if e == nil {
		return nil
	}
	return &ExitStatus{At: Moment{e.At}, Cause: e.Cause, Code: e.Code, Signal: e.Signal, Rung: e.Rung,
		Seconds: e.Seconds, Words: e.Words}
}

func orEmpty[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

// Offline is the status and the plan without a daemon: the same judgement over
// a read-only view.
type Offline struct {
	Set      *spec.Set
	Observed map[string]runtime.Observation
	// Removals, RemovalsFault and MaxRemovals are those of World.
	Removals      runtime.Removals
	RemovalsFault string
	MaxRemovals   *int
	// HostName and StateDir are shown as they are.
	HostName, StateDir string
	BootID             string
	// DaemonPID is a daemon that runs but did not answer; zero for none.
	DaemonPID int
	Now       time.Time
}

func (o Offline) world() *World {
	// What is missing now would be removed: there is no daemon whose waiting
	// could be waited for.
	return (&World{
		Now: o.Now, BootID: o.BootID, Set: o.Set, Observed: o.Observed,
		Removals: o.Removals, RemovalsFault: o.RemovalsFault, MaxRemovals: o.MaxRemovals,
	}).settled()
}

// Status is what `status` shows.
func (o Offline) Status() Status {
	w := o.world()
	s := statusOf(w, Diff(w))
	s.Host, s.StateDir = o.HostName, o.StateDir
	s.Daemon = DaemonStatus{Running: o.DaemonPID != 0, PID: o.DaemonPID}
	return s
}

// Plan is what `plan` shows.
func (o Offline) Plan() PlanReport {
	w := o.world()
	return Report(w.Set, Diff(w))
}
