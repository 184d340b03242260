package bench

import (
	"fmt"
	"math"
	"strings"
)

// Table is the report for a terminal of 80 columns: medians, and in brackets the
// quarters below and above them.
func (r *Report) Table() string {
	var b strings.Builder
	line := func(measure, floor, ours, ratio, goal, verdict string) {
		if r.Peer != "" {
			fmt.Fprintln(&b, strings.TrimRight(fmt.Sprintf("%-21s %-18s %-18s %s", measure, floor, ours, verdict), " "))
			return
		}
		fmt.Fprintln(&b, strings.TrimRight(fmt.Sprintf("%-21s %-17s %-17s %5s %-9s %s", measure, floor, ours, ratio, goal, verdict), " "))
	}
	if r.Peer != "" {
		line("", "floor", "reconciler", "", "", r.Peer)
	} else {
		line("", "floor", "reconciler", "ratio", "goal", "")
	}
	work := ""
	for _, row := range r.Rows {
		if row.Work != work {
			work = row.Work
			fmt.Fprintln(&b, work)
		}
		_, floor := row.BestFloor()
		bare := figure(floor)
		ours := figure(SpreadOf(row.Ours))
		if r.Peer != "" {
			line("  "+row.Measure, bare, ours, "", "", figure(SpreadOf(row.Peer)))
			continue
		}
		line("  "+row.Measure, bare, ours, ratio(row), row.Goal.String(row.Unit), row.Verdict())
	}
	return b.String()
}

// figure is a median with its spread.
func figure(s Spread) string {
	if math.IsNaN(s.Median) {
		return "-"
	}
	if s.Low == s.High {
		return number(s.Median)
	}
	return fmt.Sprintf("%s (%s-%s)", number(s.Median), number(s.Low), number(s.High))
}

// number has three digits that count.
func number(v float64) string {
	switch {
	case v == math.Trunc(v) || math.Abs(v) >= 99.95:
		return fmt.Sprintf("%.0f", v)
	case math.Abs(v) >= 9.995:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

func ratio(r *Row) string {
	if v := r.Ratio(); !math.IsNaN(v) && r.Goal.Kind != AtMost {
		return fmt.Sprintf("%.2f", v)
	}
	return ""
}

// String says what a median is to be at most.
func (g Goal) String(unit string) string {
	if unit != "" {
		unit = " " + unit
	}
	switch g.Kind {
	case AtMost:
		return number(g.Value) + unit
	case TimesFloor:
		return fmt.Sprintf("%.2f x", g.Value)
	case OverFloor:
		return "+ " + number(g.Value) + unit
	}
	return ""
}

// Verdict is empty for a row without a goal.
func (r *Row) Verdict() string {
	switch {
	case r.Goal.Kind == NoGoal:
		return ""
	case r.Met():
		return "met"
	}
	return "MISSED"
}
