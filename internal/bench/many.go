package bench

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/qemu-reconciler/qemu-reconciler/internal/scale"
)

// manyPatience bounds the run with one number of stand-ins.
const manyPatience = 15 * time.Minute

// eachRows are figures that are to grow no faster than the number of tasks: for
// each number they are given for a task, and compared with those of the smallest.
var eachRows = []struct{ figure, measure, unit string }{
	{"converge", "rename to all run", "ms"}, {"converge-cpu", "the same, CPU", "ms"},
	{"known", "killed to all known", "ms"}, {"sessions", "to all sessions", "ms"},
	{"look", "resync, no change", "µs"}, {"stop", "to all gone", "ms"},
}

// mostRows are figures of the largest number.
var mostRows = []struct {
	figure, measure, unit string
	goal                  Goal
}{
	{"label", "1 changed, recorded", "ms", Goal{}}, {"edit", "1 changed, restarted", "ms", Goal{}},
	{"status", "status --json", "ms", Goal{}}, {"memory", "memory (PSS)", "MB", Goal{}},
	{"threads", "threads", "", Goal{OverFloor, moreThreads}},
}

// fileRows are figures of a look at all task files.
var fileRows = []struct {
	figure, measure, unit string
	goal                  Goal
}{
	{"look", "pass, no change", "ms", Goal{TimesFloor, 3}}, {"parsed", "parsed, no change", "", Goal{EachAtMost, 0}},
	{"look-changed", "pass, 1 changed", "ms", Goal{TimesFloor, 3}}, {"parsed-changed", "parsed, 1 changed", "", Goal{EachAtMost, 1}},
}

// linear is how much more a task may cost among the most than among the fewest.
const linear = 1.5

// manyRows are those of stand-ins for QEMU, of which a small host can have
// thousands.
func manyRows(many []int, files int) []*Row {
	var rows []*Row
	for i, n := range many {
		for _, each := range eachRows {
			row := &Row{ID: manyID(n, each.figure), Work: fmt.Sprintf("%d stand-ins, each of them", n), Measure: each.measure, Unit: each.unit}
			if i > 0 {
				row.Goal = Goal{TimesFloor, linear}
			}
			rows = append(rows, row)
		}
	}
	if len(many) == 0 {
		return nil
	}
	for _, m := range fileRows {
		rows = append(rows, &Row{ID: "files." + m.figure, Work: fmt.Sprintf("%d task files", files), Measure: m.measure, Unit: m.unit, Goal: m.goal})
	}
	most := many[len(many)-1]
	for _, m := range mostRows {
		rows = append(rows, &Row{ID: manyID(most, "all-"+m.figure), Work: fmt.Sprintf("%d stand-ins, all of them", most), Measure: m.measure, Unit: m.unit, Goal: m.goal})
	}
	return rows
}

func manyID(n int, figure string) string { return fmt.Sprintf("many%d.%s", n, figure) }

// manyScenarios are the first parts of their IDs.
func manyScenarios(o Options) string {
	var all []string
	for _, n := range o.Many {
		all = append(all, fmt.Sprintf("many%d", n))
	}
	return strings.Join(append(all, "files"), " ")
}

// many measures with each number of stand-ins. What a task costs among the fewest
// stands for the floor of the others.
func (r *run) many() {
	program := r.host().Program()
	for i, n := range r.Many {
		last := i == len(r.Many)-1
		if !r.wanted(fmt.Sprintf("many%d", n)) && !(last && r.wanted("files")) {
			continue
		}
		o := scale.Options{Program: program, Tasks: n}
		if last {
			o.Files = r.Files
		}
		ctx, cancel := context.WithTimeout(r.t.Context(), manyPatience)
		measured, err := scale.Measure(ctx, o)
		cancel()
		r.must(err)
		figures := map[string]scale.Figure{}
		for _, figure := range measured {
			figures[figure.ID] = figure
		}
		r.noteEach(n, figures)
		if last {
			r.noteMost(n, figures)
		}
	}
}

// noteEach notes the figures of which each task has its share.
func (r *run) noteEach(n int, figures map[string]scale.Figure) {
	fewest := r.Many[0]
	for _, each := range eachRows {
		figure, row := figures[each.figure], r.rows[manyID(n, each.figure)]
		for _, value := range figure.Values {
			r.ours(manyID(n, each.figure), inUnit(value, figure.Unit, each.unit)/float64(figure.Of))
		}
		if few := r.rows[manyID(fewest, each.figure)]; few != nil && row != nil && few != row {
			row.Floor = map[string][]float64{fmt.Sprintf("%d stand-ins", fewest): few.Ours}
		}
	}
}

// noteMost notes the figures of the largest number, and of all files.
func (r *run) noteMost(n int, figures map[string]scale.Figure) {
	for _, m := range fileRows {
		for _, value := range figures[m.figure].Values {
			r.ours("files."+m.figure, value)
		}
	}
	for _, look := range []string{"look", "look-changed"} {
		for _, value := range figures["bare"].Values {
			r.floor("files."+look, alone, value)
		}
	}
	for _, m := range mostRows {
		figure := figures[m.figure]
		for _, value := range figure.Values {
			r.ours(manyID(n, "all-"+m.figure), inUnit(value, figure.Unit, m.unit))
		}
	}
	r.floor(manyID(n, "all-threads"), "no VM", figures["idle-threads"].Values[0])
}

// inUnit converts between units of what scale measures and of rows.
func inUnit(value float64, from, to string) float64 {
	switch {
	case from == "ms" && to == "µs":
		return value * 1000
	case from == "MiB" && to == "MB":
		return value * (1 << 20) / 1e6
	}
	return value
}
