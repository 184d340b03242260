package runtime

import (
	"context"
	"sync"
	"time"
)

const (
	// greetedAtOnce is how many adopted QEMUs are spoken to for the first time at
	// once. Hundreds of goroutines in one line hold up everybody behind them, first
	// of all who asks what runs, and cost the collector a deep stack each.
	greetedAtOnce = 4
	// greetPatience is how long one keeps its turn: one that hangs must not hold up
	// the others, nor a host on which each takes long all of them.
	greetPatience = 20 * time.Millisecond
)

// accompany lets the machine's goroutine follow a process to its end. One that is
// found while the runtime opens is spoken to once all that runs is known, and when its
// turn comes.
func (m *machine) accompany(l *life) {
	found := true
	select {
	case <-m.rt.opened:
		found = false
	default:
	}
	m.rt.tasks.Go(func() {
		if found {
			select {
			case <-m.rt.opened:
			case <-m.rt.ctx.Done():
			}
			l.awaitGreeting(m.rt.ctx, m.rt.greetings)
		}
		m.follow(m.rt.ctx, l)
	})
}

// awaitGreeting waits for a turn, which lasts until greeted is called. Neither the end
// of a process nor who is to stop it waits for one.
func (l *life) awaitGreeting(ctx context.Context, turns chan struct{}) {
	select {
	case turns <- struct{}{}:
		l.greeted = sync.OnceFunc(func() { <-turns })
		time.AfterFunc(greetPatience, l.greeted)
	case <-l.wanted:
	case <-l.process.Done():
	case <-ctx.Done():
	}
}
