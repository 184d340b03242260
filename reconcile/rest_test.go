package reconcile

import (
	"errors"
	"maps"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/qemu-reconciler/qemu-reconciler/runtime"
	"github.com/qemu-reconciler/qemu-reconciler/spec"
)

// changes are what can happen to a world between two passes.
var changes = map[string]func(w *World){
	"nothing":   func(*World) {},
	"time":      func(w *World) { w.Now, w.Read = w.Now.Add(time.Hour), w.Now.Add(time.Hour) },
	"an event":  func(w *World) { w.LastEvent = w.Now },
	"blind":     func(w *World) { w.Blind = true },
	"the end":   func(w *World) { w.Stopping = true },
	"no dir":    func(w *World) { w.Set = &spec.Set{Dir: w.Set.Dir, Err: errors.New("gone")} },
	"no files":  func(w *World) { w.Set = &spec.Set{Dir: w.Set.Dir} },
	"writing":   func(w *World) { set := *w.Set; set.Unsettled, set.Writing = true, []string{"x"}; w.Set = &set },
	"the brake": func(w *World) { w.MaxRemovals = new(int) },
	"restarts":  func(w *World) { w.Asked = each(w, AskRestart) },
	"starts":    func(w *World) { w.Asked = each(w, AskStart) },
	"stopping":  func(w *World) { w.Busy = each(w, StepStop) },
	"starting":  func(w *World) { w.Busy = each(w, StepStart) },
	"faults":    func(w *World) { w.Faults = each(w, Fault{Reason: "full", Until: w.Now.Add(time.Minute)}) },
	"deaths":    observing(func(o *runtime.Observation) { o.Alive = false }),
	"silence":   observing(func(o *runtime.Observation) { o.Trouble = "silent" }),
	"pauses":    observing(func(o *runtime.Observation) { o.Paused = "paused" }),
	"refusals":  observing(func(o *runtime.Observation) { o.Refused = "newer" }),
	"holds": observing(func(o *runtime.Observation) {
		if o.Record != nil {
			record := *o.Record
			record.Held = true
			o.Record = &record
		}
	}),
	"elsewhere": func(w *World) {
		set := *w.Set
		set.Definitions = nil
		for _, d := range w.Set.Definitions {
			there := *d
			there.Here = false
			set.Definitions = append(set.Definitions, &there)
		}
		w.Set = &set
	},
}

func each[T any](w *World, value T) map[string]T {
	out := map[string]T{}
	for name := range w.Observed {
		out[name] = value
	}
	return out
}

func observing(change func(o *runtime.Observation)) func(w *World) {
	return func(w *World) {
		w.Observed = maps.Clone(w.Observed)
		for name, o := range w.Observed {
			change(&o)
			w.Observed[name] = o
		}
	}
}

// A verdict is taken from an earlier pass only where a judgement would come to the
// same, whatever happened in between, and it is taken where nothing did.
func TestRestingVerdictsAreThoseOfAJudgement(t *testing.T) {
	t.Parallel()
	paths, err := filepath.Glob("testdata/diff/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	same := map[string]int{}
	for _, path := range paths {
		archive, err := txtar.ParseFile(path)
		if err != nil {
			t.Fatal(err)
		}
		before := readWorld(t, archive)
		bound := map[*spec.Definition]*spec.Task{} // as the engine does
		before.Bind = func(d *spec.Definition, ports map[string]int) *spec.Task {
			if bound[d] == nil {
				bound[d], _ = d.Bind(ports)
			}
			return bound[d]
		}
		known := resting{}
		known.note(before, Diff(before))
		for name, change := range changes {
			after := *before
			change(&after)
			want := showVerdicts(Diff(&after))
			after.Resting = known
			verdicts := Diff(&after)
			if diff := cmp.Diff(want, showVerdicts(verdicts)); diff != "" {
				t.Errorf("%s, then %s (-judged +taken):\n%s", strings.TrimSuffix(filepath.Base(path), ".txtar"), name, diff)
			}
			for _, v := range verdicts {
				if v.Same {
					same[name]++
				}
			}
		}
	}
	if same["nothing"] < 10 || same["time"] != same["nothing"] {
		t.Errorf("taken from the pass before: %v", same)
	}
}
