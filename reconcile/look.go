package reconcile

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/qemu-reconciler/qemu-reconciler/spec"
)

const (
	// lookPatience is how long a status waits for a look at the directory.
	lookPatience = time.Second
	// passPatience is how long a pass waits for its look. A file system that hangs
	// must not keep what runs from being restarted and stopped. The first look is
	// waited for longer: before it only the last good definitions are known, and
	// whoever is slow to read the directory should not act on those.
	passPatience  = 500 * time.Millisecond
	firstPatience = 10 * time.Second
)

// look is one reading of the directory. It has a goroutine of its own, for it may
// hang on a dead network file system, whose images it looks at as well.
type look struct {
	began time.Time
	// patience is how long the pass that began it waits for it.
	patience time.Duration
	// done is closed when set and parsed are there.
	done   chan struct{}
	set    *spec.Set
	parsed int
	// missed says that the pass that began it has gone on without it; guarded by
	// Engine.mu.
	missed bool
}

// over says whether the look has ended.
func (l *look) over() bool {
	select {
	case <-l.done:
		return true
	default:
		return false
	}
}

// beginLook begins to read the directory when that is due; there is one look at a
// time. It gives the look that it has begun.
func (e *Engine) beginLook() *look {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.takeLook()
	if e.looking != nil || !e.look && time.Now().Before(e.lookAt) {
		return nil
	}
	l := &look{began: time.Now(), patience: passPatience, done: make(chan struct{})}
	if e.looksBegun == 0 {
		l.patience = firstPatience
	}
	e.looking, e.look = l, false
	e.looksBegun++
	go e.read(l)
	return l
}

func (e *Engine) read(l *look) {
	parsed := e.cfg.Loader.Parsed()
	e.cfg.Loader.Recheck()
	l.set = e.load()
	l.parsed = e.cfg.Loader.Parsed() - parsed
	close(l.done)
	e.mu.Lock()
	missed := l.missed
	e.mu.Unlock()
	if missed {
		e.Poke()
	}
}

// awaitLook waits for a look, but not for one that hangs.
func (e *Engine) awaitLook(ctx context.Context, l *look) {
	patience := time.NewTimer(l.patience)
	defer patience.Stop()
	select {
	case <-l.done:
		return
	case <-patience.C:
	case <-ctx.Done():
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if !l.over() {
		l.missed = true
	}
}

// takeLook takes what a look that has ended has found. The caller holds e.mu.
func (e *Engine) takeLook() {
	l := e.looking
	if l == nil || !l.over() {
		return
	}
	e.looking = nil
	e.looksDone++
	e.take(l.set)
	e.sight = l.began
	e.cfg.Log.Debug("looked", "files", len(l.set.Files), "parsed", l.parsed, "took", time.Since(l.began))
}

// load reads the directory. A panic says nothing of any task, as if the
// directory could not be read.
func (e *Engine) load() (set *spec.Set) {
	defer func() {
		if cause := recover(); cause != nil {
			err := bug(cause)
			e.cfg.Log.Error("the task directory was not read", "error", err)
			set = &spec.Set{Dir: e.cfg.VMsDir, Err: errors.New(firstLine(err.Error()))}
		}
	}()
	return e.cfg.Loader.Load()
}

// nextLook returns after a pass that began to read the directory after the
// call.
func (e *Engine) nextLook(ctx context.Context) error {
	e.mu.Lock()
	mine := e.looksBegun + 1
	e.mu.Unlock()
	e.PokeFiles(false)
	for {
		e.mu.Lock()
		done, passed := e.looksDone >= mine, e.passed
		e.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-passed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// StatusAfterLook is StatusNow after a look at the directory that began after the
// call, so that nothing is called converged that was changed before it. When the
// look does not end soon, as on a network file system that hangs, the status is
// that of the look before, says so, and is not converged.
func (e *Engine) StatusAfterLook(ctx context.Context, show bool) Status {
	looking, cancel := context.WithTimeout(ctx, lookPatience)
	defer cancel()
	err := e.nextLook(looking)
	s := e.StatusNow(show)
	if err != nil {
		s.Converged = false
		if s.DirError == "" {
			s.DirError = fmt.Sprintf("it has not been read within %s; this is what was read before", lookPatience)
		}
	}
	return s
}
