package bench

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Markdown shows runs side by side: medians, and in brackets the quarters below
// and above them.
func Markdown(runs []*Report) string {
	var b strings.Builder
	for i, run := range runs {
		var facts []string
		for _, name := range slices.Sorted(maps.Keys(run.Host)) {
			facts = append(facts, name+": "+run.Host[name])
		}
		fmt.Fprintf(&b, "Run %d: %s; %s.\n", i+1, run.At.Format("2006-01-02 15:04 UTC"), strings.Join(facts, ", "))
	}
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
			setting, floor := same.BestFloor()
			bare := withUnit(figure(floor), row.Unit)
			if setting != "" && setting != alone {
				bare += ", " + setting + " at once"
			}
			fmt.Fprintf(&b, " %s | %s | %s |", bare, withUnit(figure(SpreadOf(same.Ours)), row.Unit), ratio(same))
			verdicts = append(verdicts, same.Verdict())
		}
		fmt.Fprintf(&b, " %s | %s |\n", row.Goal.String(row.Unit), strings.Join(slices.Compact(verdicts), ", "))
	}
	return b.String()
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
