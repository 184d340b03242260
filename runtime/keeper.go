package runtime

import "time"

// keeperInterval is how often the keeper goes round: what is written late is
// written this much later at most.
const keeperInterval = time.Second

// keeper does what must be done now and then, for all machines in turn.
func (r *Runtime) keeper() {
	ticker := time.NewTicker(keeperInterval)
	defer ticker.Stop()
	for {
		select {
		case <-r.ctx.Done():
			return
		case now := <-ticker.C:
			r.keepRunDirectory()
			for _, m := range r.list() {
				m.tend(now)
			}
		}
	}
}

// tend is the keeper's look at one machine.
func (m *machine) tend(now time.Time) {
	var fault error
	defer m.rescue(&fault)
	if m.save() {
		m.rt.poke()
	}
	if m.refused() != nil {
		m.lookFromAfar()
	}
	l := m.currentLife()
	if l == nil {
		return
	}
	m.tellReboots(l, now)
	if err := l.logs.check(now); err != nil {
		m.log.Warn("log cannot be kept small", "error", err)
	}
	if now.Before(l.nextProbe) {
		return
	}
	l.nextProbe = now.Add(probeInterval)
	select {
	case l.probe <- struct{}{}:
	default: // the last one is still waiting
	}
}

// lookFromAfar sees whether the process of a task that is left alone has ended.
func (m *machine) lookFromAfar() {
	record := m.current()
	if record.Process == nil || m.currentLife() != nil || record.Process.exists() {
		return
	}
	gone := record.clone()
	gone.Process = nil
	m.set(gone, func() {})
	m.rt.poke()
}
