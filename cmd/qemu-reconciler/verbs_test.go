package main

import (
	"strings"
	"testing"

	"github.com/qemu-reconciler/qemu-reconciler/reconcile"
)

// The engine is asked for all names at once, so that it is the one who says
// which of them are unknown.
func TestActAsksOnceAndDoesNothingWhenANameIsUnknown(t *testing.T) {
	e := newFakeEngine()
	c, _ := serve(t, e)
	var out strings.Builder
	err := newApp(&out, &out).act(t.Context(), c, verbStop, []string{"web", "wbe"}, false)
	if exitCode(err) != exitFailed || !strings.Contains(err.Error(), `"wbe"`) || !strings.Contains(err.Error(), "of /d") {
		t.Errorf("got %v", err)
	}
	if got := <-e.begun; got != "stop web,wbe" || len(e.begun) != 0 {
		t.Errorf("the engine was asked for %q, and %d times more", got, len(e.begun))
	}
}

// Each task of a verb is told for itself: which one failed, what became of the
// others, and that a restart has left a task stopped.
func TestActTellsEachTask(t *testing.T) {
	failing := func(others bool, tasks ...string) error {
		reasons := map[string]string{}
		for _, name := range tasks {
			reasons[name] = "its image is gone"
		}
		return &reconcile.CommandError{Reasons: reasons, Others: others}
	}
	for _, c := range []struct {
		name      string
		verb      verb
		fail      error
		out, want string
	}{
		{"after the wait", verbRestart, failing(true, "web"), "db: restarted\n", "web was stopped and could not be started again: its image is gone"},
		{"at once", verbStart, failing(false, "web"), "", "cannot start web: its image is gone\ndid not start db: nothing is done when a task is refused"},
		{"a start", verbStart, failing(true, "web"), "db: started\n", "cannot start web: its image is gone"},
		{"a stop", verbStop, failing(true, "web", "db"), "", "cannot stop web: its image is gone\ncannot stop db: its image is gone"},
	} {
		e := newFakeEngine()
		e.fail = c.fail
		close(e.finish)
		client, _ := serve(t, e)
		var out strings.Builder
		err := newApp(&out, &out).act(t.Context(), client, c.verb, []string{"web", "db"}, true)
		if out.String() != c.out || err == nil || err.Error() != c.want || exitCode(err) != exitFailed {
			t.Errorf("%s: printed %q and returned %v", c.name, out.String(), err)
		}
	}
}
