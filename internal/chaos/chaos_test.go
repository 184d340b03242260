package chaos

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"testing"

	"github.com/qemu-reconciler/qemu-reconciler/internal/e2e"
)

func TestMain(m *testing.M) { e2e.Main(m) }

// defaultSteps and defaultSeed are the run that belongs to every `make test`, which is
// to tell of what was changed and not of its luck; `make chaos` is longer, and another
// each time.
const defaultSteps, defaultSeed = 50, 945918740

// Whatever happens in whatever order, the world is as the model says after every
// rest.
func TestChaos(t *testing.T) {
	steps, seed := number(t, "CHAOS_STEPS", defaultSteps), number(t, "CHAOS_SEED", defaultSeed)
	sum := newTally()
	t.Cleanup(func() { t.Logf("seed %d\n%s", seed, sum) })
	for done := 0; done < steps && !t.Failed(); done += episodeSteps {
		n, seed := min(steps-done, episodeSteps), seed+done/episodeSteps
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			fmt.Printf("chaos: seed %d, %d steps\n", seed, n)
			c := start(t, sum)
			t.Cleanup(func() {
				if t.Failed() {
					t.Logf("again: make chaos CHAOS_SEED=%d CHAOS_STEPS=%d", seed, len(c.drawn))
				}
			})
			c.begin(seed)
			for _, s := range plan(seed)[:n] {
				c.step(s)
			}
			c.end()
		})
	}
}

// number reads a number from the environment.
func number(t *testing.T, name string, otherwise int) int {
	given := os.Getenv(name)
	if given == "" {
		return otherwise
	}
	n, err := strconv.Atoi(given)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// A seed gives the same steps each time, and every kind of step is drawn and
// known.
func TestPlan(t *testing.T) {
	t.Parallel()
	if !slices.Equal(plan(7), plan(7)) || slices.Equal(plan(7), plan(8)) {
		t.Error("a seed does not decide the plan, or all give the same")
	}
	seen := map[string]bool{}
	for seed := range 20 {
		for _, s := range plan(seed) {
			seen[s.Kind] = true
		}
	}
	for kind := range weights {
		_, isEdit := edits[kind]
		if _, isDeed := deeds[kind]; isEdit == isDeed || !seen[kind] {
			t.Errorf("%s: an edit: %v, a deed: %v, drawn: %v", kind, isEdit, isDeed, seen[kind])
		}
	}
	if len(weights) != len(edits)+len(deeds) {
		t.Errorf("%d kinds have a weight, there are %d", len(weights), len(edits)+len(deeds))
	}
}
