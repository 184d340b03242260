package spec

import (
	"context"
	"sync"
)

// The files of a directory are parsed side by side, in two lanes: a file that
// is quickly parsed never waits for one that is not. A file whose expressions
// turn out to be dear changes lanes in the middle.
const (
	quickSize   = 64 << 10 // bytes of a file that may use the quick lane
	quickSteps  = 10_000   // of evaluation, after which it has to leave it
	quickAtOnce = 4
	// slowAtOnce is one, since the syntax tree of a hostile file takes a
	// hundred times its size.
	slowAtOnce = 1
)

// lanes bound how many files are parsed at once. Whoever comes to the slow lane
// lets those of the quick one go first.
type lanes struct {
	quick, slow chan struct{}

	mu sync.Mutex
	// hurried counts the files in the quick lane and before it; clear is closed
	// while there are none.
	hurried int
	clear   chan struct{}
}

func newLanes() *lanes {
	l := &lanes{quick: make(chan struct{}, quickAtOnce), slow: make(chan struct{}, slowAtOnce), clear: make(chan struct{})}
	close(l.clear)
	return l
}

// hurry counts a file that is about to use the quick lane, or is through.
func (l *lanes) hurry(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.hurried == 0 {
		l.clear = make(chan struct{})
	}
	if l.hurried += n; l.hurried == 0 {
		close(l.clear)
	}
}

func (l *lanes) isClear() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.clear
}

// parse is Parse in its turn. It is nil when ctx ends before it comes to an
// end.
func (l *lanes) parse(ctx context.Context, path string, src []byte, env Env) *Source {
	t := &turn{ctx: ctx, lanes: l}
	defer t.leave()
	if len(src) > quickSize && !t.enterSlow() || len(src) <= quickSize && !t.enterQuick() {
		return nil
	}
	s := parseMetered(path, src, env, &meter{fileSteps: maxFileSteps, dear: t.slowDown})
	if ctx.Err() != nil {
		return nil
	}
	return s
}

// turn is one file's place in a lane.
type turn struct {
	ctx     context.Context
	lanes   *lanes
	in      chan struct{}
	hurries bool
}

func (t *turn) enter(lane chan struct{}) bool {
	select {
	case lane <- struct{}{}:
		t.in = lane
		return true
	case <-t.ctx.Done():
		return false
	}
}

func (t *turn) enterQuick() bool {
	t.hurries = true
	t.lanes.hurry(1)
	return t.enter(t.lanes.quick)
}

func (t *turn) enterSlow() bool {
	if !t.enter(t.lanes.slow) {
		return false
	}
	select {
	case <-t.lanes.isClear():
		return true
	case <-t.ctx.Done():
		return false
	}
}

func (t *turn) leave() {
	if t.hurries {
		t.lanes.hurry(-1)
		t.hurries = false
	}
	if t.in != nil {
		<-t.in
		t.in = nil
	}
}

// slowDown changes to the slow lane, and waits there for its turn. It is false
// when there is no sense in going on.
func (t *turn) slowDown() bool {
	if t.in == t.lanes.slow {
		return true
	}
	t.leave()
	return t.enterSlow()
}
