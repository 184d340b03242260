package runtime

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qemu-reconciler/qemu-reconciler/internal/guest"
)

// TestGreetingTurns: who gets a turn, when, and who goes on without one.
func TestGreetingTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := make(chan struct{}, greetedAtOnce)
		ctx, cancel := context.WithCancel(t.Context())
		fresh := func() *life {
			return &life{process: &Process{done: make(chan struct{})}, wanted: make(chan struct{}), greeted: func() {}}
		}
		wait := func(l *life) (over chan struct{}) {
			over = make(chan struct{})
			go func() {
				l.awaitGreeting(ctx, turns)
				close(over)
			}()
			synctest.Wait()
			return over
		}
		waits := func(over chan struct{}) bool {
			synctest.Wait()
			select {
			case <-over:
				return false
			default:
				return true
			}
		}
		quick := fresh()
		for _, l := range []*life{quick, fresh(), fresh(), fresh()} {
			if waits(wait(l)) {
				t.Fatal("there was a turn, and it waits")
			}
		}
		next, late, dead, wanted, later := fresh(), fresh(), fresh(), fresh(), fresh()
		first := wait(next)
		if !waits(first) {
			t.Error("there was no turn, and it waits for none")
		}
		quick.greeted()
		if waits(first) {
			t.Error("a turn that is over is not taken")
		}
		second, ends, stops, third := wait(late), wait(dead), wait(wanted), wait(later)
		close(dead.process.done)
		close(wanted.wanted)
		if waits(ends) || waits(stops) || !waits(second) || !waits(third) {
			t.Error("an end and a stop wait for no turn, all others do")
		}
		time.Sleep(greetPatience) // the turns of those that hang are over
		if waits(second) || waits(third) {
			t.Error("QEMUs that hang keep their turns")
		}
		for _, l := range []*life{quick, next, late, dead, wanted, later} {
			l.greeted() // also a second time
		}
		time.Sleep(greetPatience)
		if len(turns) != 0 {
			t.Errorf("%d turns are left over", len(turns))
		}
		for range greetedAtOnce {
			turns <- struct{}{}
		}
		last := wait(fresh())
		cancel()
		if waits(last) {
			t.Error("it waits though the runtime is closed")
		}
	})
}

// TestStopWaitsForNoGreeting: who is to stop a VM has its session begun at once.
func TestStopWaitsForNoGreeting(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.start(l.task("vm", guest.Button))
	l.says("vm", guest.SaysReady)
	life := l.find("vm").currentLife()
	l.stop("vm", press(testPatience))
	select {
	case <-life.wanted:
	default:
		t.Error("nobody is told that a session is wanted")
	}
}

// TestHangingVMsHoldUpNoOthers: more QEMUs hang than are spoken to at once, and the
// others answer all the same before the patience with one that hangs is over.
func TestHangingVMsHoldUpNoOthers(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	var sound, hanging []string
	for i := range 2 * greetedAtOnce {
		sound, hanging = append(sound, fmt.Sprintf("sound%d", i)), append(hanging, fmt.Sprintf("hangs%d", i))
		l.start(l.task(sound[i], guest.Button))
		l.start(l.task(hanging[i], guest.Button))
	}
	for _, name := range hanging {
		l.kill(name, unix.SIGSTOP)
	}
	l.reopen(func() {})
	began := time.Now()
	for _, name := range sound {
		l.answering(name)
	}
	if took := time.Since(began); took >= connectPatience {
		t.Errorf("they answered after %s", took)
	}
	for _, name := range hanging {
		if o := l.Observe()[name]; !o.Alive || o.Answering {
			t.Errorf("%s: %s", name, asJSON(o))
		}
		l.kill(name, unix.SIGCONT)
		l.answering(name)
	}
	eventually(t, "all turns are over", func() error {
		if turns := len(l.greetings); turns != 0 {
			return fmt.Errorf("%d are not", turns)
		}
		return nil
	})
}
