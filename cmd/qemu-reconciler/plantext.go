package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/qemu-reconciler/qemu-reconciler/reconcile"
	"github.com/qemu-reconciler/qemu-reconciler/spec"
)

// planText writes each task's action, why, and each field old -> new; the
// errors, if any, are printed by the caller as diagnostics.
func planText(plan reconcile.PlanReport, s style) string {
	var b strings.Builder
	for _, c := range plan.Changes {
		head := spec.Printable(c.Task) + ": " + s.paint(actionColour(c.Action), string(c.Action))
		if c.Reason == "" {
			b.WriteString(head + "\n")
		} else {
			writeHead(&b, head, width(c.Task)+2+len(c.Action), c.Reason)
		}
		for _, f := range c.Fields {
			indented(&b, 4, changeText(f))
		}
	}
	b.WriteString(planSummary(plan) + "\n")
	return b.String()
}

// writeHead puts the reason after the action when it fits, else below.
func writeHead(b *strings.Builder, head string, used int, reason string) {
	reason = spec.Printable(reason)
	if used+2+width(reason) <= screenWidth {
		b.WriteString(head + ", " + reason + "\n")
		return
	}
	b.WriteString(head + "\n")
	indented(b, 4, reason)
}

func actionColour(a reconcile.Action) string {
	switch a {
	case reconcile.ActionStart:
		return green
	case reconcile.ActionStop:
		return red
	case reconcile.ActionNone:
		return ""
	}
	return yellow
}

// changeText is one field: its name, old -> new, and what the change costs.
func changeText(f reconcile.FieldChange) string {
	text := fmt.Sprintf("%s: %s -> %s (%s", f.Field, valueText(f.From), valueText(f.To), f.Price)
	if f.Reason != "" {
		text += ": " + f.Reason
	}
	return text + ")"
}

func planSummary(plan reconcile.PlanReport) string {
	counts := map[string]int{}
	for _, c := range plan.Changes {
		counts[string(c.Action)]++
	}
	var parts []string
	for action, n := range counts {
		parts = append(parts, fmt.Sprintf("%d %s", n, actionWords(action)))
	}
	slices.Sort(parts)
	text := strings.Join(parts, ", ")
	if text == "" {
		text = "nothing to do"
	}
	if n := len(plan.Errors); n > 0 {
		text += "; " + plural(n, "error", "errors")
	}
	return "Plan: " + text + "."
}

func actionWords(action string) string {
	switch reconcile.Action(action) {
	case reconcile.ActionLive:
		return "to change live"
	case reconcile.ActionReboot:
		return "to change at the guest's next reboot"
	case reconcile.ActionHeld:
		return "held"
	}
	return "to " + action
}

// planErrors are the plan's errors as diagnostics.
func planErrors(plan reconcile.PlanReport) []spec.Diagnostic {
	out := make([]spec.Diagnostic, len(plan.Errors))
	for i, e := range plan.Errors {
		out[i] = spec.Diagnostic{
			Severity: spec.SeverityError, File: e.Path, Position: spec.Position{Line: e.Line, Column: e.Column},
			EndColumn: e.EndColumn, Summary: e.Summary, Detail: e.Detail, Excerpt: e.Excerpt,
		}
	}
	return out
}

// planExit is plan's exit code: an error beats changes.
func planExit(plan reconcile.PlanReport) int {
	switch {
	case len(plan.Errors) > 0:
		return exitFailed
	case len(plan.Changes) > 0:
		return exitChanges
	}
	return exitOK
}
