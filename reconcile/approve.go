package reconcile

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/qemu-reconciler/qemu-reconciler/internal/crash"
	"github.com/qemu-reconciler/qemu-reconciler/runtime"
)

// ErrNothingHeld is the answer to an approval that finds nothing to approve.
var ErrNothingHeld = errors.New("no removal waits for an approval")

// HeldChangedError is the answer to an approval when other removals are held
// than those that were shown last.
type HeldChangedError struct {
	// Names are those that are held now.
	Names []string
	// Shown are those that were shown.
	Shown []string
}

// Error implements error.
func (e *HeldChangedError) Error() string {
	return fmt.Sprintf("other removals are held than were shown (%s): now it is %s; nothing was removed, approve again if these shall go",
		strings.Join(e.Shown, ", "), strings.Join(e.Names, ", "))
}

// Approve lets exactly the removals go that the brake holds, and names them. It
// is refused with ErrNothingHeld when there are none, and with a
// *HeldChangedError when they are others than Show or Plan listed last; that
// error lists them, so the next approval is for those. An approval that cannot
// be written down is none.
func (e *Engine) Approve() ([]string, error) {
	e.saving.Lock()
	defer e.saving.Unlock()
	e.mu.Lock()
	_, verdicts := e.judgeNow()
	names, shown := braked(verdicts), e.shown
	next := runtime.Removals{Held: maps.Clone(e.removals.Held), Begun: e.removals.Begun}
	if len(names) > 0 {
		e.shown = names
	}
	e.mu.Unlock()
	switch {
	case len(names) == 0:
		return nil, ErrNothingHeld
	case len(shown) > 0 && !slices.Equal(names, shown):
		return nil, &HeldChangedError{Names: names, Shown: shown}
	}
	if next.Held == nil {
		next.Held = map[string]runtime.HeldRemoval{}
	}
	for _, v := range verdicts {
		if v.Braked {
			next.Held[v.Task] = runtime.HeldRemoval{Since: v.Removal.Since, Ran: v.Removal.Ran, Approved: true}
		}
	}
	crash.Point("approve.began")
	if err := e.cfg.Machines.RememberRemovals(next); err != nil {
		return nil, fmt.Errorf("the approval cannot be written down, so nothing is removed: %w", err)
	}
	crash.Point("approve.written")
	e.mu.Lock()
	e.saved, e.shown = next, nil
	held := maps.Clone(e.removals.Held)
	for _, name := range names {
		if h, still := next.Held[name]; still {
			held[name] = h
		}
	}
	e.removals.Held = held
	e.mu.Unlock()
	crash.Point("approve.taken")
	for _, name := range names {
		e.cfg.Machines.Event("removal-approved", name, "the operator approved its removal", nil)
	}
	e.Poke()
	return names, nil
}

// saveRemovals writes what the brake has to know when that has changed. What
// cannot be written is tried again at the next pass.
func (e *Engine) saveRemovals() {
	if e.cfg.RemovalsFault != "" {
		return
	}
	e.saving.Lock()
	defer e.saving.Unlock()
	e.mu.Lock()
	removals := e.removals
	e.mu.Unlock()
	if maps.Equal(removals.Held, e.saved.Held) && maps.Equal(removals.Begun, e.saved.Begun) {
		return
	}
	crash.Point("removals.changed")
	err := e.cfg.Machines.RememberRemovals(removals)
	crash.Point("removals.saved")
	if err == nil {
		e.saved, e.unsaved = removals, ""
		return
	}
	if text := err.Error(); text != e.unsaved {
		e.unsaved = text
		e.cfg.Log.Error("it cannot be written down which removals wait or have begun; it is kept in memory", "error", err)
	}
}
