package bench

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// Table is the report for a terminal of 80 columns: medians, and in brackets the
// quarters below and above them, or the number of figures where they are few.
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
		ours := row.oursText()
		if r.Peer != "" {
			line("  "+row.Measure, bare, ours, "", "", figure(SpreadOf(row.Peer)))
			continue
		}
		line("  "+row.Measure, bare, ours, ratio(row), row.Goal.String(row.Unit), row.Verdict())
	}
	for _, note := range r.Notes {
		fmt.Fprintln(&b, note)
	}
	return b.String()
}

// few figures have no quarters that mean anything: their number is told instead.
const few = 5

// figure is a median with its spread.
func figure(s Spread) string {
	switch {
	case s.N == 0:
		return "-"
	case s.N < few:
		return fmt.Sprintf("%s (n=%d)", number(s.Median), s.N)
	case s.Low == s.High:
		return number(s.Median)
	}
	return fmt.Sprintf("%s (%s-%s)", number(s.Median), number(s.Low), number(s.High))
}

// oursText is our figure, or the worst one where each of them counts.
func (r *Row) oursText() string {
	if r.Goal.Kind == EachAtMost && len(r.Ours) > 0 {
		return "max " + number(slices.Max(r.Ours))
	}
	return figure(SpreadOf(r.Ours))
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
	if v := r.Ratio(); !math.IsNaN(v) && r.Goal.Kind != AtMost && r.Goal.Kind != EachAtMost {
		return fmt.Sprintf("%.2f", v)
	}
	return ""
}

// String says what the figure that counts is to be at most.
func (g Goal) String(unit string) string {
	if unit != "" {
		unit = " " + unit
	}
	switch g.Kind {
	case AtMost, EachAtMost:
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
	case math.IsNaN(r.Limit()):
		return "no floor"
	case r.Met():
		return "met"
	}
	return "MISSED"
}
