package main

import (
	"errors"
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
	broken := &reconcile.TaskError{Task: "web", Reason: "its image is gone"}
	for _, c := range []struct {
		name      string
		verb      verb
		fail      error
		out, want string
	}{
		{"after the wait", verbRestart, errors.Join(broken), "db: restarted\n", "web was stopped and could not be started again: its image is gone"},
		{"at once", verbRestart, broken, "", "web was stopped and could not be started again: its image is gone\ndb was not waited for: see `qemu-reconciler status db`"},
		{"a start", verbStart, errors.Join(broken), "db: started\n", "cannot start web: its image is gone"},
		{"a stop", verbStop, errors.Join(broken, &reconcile.TaskError{Task: "db", Reason: "disk full"}), "", "cannot stop web: its image is gone\ncannot stop db: disk full"},
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
