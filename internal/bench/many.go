package bench

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/qemu-reconciler/qemu-reconciler/internal/scale"
)

// manyPatience bounds the run with one number of stand-ins.
const manyPatience = 15 * time.Minute

// eachRows are figures that are to grow no faster than the number of tasks: for
// each number they are given a task, and compared with those of the smallest.
var eachRows = []struct{ figure, measure string }{
	{"converge", "rename to all run"}, {"converge-cpu", "the same, CPU"},
	{"known", "killed to all known"}, {"sessions", "to all sessions"}, {"stop", "to all gone"},
}

// mostRows are figures of the largest number.
var mostRows = []struct{ figure, measure, unit string }{
	{"label", "1 changed, recorded", "ms"}, {"edit", "1 changed, restarted", "ms"}, {"status", "status --json", "ms"},
	{"memory", "memory (PSS)", "MB"}, {"threads", "threads", ""},
}

// linear is how much more a task may cost among the most than among the fewest.
const linear = 1.5

// manyRows are those of stand-ins for QEMU, of which a small host can have
// thousands.
func manyRows(many []int) []*Row {
	var rows []*Row
	for i, n := range many {
		work := fmt.Sprintf("%d stand-ins, each of them", n)
		for _, each := range eachRows {
			row := &Row{ID: manyID(n, each.figure), Work: work, Measure: each.measure, Unit: "ms"}
			if i > 0 {
				row.Goal = Goal{TimesFloor, linear}
			}
			rows = append(rows, row)
		}
	}
	if len(many) == 0 {
		return nil
	}
	most := many[len(many)-1]
	work := fmt.Sprintf("%d stand-ins, all of them", most)
	rows = append(rows, &Row{ID: manyID(most, "look"), Work: work, Measure: "pass, no change", Unit: "ms", Goal: Goal{TimesFloor, 3}},
		&Row{ID: manyID(most, "look-changed"), Work: work, Measure: "pass, 1 change", Unit: "ms", Goal: Goal{TimesFloor, 3}})
	for _, m := range mostRows {
		rows = append(rows, &Row{ID: manyID(most, m.figure), Work: work, Measure: m.measure, Unit: m.unit})
	}
	return rows
}

func manyID(n int, figure string) string { return fmt.Sprintf("many%d.%s", n, figure) }

// many measures with each number of stand-ins. What a task costs among the fewest
// stands for the floor of the others; that of a look is a bare readdir and stat.
func (r *run) many() {
	program := r.host().Program()
	fewest := map[string]float64{}
	for i, n := range r.Many {
		if !r.wanted(fmt.Sprintf("many%d", n)) {
			continue
		}
		ctx, cancel := context.WithTimeout(r.t.Context(), manyPatience)
		figures, err := scale.Measure(ctx, scale.Options{Program: program, Tasks: n})
		cancel()
		r.must(err)
		for _, figure := range figures {
			r.ours(manyID(n, figure.ID), perTask(figure, n))
			if figure.ID == "bare" {
				r.floor(manyID(n, "look"), alone, figure.Value)
				r.floor(manyID(n, "look-changed"), alone, figure.Value)
			}
			if was, known := fewest[figure.ID]; known {
				r.floor(manyID(n, figure.ID), fmt.Sprintf("%d tasks", r.Many[0]), was)
			}
			if i == 0 && isEach(figure.ID) {
				fewest[figure.ID] = perTask(figure, n)
			}
		}
	}
}

// perTask is the figure for each of n tasks where a row asks for that.
func perTask(figure scale.Figure, n int) float64 {
	switch {
	case isEach(figure.ID):
		return figure.Value / float64(n)
	case figure.Unit == "MiB":
		return figure.Value * (1 << 20) / 1e6
	}
	return figure.Value
}

func isEach(id string) bool {
	return slices.ContainsFunc(eachRows, func(each struct{ figure, measure string }) bool { return each.figure == id })
}
