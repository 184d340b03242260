package runtime

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qemu-reconciler/qemu-reconciler/internal/crash"
)

// Waits of a session with a process.
const (
	// connectPatience bounds one attempt to begin a session. QEMU greets
	// within a few hundred milliseconds even on a busy host.
	connectPatience = 5 * time.Second
	// A lost session is dialled again after redialFirst, then ever more slowly.
	redialFirst = 50 * time.Millisecond
	redialLast  = 5 * time.Second
	// probeInterval is how often a session is asked whether QEMU still answers
	// while there is doubt or somebody watches, probeRest how often otherwise,
	// probeSpread how far apart those are asked that began together, and
	// probePatience how long it may take.
	probeInterval = 5 * time.Second
	probeRest     = 20 * time.Minute
	probeSpread   = 5 * time.Minute
	probePatience = 3 * time.Second
	// endPatience is how long a process may outlive its session before that is
	// trouble: QEMU closes its monitor, and frees the guest's memory after it.
	endPatience = 500 * time.Millisecond
	// lastWordsPatience is how long the events of a dead process may take to
	// arrive.
	lastWordsPatience = time.Second
)

// life is one process from its launch or adoption to its recorded end.
type life struct {
	process *Process
	logs    *logWatch
	// probe asks the machine's goroutine to see whether QEMU answers.
	probe chan struct{}
	// probed is when it was asked last; only the keeper touches it.
	probed time.Time
	// over is closed when the end is recorded.
	over chan struct{}
	// wanted is closed by want when somebody needs a session at once.
	wanted chan struct{}
	want   func()
	// stopping says that a deed waits for the end, and pokes when it is done.
	stopping atomic.Bool

	// What QEMU said of its end, up to when its resets were counted from its
	// log, what was tried against an I/O error, and what ends the turn in which it
	// is spoken to first. Only the machine's goroutine touches them.
	shutdown *ShutdownEvent
	counted  time.Time
	relief   relief
	greeted  func()

	// Guarded by machine.mu: the session, nil while there is none, a channel
	// that is closed when it changes, and reboots that no event told of yet.
	monitor     *Monitor
	changed     chan struct{}
	untold      int
	lastTelling time.Time
}

func (m *machine) newLife(p *Process) *life {
	limit := func() int64 { return m.rt.tuning.Load().LogMaxSize }
	wanted := make(chan struct{})
	return &life{
		process: p, logs: newLogWatch(m.rt.layout, m.name, limit),
		probe: make(chan struct{}, 1), over: make(chan struct{}), changed: make(chan struct{}),
		wanted: wanted, want: sync.OnceFunc(func() { close(wanted) }), greeted: func() {},
		// Hundreds that were adopted at once need not be asked at once; but those
		// that are wake the daemon once.
		probed: time.Now().Add(-rand.N(probeRest/probeSpread) * probeSpread),
	}
}

// begin takes charge of a process, which edit makes the record's. tell is called
// when it is recorded, and before anything can be heard from it.
func (m *machine) begin(p *Process, edit func(*Record), tell func()) {
	l := m.newLife(p)
	own := func() { m.life, m.facts = l, facts{} }
	if err := m.replace(saveAnyway, edit, own); err != nil {
		m.log.Error("process cannot be recorded", "pid", p.PID(), "error", err)
	}
	crash.Point("process.recorded")
	tell()
	crash.Point("process.told")
	m.accompany(l)
	m.rt.soon() // what boots writes logs
}

// resume takes charge of the process that the record has already.
func (m *machine) resume(p *Process) {
	l := m.newLife(p)
	m.mu.Lock()
	m.life = l
	m.mu.Unlock()
	m.accompany(l)
}

// outcome is how an attempt to follow a process went.
type outcome int

const (
	finished    outcome = iota // its end is recorded, or the runtime closes
	lost                       // there was a session and it ended
	unreachable                // there was none, or none that lasted
	faulty                     // this program's own fault
)

// follow is the machine's goroutine: it keeps a session with the process until
// that ends, and records the end.
func (m *machine) follow(ctx context.Context, l *life) {
	defer l.process.Close()
	wait := redialFirst
	for {
		result := m.attend(ctx, l)
		switch result {
		case finished:
			return
		case lost:
			wait = redialFirst
		}
		m.rest(ctx, l, wait, result)
		wait = min(2*wait, redialLast)
	}
}

// rest waits before the next attempt: the end of the process cuts it short,
// unless it is with that end that the fault is.
func (m *machine) rest(ctx context.Context, l *life, wait time.Duration, after outcome) {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	gone := l.process.Done()
	if after == faulty {
		gone = nil
	}
	select {
	case <-timer.C:
	case <-ctx.Done():
	case <-gone:
	}
}

// attend has one session with the process, or tries to.
func (m *machine) attend(ctx context.Context, l *life) (result outcome) {
	result = faulty
	var fault error
	defer m.rescue(&fault)
	monitor, err := m.connect(ctx, l)
	if err == nil {
		crash.Point("session.begun")
		began := time.Now()
		m.converse(ctx, l, monitor)
		err = monitor.Err()
		if errors.Is(err, io.EOF) && time.Since(began) >= redialLast {
			err = nil // it was a sound session, and QEMU talks no nonsense
		}
	}
	l.greeted()
	switch {
	case l.gone():
		m.end(l)
		return finished
	case ctx.Err() != nil:
		return finished
	case err != nil:
		return m.miss(ctx, l, err)
	}
	return lost
}

// miss is for a process with which there is no session. That is no trouble
// while it is being stopped, nor in the moment in which it ends by itself.
func (m *machine) miss(ctx context.Context, l *life, err error) outcome {
	if m.observe().Trouble == "" {
		timer := time.NewTimer(endPatience)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-l.process.Done():
			m.end(l)
			return finished
		case <-ctx.Done():
			return finished
		}
	}
	if !m.current().Stopping() {
		m.setTrouble(l.troubleOf(err))
	}
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ECONNREFUSED) {
		m.giveUpHearing()
	}
	return unreachable
}

// giveUpHearing is for a process that nobody will ever have a session with: its
// socket was there before it was started, and is no more. To wait for its answer
// would call a VM starting for as long as it runs.
func (m *machine) giveUpHearing() {
	if p := m.current().Process; p == nil || p.Answered {
		return
	}
	m.keep(func(r *Record) {
		if r.Process != nil {
			r.Process.Answered = true
		}
	})
	m.rt.poke()
}

func (l *life) gone() bool {
	select {
	case <-l.process.Done():
		return true
	default:
		return false
	}
}

// connect begins a session. The end of the process ends the attempt.
func (m *machine) connect(ctx context.Context, l *life) (*Monitor, error) {
	ctx, cancel := context.WithTimeout(ctx, connectPatience)
	defer cancel()
	m.rt.tasks.Go(func() {
		select {
		case <-l.process.Done():
			cancel()
		case <-ctx.Done():
		}
	})
	conn, err := DialUnix(ctx, m.rt.layout.QMPSocket(m.name))
	if err != nil {
		return nil, err
	}
	crash.Point("session.connected")
	return NewMonitor(ctx, conn)
}

// troubleOf says to an operator why there is no session.
func (l *life) troubleOf(err error) string {
	// A full backlog (EAGAIN) tells the same as silence: nobody accepts.
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, unix.EAGAIN) {
		return l.silence()
	}
	return fmt.Sprintf("QMP socket lost: %v", err)
}

// silence says why a QEMU does not answer, as far as that can be seen.
func (l *life) silence() string {
	if isStopped(l.process.PID()) {
		return troubleStopped
	}
	return troubleSilent
}

const (
	// troubleSilent is the trouble of a QEMU that hangs.
	troubleSilent = "QEMU does not answer on QMP: it hangs or is stopped"
	// troubleStopped is that of one of which it is known.
	troubleStopped = "QEMU does not answer on QMP: its process is stopped (SIGSTOP); kill -CONT lets it go on"
)

// setSession tells those who wait for a session, or for its end.
func (m *machine) setSession(l *life, monitor *Monitor) {
	m.mu.Lock()
	defer m.mu.Unlock()
	l.monitor = monitor
	close(l.changed)
	l.changed = make(chan struct{})
}

// session is the QMP session, or nil.
func (m *machine) session(l *life) *Monitor {
	m.mu.Lock()
	defer m.mu.Unlock()
	return l.monitor
}

// sessionChanged is closed when session next gives another answer.
func (m *machine) sessionChanged(l *life) <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	return l.changed
}
