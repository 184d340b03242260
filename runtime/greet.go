package runtime

import (
	"context"
	"sync"
	"time"
)

const (
	// greetedAtOnce is how many adopted QEMUs are spoken to for the first time at
	// once. Hundreds of goroutines in one line would hold up everybody behind them,
	// first of all who asks what runs, and cost the collector a stack each.
	greetedAtOnce = 4
	// greetPatience is how long one keeps its turn: one that hangs must not hold up
	// the others.
	greetPatience = 100 * time.Millisecond
)

// resume takes charge of the process that the record has already. It is spoken to
// once all that runs is known, and when its turn comes.
func (m *machine) resume(p *Process) {
	l := m.newLife(p)
	m.mu.Lock()
	m.life = l
	m.mu.Unlock()
	m.rt.tasks.Go(func() {
		select {
		case <-m.rt.opened:
		case <-m.rt.ctx.Done():
		}
		l.awaitGreeting(m.rt.ctx, m.rt.greetings)
		m.follow(m.rt.ctx, l)
	})
}

// awaitGreeting waits for a turn, which lasts until greeted is called. The end of a
// process waits for none.
func (l *life) awaitGreeting(ctx context.Context, turns chan struct{}) {
	select {
	case turns <- struct{}{}:
		l.greeted = sync.OnceFunc(func() { <-turns })
		time.AfterFunc(greetPatience, l.greeted)
	case <-l.process.Done():
	case <-ctx.Done():
	}
}
