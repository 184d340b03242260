package reconcile

import "fmt"

// news is one thing that changed from a pass to the next and is worth an
// event. What the runtime does (starts, exits) it tells by itself; this is what
// only the reconciler knows.
type news struct {
	kind, task, message string
	facts               map[string]any
	warn                bool
}

// narrate compares two statuses and tells the edges between them, so that a
// state that lasts is told once.
func narrate(before, after *Status) []news {
	var out []news
	if before.DirError != after.DirError {
		if after.DirError != "" {
			out = append(out, news{kind: "dir-missing", warn: true,
				message: "the task directory cannot be read, nothing is stopped for it: " + after.DirError})
		} else {
			out = append(out, news{kind: "dir-back", message: "the task directory can be read again"})
		}
	}
	out = append(out, narrateFiles(before.Files, after.Files)...)
	faulty := map[string]bool{} // what their files tell is told already
	for _, f := range after.Files {
		for _, d := range f.Errors {
			faulty[d.Task] = true
		}
	}
	told := map[string]*TaskStatus{}
	for i := range before.Tasks {
		told[before.Tasks[i].Name] = &before.Tasks[i]
	}
	for i := range after.Tasks {
		t := &after.Tasks[i]
		old := told[t.Name]
		if old != nil && old.Phase == t.Phase && old.Reason == t.Reason {
			continue
		}
		if !faulty[t.Name] {
			out = append(out, narrateTask(old, t)...)
		}
	}
	return out
}

func narrateTask(old, t *TaskStatus) []news {
	same := old != nil && old.Phase == t.Phase
	switch {
	case t.Phase == PhaseBackoff:
		return []news{{kind: "backoff", task: t.Name, message: t.Reason, warn: true}}
	case t.Phase == PhaseFailed && !same:
		return []news{{kind: "gave-up", task: t.Name, message: t.Reason, warn: true}}
	case t.Phase == PhaseHeld && !same:
		return []news{{kind: "removal-held", task: t.Name, message: t.Reason, warn: true}}
	case old != nil && old.Phase == PhaseHeld && t.Desired != "absent":
		return []news{{kind: "removal-off", task: t.Name, message: "a file defines it again; its VM was not touched"}}
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
			out = append(out, news{kind: "file-broken", task: d.Task, message: d.Error(), warn: true,
				facts: map[string]any{"file": f.Path, "line": d.Line, "column": d.Column, "detail": d.Detail}})
		}
		for _, d := range f.Warnings {
			out = append(out, news{kind: "file-warning", task: d.Task, message: d.Error(), warn: true,
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
