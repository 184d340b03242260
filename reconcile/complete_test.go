package reconcile

import (
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"
)

// TestPlanOfAnIncompleteSet holds that a plan shows what will be once the files
// have rested: a mass removal that is going to be held.
func TestPlanOfAnIncompleteSet(t *testing.T) {
	archive, err := txtar.ParseFile("testdata/diff/brake-many.txtar")
	if err != nil {
		t.Fatal(err)
	}
	w := readWorld(t, archive)
	w.Set.CompleteAt = w.Now.Add(time.Second)
	if held := braked(Diff(w)); len(held) > 0 {
		t.Errorf("held before the files have rested: %v", held)
	}
	if held := braked(Diff(w.settled())); len(held) != 3 {
		t.Errorf("the plan holds %v", held)
	}
	if w.Set.CompleteAt.IsZero() {
		t.Error("the world itself was changed")
	}
}
