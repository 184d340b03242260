package e2e

import (
	"slices"
	"time"

	"github.com/qemu-reconciler/qemu-reconciler/reconcile"
)

// hunt kills the daemon whenever a task is in one of the steps that have not
// enough kills yet, and starts it again each time. It ends when they have, or
// nothing is under way any more.
func (k *killings) hunt(steps ...killStep) {
	k.h.t.Helper()
	for range maxHunt {
		wanted := k.missing(steps...)
		if len(wanted) == 0 || !k.aim(wanted) {
			return
		}
		k.h.Kill()
		k.postMortem()
		ready := k.h.readyDaemons()
		k.h.StartDaemonOnly()
		k.h.Await("a ready daemon", func() bool { return k.h.readyDaemons() > ready || !k.h.daemonRuns() })
		k.settling = time.Now().Add(reconcile.RemovalSettle)
	}
}

// aim drives the daemon in slices until a task is in one of the steps, and
// leaves it halted there; false when all tasks have come to rest without.
func (k *killings) aim(wanted []killStep) bool {
	k.h.t.Helper()
	inLong := func(step killStep) bool { return slices.Contains(long, step) }
	patient := !slices.ContainsFunc(wanted, func(step killStep) bool { return !inLong(step) })
	deadline := time.Now().Add(Patience)
	for time.Now().Before(deadline) {
		k.h.freeze()
		left := k.h.remnants(k.names()...)
		found, resting, waiting := false, true, true
		for _, v := range k.victims {
			step := v.stepOf(left[v.name])
			found = found || slices.Contains(wanted, step) && v.concerned(step)
			resting = resting && v.settled(step)
			waiting = waiting && inLong(step)
		}
		if found {
			return true
		}
		k.h.thaw()
		if resting {
			return false
		}
		k.slice(waiting, patient)
	}
	k.h.t.Fatalf("neither %q nor rest in %s", wanted, Patience)
	return false
}

// slice lets the daemon run for a while: long enough to get somewhere, short
// enough not to pass a step unseen. Before a removal has settled nothing
// happens, and steps that last need no care.
func (k *killings) slice(waiting, patient bool) {
	length := 20*time.Microsecond + time.Duration(k.random.Int64N(int64(100*time.Microsecond)))
	switch {
	case waiting && time.Until(k.settling) > 5*time.Millisecond && !k.edited():
		length = 4 * time.Millisecond
	case patient:
		length += 2 * time.Millisecond
	}
	if length > time.Millisecond {
		<-time.After(length)
		return
	}
	for end := time.Now().Add(length); time.Now().Before(end); {
		// The kernel's shortest sleep is longer than this slice.
		continue
	}
}

// edited says whether an edit is still to be applied, which needs no settling.
func (k *killings) edited() bool {
	return slices.ContainsFunc(k.victims, func(v *victim) bool { return v.present && v.former != 0 && v.pid == 0 })
}
