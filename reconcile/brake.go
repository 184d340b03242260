package reconcile

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/qemu-reconciler/qemu-reconciler/runtime"
	"github.com/qemu-reconciler/qemu-reconciler/spec"
)

const (
	// RemovalSettle is how long tasks must have been in no file, and the
	// directory without an event, before a VM is stopped for it. Editors, git
	// checkout and rsync delete before they write; half a second outlasts them.
	RemovalSettle = 500 * time.Millisecond
	// blindSettle is the same where the directory tells of no events.
	blindSettle = 5 * time.Second
	// removalWindow is the time over which removals are counted.
	removalWindow = time.Minute
	// manyRemovals is the fewest that are held unless max_removals says
	// otherwise: the last VMs of a small host go without asking.
	manyRemovals = 3
)

// Absence is a recorded task that is in no file.
type Absence struct {
	// Since is when it was missed first, and Ran how many VMs ran then.
	Since time.Time
	Ran   int
}

// brake is what holds for all removals of a pass: an accident rarely takes one
// file alone, so they are judged together.
type brake struct {
	// absent are the tasks that are in no file.
	absent map[string]Absence
	// due is when the latest of them, the directory, and the files in it have
	// settled: a removal that went before would not be counted with those that
	// follow it.
	due time.Time
	// reason holds all removals that were not approved and have not begun;
	// empty lets them go.
	reason string
	// mend says what holds all removals until it is so; empty when nothing does.
	mend string
}

// newBrake counts the removals. They are held when there are too many, and,
// once any is held, until it is approved or its file is back: directories come
// back piece by piece, too.
func newBrake(w *World, wants map[string]*Want) brake {
	b := brake{absent: absentees(w, wants), mend: w.mend()}
	b.due = w.LastEvent
	c := count{w: w, tasks: map[string]bool{}}
	held := false
	for name, absence := range b.absent {
		if absence.Since.After(b.due) {
			b.due = absence.Since
		}
		h, ok := w.Removals.Held[name]
		switch {
		case ok:
			held = held || !h.Approved
			c.add(name, h.Since, h.Ran)
		case w.counts(name):
			c.add(name, absence.Since, absence.Ran)
		}
	}
	for name, begun := range w.Removals.Begun {
		if !returned(wants[name]) && !w.outlived(name, begun) {
			c.add(name, begun.At, begun.Ran)
		}
	}
	b.due = b.due.Add(w.settle())
	if w.Set.CompleteAt.After(b.due) {
		b.due = w.Set.CompleteAt
	}
	switch {
	case w.RemovalsFault != "":
		b.reason = "its removal waits, for it is not known which are held: " + w.RemovalsFault
	case w.Removals.Lost != "":
		b.reason = "its removal waits for `qemu-reconciler approve`, or for its file to come back: it is not known what was held before: " + w.Removals.Lost
	case c.tooMany() != "":
		b.reason = "its removal waits for `qemu-reconciler approve`, or for its file to come back: " + c.tooMany()
	case held:
		b.reason = "its removal was held with others, and waits for `qemu-reconciler approve` or for its file to come back"
	}
	return b
}

func (w *World) settle() time.Duration {
	if w.Blind {
		return blindSettle
	}
	return RemovalSettle
}

// count is the removals of the last minute, and how many VMs ran when the
// first of them was missed.
type count struct {
	w     *World
	tasks map[string]bool
	first time.Time
	ran   int
}

func (c *count) add(task string, at time.Time, ran int) {
	c.tasks[task] = true
	if c.first.IsZero() || at.Before(c.first) || at.Equal(c.first) && ran > c.ran {
		c.first, c.ran = at, ran
	}
}

// tooMany says why they may not go unasked; empty when they may.
func (c *count) tooMany() string {
	n, most := len(c.tasks), c.w.MaxRemovals
	switch {
	case most != nil && n > *most:
		return fmt.Sprintf("%d removals within a minute, and max_removals is %d", n, *most)
	case most == nil && n >= manyRemovals && 2*n > c.ran:
		return fmt.Sprintf("%d of %d VMs would be gone within a minute", n, max(n, c.ran))
	}
	return ""
}

// counts says whether the removal of a task counts for the brake: the files, and
// nobody else, had its VM run. One that is down for the moment counts like one that
// runs: after a reboot of the host all are, and with its record would go the ports,
// the pinned format and the last good definition that it needs to come back.
func (w *World) counts(task string) bool {
	o := w.Observed[task]
	rec := o.Record
	switch {
	case o.Refused != "" || rec == nil || rec.Wanted == nil || rec.Kept || rec.Held:
		return false
	case o.Alive:
		return rec.Wanted.OnRemove != spec.OnRemoveKeep
	}
	return rec.Wanted.State == spec.StateRunning && w.comesBack(rec)
}

// comesBack says whether a VM that is down would be started again.
func (w *World) comesBack(rec *runtime.Record) bool {
	return rec.LastExit == nil || rec.LastExit.BootID != w.BootID || judgeExit(rec.Wanted.Restart, rec, w.Now).Stay == ""
}

// outlived says whether a removal is over though it is still remembered, since the
// process that runs is another than it was to stop: the task was back in between, and
// a daemon may have died before it wrote that down.
func (w *World) outlived(task string, begun runtime.BegunRemoval) bool {
	o := w.Observed[task]
	return o.Alive && o.Record != nil && o.Record.Process != nil && !o.Record.Process.StartedAt.Equal(begun.StartedAt)
}

// went says whether the removal of a task, once begun, has come to the stop of its
// VM, which ends it even when nothing can be told of the task any more.
func (w *World) went(task string) bool {
	begun, has := w.Removals.Begun[task]
	o := w.Observed[task]
	switch {
	case !has || begun.StartedAt.IsZero() || w.outlived(task, begun):
		return false
	case o.Alive:
		return o.Record.Stopping()
	}
	exit := o.Record.LastExit
	return exit != nil && exit.StartedAt.Equal(begun.StartedAt) && exit.Cause == runtime.CauseStopped
}

// calledOff says whether a removal that has begun is none any more: before its stop
// was announced, the directory or a file in it came to a state in which nothing can be
// told of the task. That a new daemon has yet to read it says nothing.
func (w *World) calledOff(v *Verdict) bool {
	return v.Want != nil && v.Want.Stale != "" && w.Busy[v.Task] != StepStop && !errors.Is(w.Set.Err, errNotRead)
}

// returned says whether a file defines the task soundly.
func returned(want *Want) bool { return want != nil && want.Stale == "" }

// absentees gives the recorded tasks that are in no file, with what was known
// of that before. While the directory cannot be read nobody is absent.
func absentees(w *World, wants map[string]*Want) map[string]Absence {
	out := map[string]Absence{}
	if w.Set.Err != nil {
		return out
	}
	ran := 0
	for name, o := range w.Observed {
		if o.Alive && (o.Record == nil || !o.Record.Kept) || w.Busy[name] != StepNone {
			ran++
		}
	}
	for name, o := range w.Observed {
		if o.Record == nil || wants[name] != nil {
			continue
		}
		absence, known := w.Absent[name]
		if !known {
			absence = Absence{Since: w.Now, Ran: ran}
		}
		out[name] = absence
	}
	return out
}

// settled is the world as it will be when the directory has been quiet for long
// enough: what a plan shows.
func (w *World) settled() *World {
	later, set := *w, *w.Set
	set.CompleteAt, later.Set = time.Time{}, &set
	later.Absent, later.LastEvent, later.Read = map[string]Absence{}, time.Time{}, w.Now
	for name, absence := range absentees(w, w.wants()) {
		absence.Since = w.Now.Add(-w.settle())
		later.Absent[name] = absence
	}
	return &later
}

// Remember gives what the brake has to know after these verdicts: what it
// holds, unless that is gone or back, and what begins or has begun lately.
func Remember(w *World, verdicts []Verdict) runtime.Removals {
	next := runtime.Removals{Held: map[string]runtime.HeldRemoval{}, Begun: maps.Clone(w.Removals.Begun), Lost: w.Removals.Lost}
	if next.Begun == nil {
		next.Begun = map[string]runtime.BegunRemoval{}
	}
	maps.DeleteFunc(next.Begun, w.outlived)
	absent := map[string]bool{}
	for _, v := range verdicts {
		if v.Record == nil || returned(v.Want) {
			delete(next.Begun, v.Task)
			continue
		}
		absent[v.Task] = true
		held, was := w.Removals.Held[v.Task]
		begun, has := next.Begun[v.Task]
		switch {
		case v.Removal != nil && !v.Braked: // it begins
			if !has {
				begun = runtime.BegunRemoval{At: w.Now, Ran: v.Removal.Ran, Approved: held.Approved}
				if v.Record.Process != nil {
					begun.StartedAt = v.Record.Process.StartedAt
				}
			}
			next.Begun[v.Task] = begun
		case has && w.calledOff(&v):
			delete(next.Begun, v.Task)
			if begun.Approved { // which it stays
				next.Held[v.Task] = runtime.HeldRemoval{Since: begun.At, Ran: begun.Ran, Approved: true}
			}
		case was:
			next.Held[v.Task] = held
		case v.Braked:
			next.Held[v.Task] = runtime.HeldRemoval{Since: v.Removal.Since, Ran: v.Removal.Ran}
		}
	}
	waits := func(v Verdict) bool { return v.Record != nil && v.Want == nil && !v.Hidden }
	if w.Set.Err == nil && !w.Set.Unsettled && !slices.ContainsFunc(verdicts, waits) {
		next.Lost = "" // whatever was held is back, or gone
	}
	maps.DeleteFunc(next.Begun, func(task string, begun runtime.BegunRemoval) bool {
		return !absent[task] && w.Now.Sub(begun.At) >= removalWindow
	})
	for task, begun := range next.Begun {
		if begun.At.After(w.Now) { // the clock was set back
			begun.At = w.Now
			next.Begun[task] = begun
		}
	}
	return next
}

// braked names the removals that an approval would let go, sorted.
func braked(verdicts []Verdict) []string {
	var names []string
	for _, v := range verdicts {
		if v.Braked {
			names = append(names, v.Task)
		}
	}
	slices.Sort(names)
	return names
}
