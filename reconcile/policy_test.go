package reconcile

import (
	"testing"
	"time"

	"github.com/qemu-reconciler/qemu-reconciler/runtime"
	"github.com/qemu-reconciler/qemu-reconciler/spec"
)

// The clock was set by a year, back or ahead, between the attempts on record and
// now, or among them: the next start is neither a year off nor at once again and
// again, and no policy gives up for attempts that are still to come.
func TestPolicyUnderAClockThatJumps(t *testing.T) {
	t.Parallel()
	const year = 365 * 24 * time.Hour
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	policy := spec.Restart{On: spec.RestartAlways, Attempts: 3, Interval: spec.Duration(10 * time.Minute),
		Delay: spec.Duration(time.Second), MaxDelay: spec.Duration(time.Minute), Mode: spec.ModeDelay}
	ago := func(offsets ...time.Duration) (times []time.Time) {
		for _, o := range offsets {
			times = append(times, now.Add(o))
		}
		return times
	}
	for name, attempts := range map[string][]time.Time{
		"ahead":            ago(year-3*time.Second, year-2*time.Second, year-time.Second),
		"back":             ago(-year-3*time.Second, -year-2*time.Second, -year-time.Second),
		"ahead, and since": ago(year, -2*time.Second, -time.Second),
		"back among them":  ago(year, year+time.Second, -time.Second),
	} {
		for _, exitAt := range []time.Duration{0, year, -year} {
			for _, mode := range []string{spec.ModeDelay, spec.ModeFail} {
				policy.Mode = mode
				rec := &runtime.Record{Attempts: attempts, LastExit: &runtime.Exit{At: now.Add(exitAt), Cause: runtime.CauseCrashed}}
				v := judgeExit(policy, rec, now)
				if wait := v.At.Sub(now); v.GaveUp || wait > time.Minute {
					t.Errorf("%s, exit at %s, mode %s: %+v, in %s", name, exitAt, mode, v, wait)
				}
				countAttempt(rec, policy, now)
				rec.LastExit = &runtime.Exit{At: now, Cause: runtime.CauseCrashed} // the start after it fails, too
				if v := judgeExit(policy, rec, now); !v.GaveUp && v.At.Sub(now) < time.Second {
					t.Errorf("%s, exit at %s, mode %s: it starts at once, again and again", name, exitAt, mode)
				}
			}
		}
	}
}
