package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/qemu-reconciler/qemu-reconciler/reconcile"
	"github.com/qemu-reconciler/qemu-reconciler/spec"
)

// FuzzText: whatever texts of an operator, of a guest or of QEMU are in a
// status, a plan, or a verdict on files, a terminal is given
// nothing that it obeys, no text begins a line of its own, and JSON stays JSON.
func FuzzText(f *testing.F) {
	f.Add("web", "crashed: qemu-system-x86_64: no such file", "web.hcl", "old")
	f.Add("a\x1b[31m", "\x1b]0;title\x07\x9b31m\xff\u009b2J", "a\nb\r.hcl", "(\x1b[2J)")
	f.Add("a\u202eb", "\u2066x\u2069\u200b\u2028", "\x7f.hcl", "\u0085")
	f.Add("", "\t\v\f"+strings.Repeat("x", 300), " ", "[\x00]")
	now := time.Unix(1700000000, 0)
	f.Fuzz(func(t *testing.T, name, text, path, value string) {
		diagnostic := spec.Diagnostic{File: path, Position: spec.Position{Line: 1, Column: 2}, EndColumn: 4, Summary: text, Detail: text, Excerpt: value, Task: name}
		change := reconcile.FieldChange{Field: "meta." + name, From: value, To: map[string]any{value: []any{text}}, Price: "live", Reason: text}
		st := reconcile.Status{
			VMsDir: path, DirError: text, Unsettled: []string{path}, HeldRemovals: []string{name},
			Tasks: []reconcile.TaskStatus{
				{Name: name, File: path, Phase: reconcile.PhaseHeld, Reason: text},
				{Name: name + "2", File: path, Phase: reconcile.PhaseFailed, Reason: text, Pending: []reconcile.FieldChange{change},
					LastExit: &reconcile.ExitStatus{At: reconcile.Moment{Time: now}, Cause: "crashed", Words: []string{text, value}}},
			},
			Files: []reconcile.FileStatus{{Path: path, Errors: []spec.Diagnostic{diagnostic}, Warnings: []spec.Diagnostic{diagnostic}}},
		}
		plan := reconcile.PlanReport{
			Changes: []reconcile.Change{{Task: name, Action: reconcile.ActionRestart, Price: "restart", Reason: text, Fields: []reconcile.FieldChange{change}}},
			Errors:  []reconcile.FileError{{Path: path, Line: 1, Column: 1, Summary: text, Detail: text, Excerpt: value}},
		}
		var out bytes.Buffer
		writeStatus(&out, st, now, style{})
		one, _ := only(st, name+"2")
		writeStatus(&out, one, now, style{})
		out.WriteString(planText(plan, style{}))
		for _, d := range planErrors(plan) {
			d.Render(&out, false)
		}
		v := summarise([]*spec.Set{{Dir: path, Files: []spec.File{{Path: path, Errors: []spec.Diagnostic{diagnostic}}}}})
		writeValidation(&out, v, style{})
		checkText(t, out.String())

		for _, v := range []any{st, plan, v} {
			line, err := json.Marshal(v)
			if err != nil || !json.Valid(line) || !utf8.Valid(line) || bytes.ContainsAny(line, "\n\r\x1b") {
				t.Errorf("%q, %v", line, err)
			}
		}
	})
}

// checkText holds that a terminal only shows what it is given.
func checkText(t *testing.T, text string) {
	t.Helper()
	if !utf8.ValidString(text) {
		t.Errorf("not UTF-8: %q", text)
	}
	for _, r := range text {
		if r != '\n' && r != '\t' && (unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r)) {
			t.Errorf("%q in %q", r, text)
			break
		}
	}
}
