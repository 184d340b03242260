package reconcile

import (
	"fmt"
	"slices"
	"time"

	"github.com/qemu-reconciler/qemu-reconciler/runtime"
	"github.com/qemu-reconciler/qemu-reconciler/spec"
)

// maxAttemptsKept bounds the history that a record keeps for the policy. The
// exponent needs fewer: with any delay of a millisecond or more, 2^31 of them
// outlast every max_delay.
const maxAttemptsKept = 64

// clockSlack is how far in the future a recorded time may lie before it is
// taken for one of a clock that was set back since. Such a time is no reason to
// wait until the clock has come there again.
const clockSlack = 5 * time.Second

// policyVerdict is what the restart policy says of a VM that ended.
type policyVerdict struct {
	// At is when to start it again; it may be in the past.
	At time.Time
	// Stay says why it is not started again; empty when it is.
	Stay string
	// GaveUp tells a policy that ran out from one that is content.
	GaveUp bool
}

// failed says whether an exit counts as a failure for restart.on = "failure".
func failed(cause string) bool {
	switch cause {
	case runtime.CauseCrashed, runtime.CauseKilled, runtime.CauseGuestPanic,
		runtime.CauseLaunchFailed, runtime.CauseUnknown:
		return true
	}
	return false
}

// judgeExit applies the restart policy to the latest exit. A policy that has
// given up stays so until somebody changes the record.
func judgeExit(p spec.Restart, rec *runtime.Record, now time.Time) policyVerdict {
	exit := rec.LastExit
	switch {
	case p.On == spec.RestartNever && exit.Cause == runtime.CauseLaunchFailed:
		return policyVerdict{Stay: "not tried again, as restart.on = \"never\"", GaveUp: true}
	case p.On == spec.RestartNever:
		return policyVerdict{Stay: fmt.Sprintf("ended (%s), and restart.on = \"never\"", exit.Cause)}
	case p.On == spec.RestartFailure && !failed(exit.Cause):
		return policyVerdict{Stay: fmt.Sprintf("ended by itself (%s), and restart.on = \"failure\"", exit.Cause)}
	}
	gaveUp := policyVerdict{GaveUp: true, Stay: fmt.Sprintf(
		"given up: restart.attempts = %d in %s are used up (restart.mode = \"fail\")", p.Attempts, p.Interval)}
	if rec.GaveUp && p.Mode == spec.ModeFail {
		return gaveUp
	}
	attempts := streak(p, exit, rec.Attempts)
	at := exit.At.Add(backoff(p, len(attempts)))
	if exit.At.Sub(now) > clockSlack {
		at = now
	}
	if p.Attempts == 0 {
		return policyVerdict{At: at}
	}
	interval := time.Duration(p.Interval)
	recent := within(attempts, now.Add(-interval), now.Add(clockSlack))
	if len(recent) < p.Attempts {
		return policyVerdict{At: at}
	}
	if p.Mode == spec.ModeFail {
		return gaveUp
	}
	if again := recent[len(recent)-p.Attempts].Add(interval); again.After(at) {
		at = again
	}
	return policyVerdict{At: at}
}

// streak drops the attempts that a healthy run has made good: a process that
// lived for the interval starts a new count.
func streak(p spec.Restart, exit *runtime.Exit, attempts []time.Time) []time.Time {
	if !exit.StartedAt.IsZero() && exit.At.Sub(exit.StartedAt) >= time.Duration(p.Interval) {
		return nil
	}
	return attempts
}

// backoff is the wait before the attempt that follows n others: none for the
// first, then delay, doubled each time up to max_delay.
func backoff(p spec.Restart, n int) time.Duration {
	if n == 0 {
		return 0
	}
	d, most := time.Duration(p.Delay), time.Duration(p.MaxDelay)
	for range n - 1 {
		if d >= most {
			break
		}
		d *= 2
	}
	return min(d, most)
}

// within are the attempts after since and not after until. They are sorted but
// for those of a clock that was set back since.
func within(attempts []time.Time, since, until time.Time) []time.Time {
	return slices.DeleteFunc(slices.Clone(attempts), func(at time.Time) bool {
		return !at.After(since) || at.After(until)
	})
}

// countAttempt adds a start by policy to the record's history.
func countAttempt(r *runtime.Record, p spec.Restart, now time.Time) {
	var attempts []time.Time
	if r.LastExit != nil {
		attempts = streak(p, r.LastExit, r.Attempts)
	}
	keep := max(maxAttemptsKept, p.Attempts)
	attempts = append(append([]time.Time(nil), attempts...), now)
	if len(attempts) > keep {
		attempts = attempts[len(attempts)-keep:]
	}
	r.Attempts = attempts
	r.Restarts++
}
