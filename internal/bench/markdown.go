package bench

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Markdown shows runs side by side: medians, and in brackets the quarters below
// and above them, or the number of figures where they are few.
func Markdown(runs []*Report) string {
	var b strings.Builder
	b.WriteString(headings(runs))
	b.WriteString("\n| work | measure |")
	rule := "|---|---|"
	for i := range runs {
		fmt.Fprintf(&b, " floor %d | reconciler %d | ratio %d |", i+1, i+1, i+1)
		rule += "---|---|---|"
	}
	fmt.Fprintf(&b, " goal | |\n%s---|---|\n", rule)
	for _, row := range runs[0].Rows {
		fmt.Fprintf(&b, "| %s | %s |", row.Work, row.Measure)
		var verdicts []string
		for _, run := range runs {
			same := run.row(row.ID)
			fmt.Fprintf(&b, " %s | %s | %s |", bareFigure(same, row.Unit), withUnit(same.oursText(), row.Unit), ratio(same))
			if len(same.Ours) > 0 {
				verdicts = append(verdicts, same.Verdict())
			}
		}
		fmt.Fprintf(&b, " %s | %s |\n", row.Goal.String(row.Unit), strings.Join(slices.Compact(verdicts), ", "))
	}
	return b.String()
}

// PeerMarkdown shows runs in which another program was measured, one table for
// each.
func PeerMarkdown(runs []*Report) string {
	var b strings.Builder
	b.WriteString(headings(runs))
	for _, run := range runs {
		fmt.Fprintf(&b, "\n| work | measure | floor | reconciler | %s |\n|---|---|---|---|---|\n", run.Peer)
		for _, row := range run.Rows {
			fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", row.Work, row.Measure, bareFigure(row, row.Unit),
				withUnit(row.oursText(), row.Unit), withUnit(figure(SpreadOf(row.Peer)), row.Unit))
		}
	}
	return b.String()
}

// headings say of each run what it was measured on, and what was not as asked for.
func headings(runs []*Report) string {
	var b strings.Builder
	for i, run := range runs {
		var facts []string
		for _, name := range slices.Sorted(maps.Keys(run.Host)) {
			facts = append(facts, name+": "+run.Host[name])
		}
		fmt.Fprintf(&b, "- Run %d: %s; %s.", i+1, run.At.Format("2006-01-02 15:04 UTC"), strings.Join(facts, ", "))
		for _, note := range run.Notes {
			b.WriteString(" " + note)
		}
		b.WriteString("\n")
	}
	return b.String()
}

// bareFigure is the floor's best, with its setting where it had several.
func bareFigure(row *Row, unit string) string {
	setting, floor := row.BestFloor()
	bare := withUnit(figure(floor), unit)
	if setting != "" && setting != alone {
		bare += ", " + setting
	}
	return bare
}

// row is one without figures where the report has none of that ID.
func (r *Report) row(id string) *Row {
	for _, row := range r.Rows {
		if row.ID == id {
			return row
		}
	}
	return &Row{ID: id}
}

func withUnit(figure, unit string) string {
	if figure == "-" || unit == "" {
		return figure
	}
	return figure + " " + unit
}
