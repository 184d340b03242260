package runtime

import "time"

const (
	// keeperInterval is how often the keeper goes round while there is something
	// to be done soon: what is written late is written this much later at most.
	keeperInterval = time.Second
	// keeperRest is how often it goes round while there is not. Each round wakes
	// the daemon, and looks at a few files for every VM.
	keeperRest = 10 * time.Second
)

// keeper does what must be done now and then, for all machines in turn. It is
// the only one that wakes up while nothing happens.
func (r *Runtime) keeper() {
	round := time.Now().Add(keeperInterval)
	timer := time.NewTimer(keeperInterval)
	defer timer.Stop()
	for {
		watched := false
		select {
		case <-r.ctx.Done():
			return
		case <-r.hurry:
			if soon := time.Now().Add(keeperInterval); soon.Before(round) {
				round = soon
				timer.Reset(keeperInterval)
			}
			continue
		case <-r.watched:
			watched = true
		case <-timer.C:
		}
		now := time.Now()
		round = now.Add(keeperRest)
		r.keepStateDirectory()
		r.keepRunDirectory()
		err := r.events.Flush()
		if r.noteEvents(err); err != nil {
			round = now.Add(keeperInterval)
		}
		for _, m := range r.list() {
			if next := m.tend(now, watched); !next.IsZero() && next.Before(round) {
				round = next
			}
		}
		r.secureAside()
		timer.Reset(time.Until(round))
	}
}

// soon makes the keeper go round within keeperInterval.
func (r *Runtime) soon() { signal(r.hurry) }

// Probe says that somebody watches: every QEMU that was not asked lately
// whether it answers is asked now. It returns at once; what comes of it is seen
// later. Without it QEMUs are asked rarely, for each answer wakes the daemon.
func (r *Runtime) Probe() { signal(r.watched) }

func signal(slot chan struct{}) {
	select {
	case slot <- struct{}{}:
	default: // there is one already
	}
}

// tend is the keeper's look at one machine. It gives the time by which it is to
// be looked at again, zero for the next round whenever that is.
func (m *machine) tend(now time.Time, watched bool) (next time.Time) {
	var fault error
	defer m.rescue(&fault)
	by := func(due time.Time) {
		if !due.IsZero() && (next.IsZero() || due.Before(next)) {
			next = due
		}
	}
	if m.save() {
		m.rt.poke()
	}
	if m.unsaved.Load() {
		by(now.Add(keeperInterval))
	}
	if m.refused() != nil && m.lookFromAfar() {
		by(now.Add(keeperInterval))
	}
	l := m.currentLife()
	if l == nil {
		return next
	}
	by(m.tellReboots(l, now))
	due, err := l.logs.check(now)
	if err != nil {
		m.log.Warn("log cannot be kept small", "error", err)
	}
	by(due)
	by(m.probe(l, now, watched))
	return next
}

// probe asks for a proof that QEMU answers when it is time for one: soon after
// the last while it does not answer or somebody watches, else rarely. A process
// that is stopped cannot answer, which is seen from outside.
func (m *machine) probe(l *life, now time.Time, watched bool) (next time.Time) {
	if m.stoppedByError() { // and perhaps there is room by now
		signal(l.probe)
		return now.Add(keeperInterval)
	}
	trouble := m.observe().Trouble != ""
	wait := probeRest
	if trouble || watched {
		wait = probeInterval
	}
	if due := l.probed.Add(wait); now.Before(due) {
		if trouble {
			return due
		}
		return time.Time{}
	}
	l.probed = now
	if isStopped(l.process.PID()) {
		m.setTrouble(troubleStopped)
		return now.Add(probeInterval)
	}
	signal(l.probe)
	if trouble {
		return now.Add(probeInterval)
	}
	return time.Time{}
}

// lookFromAfar sees whether the process of a task that is left alone still
// runs.
func (m *machine) lookFromAfar() (runs bool) {
	record := m.current()
	if record.Process == nil || m.currentLife() != nil {
		return false
	}
	if record.Process.exists(m.rt.layout, m.name) {
		return true
	}
	gone := record.clone()
	gone.Process = nil
	m.set(gone, func() {})
	m.rt.poke()
	return false
}
