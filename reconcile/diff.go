package reconcile

import (
	"slices"
	"strings"
	"sync"

	"github.com/qemu-reconciler/qemu-reconciler/spec"
)

// Diff compares what is desired with what is observed and says of every task
// what is to be done and how it stands, sorted by name. It is pure: the same
// world gives the same verdicts.
func Diff(w *World) []Verdict {
	wants := w.wants()
	removals := newBrake(w, wants)
	held := sync.OnceValue(w.claims) // as a rule nobody asks
	names := make([]string, 0, len(wants)+len(w.Observed))
	for name := range wants {
		names = append(names, name)
	}
	for name := range w.Observed {
		if wants[name] == nil {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	verdicts := make([]Verdict, 0, len(names))
	for _, name := range names {
		v, known := w.Resting.of(w, name, wants[name])
		if !known {
			v = judgeGuarded(w, held, &removals, wants, name)
		}
		if v.Step == StepStart { // the next ones wait for it, should they need the same
			held().add(name, v.Want.Task, v.Want.Task.Forwards(ports(v.Record)))
		}
		verdicts = append(verdicts, v)
	}
	return verdicts
}

// Report turns the verdicts into what `plan` prints: every task for which a
// pass would do something, and every error of a file.
func Report(set *spec.Set, verdicts []Verdict) PlanReport {
	report := PlanReport{Format: 1, Changes: []Change{}, Errors: []FileError{}}
	for _, v := range verdicts {
		if v.Change.Action != ActionNone {
			report.Changes = append(report.Changes, v.Change)
		}
	}
	if set.Err != nil {
		report.Errors = append(report.Errors, FileError{Path: set.Dir, Summary: "the task directory cannot be read", Detail: set.Err.Error()})
	}
	for _, f := range set.Files {
		for _, d := range f.Errors {
			report.Errors = append(report.Errors, FileError{Path: f.Path, Line: d.Line, Column: d.Column, EndColumn: d.EndColumn,
				Summary: d.Summary, Detail: d.Detail, Excerpt: d.Excerpt})
		}
	}
	return report
}

func fieldChanges(differences []spec.Difference) []FieldChange {
	out := make([]FieldChange, 0, len(differences))
	for _, d := range differences {
		out = append(out, FieldChange{Field: d.Field, From: d.From, To: d.To, Price: string(d.Price), Reason: d.Reason})
	}
	return out
}

// dearest is the highest price among the differences.
func dearest(differences []spec.Difference) spec.Price {
	order := []spec.Price{spec.PriceNone, spec.PriceLive, spec.PriceReboot, spec.PriceRestart}
	most := 0
	for _, d := range differences {
		most = max(most, slices.Index(order, d.Price))
	}
	return order[most]
}

// fieldNames joins the names of the fields that have the price, or of all of
// them for an empty price.
func fieldNames(fields []FieldChange, price string) string {
	var names []string
	for _, f := range fields {
		if price == "" || f.Price == price {
			names = append(names, f.Field)
		}
	}
	return strings.Join(names, ", ")
}
