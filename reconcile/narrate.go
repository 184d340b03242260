package reconcile

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/qemu-reconciler/qemu-reconciler/spec"
)

// news is one thing that changed from a pass to the next and is worth an
// event. What the runtime does (starts, exits) it tells by itself; this is what
// only the reconciler knows.
type news struct {
	kind, task, message string
	facts               map[string]any
}

// told is what was told already, so that a state that lasts is told once.
type told struct {
	dirError string
	// files are those of set about which there was something to say, and faulty the
	// tasks of which their errors tell.
	set    *spec.Set
	files  []FileStatus
	faulty map[string]bool
	tasks  map[string]standing
}

// standing is how a task stood when it was last looked at.
type standing struct {
	phase  Phase
	reason string
}

// narrate tells what is another than it was.
func (t *told) narrate(set *spec.Set, verdicts []Verdict) []news {
	out := t.narrateDirectory(dirError(set))
	if set != t.set {
		out = append(out, t.narrateSet(set)...)
	}
	seen := 0
	for i := range verdicts {
		v := &verdicts[i]
		if v.Hidden {
			continue
		}
		seen++
		if v.Same {
			continue
		}
		now := standing{v.Phase, v.Reason}
		old, known := t.tasks[v.Task]
		t.tasks[v.Task] = now
		if (!known || old != now) && !t.faulty[v.Task] {
			out = append(out, narrateTask(old, v)...)
		}
	}
	if len(t.tasks) > seen {
		t.forget(verdicts)
	}
	return out
}

// narrateSet tells what another set says of its files.
func (t *told) narrateSet(set *spec.Set) []news {
	files := fileStatuses(set)
	out := narrateFiles(t.files, files)
	t.set, t.files, t.faulty = set, files, map[string]bool{}
	for _, f := range files {
		for _, d := range f.Errors {
			t.faulty[d.Task] = true
		}
	}
	return out
}

// forget drops tasks that are none any more: should they come again, they are new.
func (t *told) forget(verdicts []Verdict) {
	maps.DeleteFunc(t.tasks, func(name string, _ standing) bool {
		i, found := slices.BinarySearchFunc(verdicts, name, func(v Verdict, name string) int { return strings.Compare(v.Task, name) })
		return !found || verdicts[i].Hidden
	})
}

func (t *told) narrateDirectory(fault string) []news {
	before := t.dirError
	t.dirError = fault
	switch {
	case fault == before:
		return nil
	case fault == "":
		return []news{{kind: "dir-back", message: "the task directory can be read again"}}
	}
	return []news{{kind: "dir-missing",
		message: "the task directory cannot be read, nothing is stopped for it: " + fault}}
}

func narrateTask(old standing, v *Verdict) []news {
	same := old.phase == v.Phase
	switch {
	case v.Phase == PhaseBackoff:
		return []news{{kind: "backoff", task: v.Task, message: v.Reason}}
	case v.Phase == PhaseFailed && !same:
		return []news{{kind: "gave-up", task: v.Task, message: v.Reason}}
	case v.Phase == PhaseHeld && !same:
		return []news{{kind: "removal-held", task: v.Task, message: v.Reason}}
	case old.phase == PhaseHeld && v.Desired != "absent":
		return []news{{kind: "removal-off", task: v.Task, message: "a file defines it again; its VM was not touched"}}
	}
	return nil
}

// narrateFiles tells files that broke, files whose errors changed, and files
// that were mended or went away. Warnings are told like errors, once.
func narrateFiles(before, after []FileStatus) []news {
	var out []news
	told := map[string]string{}
	for _, f := range before {
		told[f.Path] = digest(f)
	}
	for _, f := range after {
		old, known := told[f.Path]
		delete(told, f.Path)
		if known && old == digest(f) {
			continue
		}
		for _, d := range f.Errors {
			out = append(out, news{kind: "file-broken", task: d.Task, message: d.Error(),
				facts: map[string]any{"file": f.Path, "line": d.Line, "column": d.Column, "detail": d.Detail}})
		}
		for _, d := range f.Warnings {
			out = append(out, news{kind: "file-warning", task: d.Task, message: d.Error(),
				facts: map[string]any{"file": f.Path, "line": d.Line, "column": d.Column, "detail": d.Detail}})
		}
	}
	for _, f := range before {
		if _, left := told[f.Path]; left && len(f.Errors) > 0 {
			out = append(out, news{kind: "file-mended", message: f.Path + " has no errors any more",
				facts: map[string]any{"file": f.Path}})
		}
	}
	return out
}

func digest(f FileStatus) string { return fmt.Sprint(f.Errors, f.Warnings) }

// tell writes the news to the event log and to the daemon's own.
func (e *Engine) tell(all []news) {
	for _, n := range all {
		e.cfg.Machines.Event(n.kind, n.task, n.message, n.facts)
	}
}
