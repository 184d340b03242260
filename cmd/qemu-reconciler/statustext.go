package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/qemu-reconciler/qemu-reconciler/reconcile"
	"github.com/qemu-reconciler/qemu-reconciler/spec"
)

// writeStatus prints a status for people: the table, what is held, what is
// wrong with the files, and a summary.
func writeStatus(w io.Writer, st reconcile.Status, now time.Time, s style) {
	var b strings.Builder
	if st.DirError != "" {
		indented(&b, 0, fmt.Sprintf("The task directory cannot be read, so nothing is started or stopped for it: %s", st.DirError))
	}
	switch {
	case len(st.Tasks) > 0:
		b.WriteString(statusTable(toldOnce(st), now, s))
	case st.DirError == "":
		b.WriteString("No tasks in " + spec.Printable(st.VMsDir) + ".\n")
	}
	if held := heldRemovals(st); len(held) > 0 {
		b.WriteString("\nRemovals held:\n")
		for _, text := range held {
			indented(&b, 4, text)
		}
	}
	if len(st.Unsettled) > 0 {
		b.WriteString("\n")
	}
	for _, path := range st.Unsettled {
		indented(&b, 0, path+" is being written; it is taken when the writer is done.")
	}
	io.WriteString(w, b.String())
	for _, d := range fileDiagnostics(st.Files) {
		fmt.Fprintln(w)
		d.Render(w, s.colour)
	}
	if len(st.Tasks) > 0 || len(st.Files) > 0 {
		fmt.Fprintf(w, "\n%s\n", summaryLine(st))
	}
}

// toldOnce are the tasks without the reasons that stand below the table, for all
// held removals together.
func toldOnce(st reconcile.Status) []reconcile.TaskStatus {
	tasks := slices.Clone(st.Tasks)
	for i := range tasks {
		if slices.Contains(st.HeldRemovals, tasks[i].Name) {
			tasks[i].Reason = ""
		}
	}
	return tasks
}

// heldRemovals are the removals that are held, those with the same reason in
// one line: "a, b: waits until z.hcl is mended".
func heldRemovals(st reconcile.Status) []string {
	names := map[string][]string{}
	var reasons []string
	for _, t := range st.Tasks {
		if !slices.Contains(st.HeldRemovals, t.Name) {
			continue
		}
		if names[t.Reason] == nil {
			reasons = append(reasons, t.Reason)
		}
		names[t.Reason] = append(names[t.Reason], t.Name)
	}
	out := make([]string, len(reasons))
	for i, reason := range reasons {
		out[i] = strings.Join(names[reason], ", ")
		if reason != "" {
			out[i] += ": " + reason
		}
	}
	return out
}

// fileDiagnostics are the errors and warnings of all files, with the fields
// that JSON leaves out filled in again.
func fileDiagnostics(files []reconcile.FileStatus) []spec.Diagnostic {
	var out []spec.Diagnostic
	add := func(path string, severity spec.Severity, diags []spec.Diagnostic) {
		for _, d := range diags {
			d.File, d.Severity = path, severity
			out = append(out, d)
		}
	}
	for _, f := range files {
		add(f.Path, spec.SeverityError, f.Errors)
		add(f.Path, spec.SeverityWarning, f.Warnings)
	}
	return out
}

// only narrows a status to one task; false when there is no such task. What it
// says about convergence and files is then about that task and its file alone. A
// directory that cannot be read, or a file that is being written, may have more
// in it for the task than is known.
func only(st reconcile.Status, name string) (reconcile.Status, bool) {
	for _, t := range st.Tasks {
		if t.Name != name {
			continue
		}
		out := st
		out.Tasks = []reconcile.TaskStatus{t}
		out.Converged = t.Converged && st.DirError == ""
		out.Files, out.HeldRemovals, out.Unsettled = []reconcile.FileStatus{}, []string{}, nil
		if slices.Contains(st.Unsettled, t.File) {
			out.Unsettled, out.Converged = []string{t.File}, false
		}
		for _, f := range st.Files {
			if f.Path == t.File {
				out.Files = append(out.Files, f)
				out.Converged = out.Converged && len(f.Errors) == 0
			}
		}
		for _, held := range st.HeldRemovals {
			if held == name {
				out.HeldRemovals = append(out.HeldRemovals, held)
			}
		}
		return out, true
	}
	return st, false
}

// unconverged names what keeps a status from being converged, each with its
// reason.
func unconverged(st reconcile.Status) []string {
	var out []string
	if st.DirError != "" {
		out = append(out, st.DirError)
	}
	for _, path := range st.Unsettled {
		out = append(out, path+" is being written")
	}
	for _, t := range st.Tasks {
		if t.Converged {
			continue
		}
		text := fmt.Sprintf("%s is %s", t.Name, t.Phase)
		if t.Reason != "" {
			text += ": " + t.Reason
		}
		out = append(out, text)
	}
	for _, f := range st.Files {
		if n := len(f.Errors); n > 0 {
			out = append(out, fmt.Sprintf("%s has %s", f.Path, plural(n, "error", "errors")))
		}
	}
	return out
}
