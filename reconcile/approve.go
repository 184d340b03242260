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
	before := "nobody was shown yet which removals are held"
	if len(e.Shown) > 0 {
		before = fmt.Sprintf("other removals are held than were shown (%s)", strings.Join(e.Shown, ", "))
	}
	return fmt.Sprintf("%s: now it is %s; nothing was removed, approve again if these shall go", before, strings.Join(e.Names, ", "))
}

// Approve lets exactly the removals go that the brake holds, and names them. It
// is refused with ErrNothingHeld when there are none, and with a
// *HeldChangedError when they are others than an operator was shown last; that
// error lists them, so the next approval is for those. An approval that cannot
// be written down is none.
func (e *Engine) Approve() ([]string, error) {
	e.saving.Lock()
	defer e.saving.Unlock()
	names, next, err := e.approval()
	if err != nil {
		return nil, err
	}
	crash.Point("approve.began")
	if err := e.cfg.Machines.RememberRemovals(next); err != nil {
		return nil, fmt.Errorf("the approval cannot be written down, so nothing is removed: %w", err)
	}
	crash.Point("approve.written")
	e.saved = next
	e.takeApproval(names, next)
	crash.Point("approve.taken")
	for _, name := range names {
		e.cfg.Machines.Event("removal-approved", name, "the operator approved its removal", nil)
	}
	e.Poke()
	return names, nil
}

// approval names what is held and was shown, and gives what is remembered when
// that may go.
func (e *Engine) approval() (names []string, next runtime.Removals, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	_, verdicts := e.judgeNow()
	names, shown := braked(verdicts), e.shown
	e.shown = names
	switch {
	case len(names) == 0:
		return nil, next, ErrNothingHeld
	case !slices.Equal(names, shown):
		return nil, next, &HeldChangedError{Names: names, Shown: shown}
	}
	next = e.removals
	next.Held = map[string]runtime.HeldRemoval{}
	maps.Copy(next.Held, e.removals.Held)
	for _, v := range verdicts {
		if v.Braked {
			next.Held[v.Task] = runtime.HeldRemoval{Since: v.Removal.Since, Ran: v.Removal.Ran, Approved: true}
		}
	}
	return names, next, nil
}

// takeApproval makes an approval that is written down the truth. A pass may have
// held others in between.
func (e *Engine) takeApproval(names []string, written runtime.Removals) {
	e.mu.Lock()
	defer e.mu.Unlock()
	held := map[string]runtime.HeldRemoval{}
	maps.Copy(held, e.removals.Held)
	for _, name := range names {
		held[name] = written.Held[name]
	}
	e.removals.Held, e.shown = held, nil
}

// unapproved names the removals that are held, sorted.
func unapproved(r runtime.Removals) []string {
	var names []string
	for name, held := range r.Held {
		if !held.Approved {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
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
	removals, failed := e.removals, e.unsaved
	e.mu.Unlock()
	if removals.Equal(e.saved) {
		return
	}
	crash.Point("removals.changed")
	err := e.cfg.Machines.RememberRemovals(removals)
	crash.Point("removals.saved")
	if err == nil {
		e.saved = removals
	} else if !failed {
		e.cfg.Log.Error("it cannot be written down which removals wait or have begun; it is kept in memory", "error", err)
	}
	e.mu.Lock()
	e.unsaved = err != nil
	e.mu.Unlock()
}
