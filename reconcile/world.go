package reconcile

import (
	"time"

	"github.com/qemu-reconciler/qemu-reconciler/runtime"
	"github.com/qemu-reconciler/qemu-reconciler/spec"
)

// World is everything a pass looks at, as one value: Diff decides from it and
// from nothing else.
type World struct {
	Now time.Time
	// BootID tells exits of this boot from older ones.
	BootID string
	// Set is the latest content of the directory.
	Set *spec.Set
	// Observed is what the runtime knows, by task.
	Observed map[string]runtime.Observation
	// Absent is what was known before of recorded tasks that are in no file.
	Absent map[string]Absence
	// Removals is what the brake on mass removals remembers, and RemovalsFault
	// why that cannot be known.
	Removals      runtime.Removals
	RemovalsFault string
	// MaxRemovals is how many removals a minute go unasked; nil leaves it to the
	// default rule.
	MaxRemovals *int
	// Read is when the reading of Set began.
	Read time.Time
	// LastEvent is the time of the latest event in the directory. Blind says that
	// it tells of none.
	LastEvent time.Time
	Blind     bool
	// Busy are the steps in flight, at most one a task.
	Busy map[string]Step
	// Starting are the definitions of the starts in flight.
	Starting map[string]*spec.Task
	// Asked are the commands of an operator that are not carried out yet.
	Asked map[string]Ask
	// Faults are steps that failed and wait before they are tried again.
	Faults map[string]Fault
	// Stopping is set when the daemon stops its VMs before it exits.
	Stopping bool
	// Resting are verdicts on earlier worlds that may be true still; nil for none.
	Resting resting
	// Bind gives a definition its allocated ports; nil calls Definition.Bind.
	Bind func(d *spec.Definition, allocated map[string]int) *spec.Task
}

// Ask is what an operator asked for once, beyond what the files say.
type Ask string

// The asks.
const (
	AskStart   Ask = "start"
	AskRestart Ask = "restart"
)

// Fault is a step that failed for a reason of the host, e.g. a full disk.
type Fault struct {
	Reason string
	Until  time.Time
	// Delay is the wait that led to Until; it doubles with each failure.
	Delay time.Duration
	// wanted is the definition it failed for; nil when there was none.
	wanted *spec.Task
}

// Want is what is desired of one task.
type Want struct {
	Task *spec.Task
	File string
	// Definition is nil when the last good definition stands in.
	Definition *spec.Definition
	// Stale says why the last good definition stands in; empty when it does
	// not.
	Stale string
}

// wants gives the desired tasks by name, with the last good definition of each
// task that cannot be judged now, unless it was in no file before and went for it:
// by now it may run on another host.
func (w *World) wants() map[string]*Want {
	out := make(map[string]*Want, len(w.Observed))
	definitions := w.Set.Definitions
	if w.Set.Err != nil {
		definitions = nil
	}
	wants := make([]Want, len(definitions))
	for i, d := range definitions {
		if d.Here {
			wants[i] = Want{Task: w.bind(d), File: d.File, Definition: d}
			out[d.Task.Name] = &wants[i]
		}
	}
	unknown := w.unknown()
	for name, o := range w.Observed {
		if out[name] != nil || o.Record == nil || o.Record.Wanted == nil || o.Record.Kept || w.went(name) {
			continue
		}
		if _, elsewhere := findDefinition(definitions, name); elsewhere {
			continue
		}
		if stale := unknown(name, o.Record.File); stale != "" {
			out[name] = &Want{Task: o.Record.Wanted, File: o.Record.File, Stale: stale}
		}
	}
	return out
}

// unknown says, for a recorded task that no sound definition names, why the
// directory cannot be asked about it; empty when it says that it is gone.
func (w *World) unknown() func(name, file string) string {
	if w.Set.Err != nil {
		stale := "the task directory cannot be read: " + w.Set.Err.Error()
		return func(string, string) string { return stale }
	}
	unsure := map[string]bool{}
	faulty, mentioned := map[string]string{}, map[string]string{}
	for i := range w.Set.Files {
		f := &w.Set.Files[i]
		if len(f.Errors) == 0 {
			continue
		}
		unsure[f.Path] = f.Unsure()
		for _, name := range f.Mentioned {
			mentioned[name] = f.Path
		}
		for _, name := range f.Faulty {
			faulty[name] = f.Path
		}
	}
	return func(name, file string) string {
		if at, ok := faulty[name]; ok {
			return at + " has an error in it"
		}
		if unsure[file] {
			return file + " has errors"
		}
		if at, ok := mentioned[name]; ok {
			return at + ", which names it, has errors"
		}
		return ""
	}
}

func (w *World) bind(d *spec.Definition) *spec.Task {
	var allocated map[string]int
	if o, ok := w.Observed[d.Task.Name]; ok && o.Record != nil {
		allocated = o.Record.Ports
	}
	if w.Bind != nil {
		return w.Bind(d, allocated)
	}
	task, _ := d.Bind(allocated)
	if task == nil {
		return d.Task
	}
	return task
}

// mend says what must be so before anything can be told of a task that is missing;
// empty when it can. It may be in a file with errors.
func (w *World) mend() string {
	if w.Set.Err != nil {
		return "the task directory can be read"
	}
	for _, f := range w.Set.Files {
		if len(f.Errors) > 0 {
			return f.Path + " is mended"
		}
	}
	return ""
}
