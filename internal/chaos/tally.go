package chaos

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// tally counts what was done and seen in all episodes of a run.
type tally struct {
	steps, idle map[string]int
	// renewed counts processes that took another's place, by how that one ended.
	renewed                          map[string]int
	kills, terminations, ends        int
	checks, sure, unsure, heldChecks int
}

func newTally() *tally {
	return &tally{steps: map[string]int{}, idle: map[string]int{}, renewed: map[string]int{}}
}

// step counts a step, and whether there was anything to do.
func (y *tally) step(kind string, did bool) {
	y.steps[kind]++
	if !did {
		y.idle[kind]++
	}
}

// restarts counts the processes that are others than at the last rest.
func (y *tally) restarts(m *model, w world) {
	if len(w.status.HeldRemovals) > 0 {
		y.heldChecks++
	}
	for name, p := range w.procs {
		t := m.tasks[name]
		if t == nil || t.proc == nil || t.proc.pid == p.pid {
			continue
		}
		cause := "never shown"
		if s, shown := w.status.Task(name); shown && s.LastExit != nil {
			cause = strings.TrimSpace(s.LastExit.Cause + " " + s.LastExit.Rung)
		}
		y.renewed[cause]++
	}
}

func (y *tally) String() string {
	var b strings.Builder
	total, did := 0, 0
	for kind, n := range y.steps {
		total += n
		did += n - y.idle[kind]
	}
	fmt.Fprintf(&b, "%d steps, %d of them did something\n", total, did)
	for _, kind := range slices.Sorted(maps.Keys(y.steps)) {
		fmt.Fprintf(&b, "  %-22s %5d %s\n", kind, y.steps[kind]-y.idle[kind], strings.Repeat("#", (y.steps[kind]-y.idle[kind])*100/max(1, total)))
	}
	fmt.Fprintf(&b, "the daemon was killed %d times and terminated %d times; %d VMs were killed or powered off\n", y.kills, y.terminations, y.ends)
	fmt.Fprintf(&b, "VMs that took another's place, by how that one ended:\n")
	for _, cause := range slices.Sorted(maps.Keys(y.renewed)) {
		fmt.Fprintf(&b, "  %-22s %5d\n", cause, y.renewed[cause])
	}
	fmt.Fprintf(&b, "%d checks, %d with held removals; of all tasks in them the model was sure of %d and unsure of %d\n", y.checks, y.heldChecks, y.sure, y.unsure)
	return b.String()
}
