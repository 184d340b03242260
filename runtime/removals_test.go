package runtime

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// What the brake knows survives a restart; what makes no sense is set aside and
// told, and from then on it is known that it is lost, as when the file is gone; what
// a newer version wrote is left as it is.
func TestRemovalsAreRemembered(t *testing.T) {
	l := newLab(t)
	expect := func(want Removals) {
		t.Helper()
		got, err := l.Removals()
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%v, removals (-want +got):\n%s", err, diff)
		}
	}
	expect(Removals{Version: removalsVersion})
	at := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	removals := Removals{
		Version: removalsVersion,
		Held:    map[string]HeldRemoval{"a": {Since: at, Ran: 3}, "b": {Since: at, Ran: 3, Approved: true}},
		Begun:   map[string]BegunRemoval{"c": {At: at, Ran: 3}},
	}
	must(t, l.RememberRemovals(removals))
	l.reopen(func() {
		seen, err := View(t.Context(), l.layout)
		if diff := cmp.Diff(removals, seen.Removals); diff != "" || err != nil || seen.RemovalsError != nil {
			t.Errorf("%v, seen from outside (-want +got):\n%s", err, diff)
		}
	})
	expect(removals)

	must(t, os.WriteFile(l.layout.Removals(), []byte(`{"held": [`), 0o600))
	lost := Removals{Version: removalsVersion, Lost: l.layout.Removals() + " makes no sense: unexpected end of JSON input"}
	expect(lost)
	l.reopen(func() {})
	expect(lost)
	aside, err := filepath.Glob(l.layout.Removals() + ".corrupt-*")
	if len(aside) != 1 || err != nil || len(l.told("")) == 0 {
		t.Errorf("set aside: %v, %v; told: %v", aside, err, l.told(""))
	}

	must(t, os.Remove(l.layout.Removals()))
	must(t, l.Update("web", func(r *Record) { r.Held = true }))
	l.reopen(func() {
		seen, err := View(t.Context(), l.layout)
		if err != nil || seen.Removals.Lost != l.layout.Removals()+" is gone" {
			t.Errorf("%v, seen from outside: %+v", err, seen.Removals)
		}
	})
	expect(Removals{Version: removalsVersion, Lost: l.layout.Removals() + " is gone"})

	newer := []byte(`{"version": 9, "held": "another shape"}`)
	must(t, os.WriteFile(l.layout.Removals(), newer, 0o600))
	var refused *NewerError
	if _, err := l.Removals(); !errors.As(err, &refused) {
		t.Errorf("a newer version's file gives %v", err)
	}
	if raw, err := os.ReadFile(l.layout.Removals()); err != nil || string(raw) != string(newer) {
		t.Errorf("it became %s, %v", raw, err)
	}
}
