package spec

import (
	"context"
	"maps"
	"runtime/debug"
	"sync/atomic"
	"time"
)

// job is the parse of one file's content, which may take longer than a Load.
type job struct {
	stamp  stamp
	size   int64 // in bytes
	cancel context.CancelFunc
	done   chan struct{} // closed when the rest is there
	// entry is what came of it. It is nil when a file that expressions read
	// changed meanwhile, or so shortly before that it can change again unseen:
	// reads are those files then.
	entry *entry
	reads []string
}

func (j *job) isDone() bool {
	select {
	case <-j.done:
		return true
	default:
		return false
	}
}

// begin starts to parse a file that changed; fresh is what is known of it.
func (l *Loader) begin(name string, src []byte, fresh entry) {
	ctx, cancel := context.WithCancel(context.Background())
	j := &job{stamp: fresh.stamp, size: int64(len(src)), cancel: cancel, done: make(chan struct{})}
	l.jobs[name] = j
	l.parsed++
	bytes, _ := l.backlog.of(j.size)
	bytes.Add(j.size)
	go func() {
		defer l.tellReady()
		defer close(j.done)
		defer bytes.Add(-j.size)
		defer cancel()
		l.work(ctx, j, name, src, fresh)
	}()
}

// tellReady is called after the end of each job. The first one that a Load left
// behind stands for those that end before the next Load.
func (l *Loader) tellReady() {
	if l.behind.CompareAndSwap(true, false) {
		l.opts.Ready()
	}
}

// work parses, and makes the entry of what comes of it.
func (l *Loader) work(ctx context.Context, j *job, name string, src []byte, fresh entry) {
	defer func() {
		if reason := recover(); reason != nil {
			l.opts.crashed(name, reason, debug.Stack())
			fresh.source = crashedSource(name, reason)
			j.entry = &fresh
		}
	}()
	path := l.show(name)
	env := Env{Dir: l.opts.Dir, HostName: l.opts.HostName, HostArch: l.opts.HostArch, Crashed: l.opts.crashed}
	fresh.source = l.lanes.parse(ctx, path, src, env)
	if fresh.source == nil {
		return
	}
	fresh.reads = stamps(fresh.source.Reads())
	if len(fresh.reads) > 0 {
		// The stamps of the files it reads must be older than what is read
		// from them; which they are is known only after the first time.
		if fresh.source = l.lanes.parse(ctx, path, src, env); fresh.source == nil {
			return
		}
		j.reads = fresh.source.Reads()
		if again := stamps(j.reads); !l.asIs && (!maps.Equal(fresh.reads, again) || l.anyYoung(fresh.reads)) {
			return
		}
	}
	j.entry = &fresh
}

// underWay says whether the content that a file has now is being parsed, or
// was parsed in vain and is not worth another try yet. It ends the parse of
// any other content.
func (l *Loader) underWay(name, path string) bool {
	j := l.jobs[name]
	if j == nil {
		return false
	}
	now, err := statFile(path)
	if err == nil && now == j.stamp && (!j.isDone() || j.entry != nil || l.anyYoung(stamps(j.reads))) {
		return true
	}
	l.drop(name)
	return false
}

func (l *Loader) drop(name string) {
	l.jobs[name].cancel()
	delete(l.jobs, name)
}

// backlog counts the bytes of files that are read and not parsed yet. Small
// files and large ones have room of their own.
type backlog struct{ small, large atomic.Int64 }

const (
	maxSmallBacklog = 64 << 20
	maxLargeBacklog = 8 << 20
)

// of gives the count for files of that size, and its bound.
func (b *backlog) of(size int64) (bytes *atomic.Int64, most int64) {
	if size > quickSize {
		return &b.large, maxLargeBacklog
	}
	return &b.small, maxSmallBacklog
}

// hasRoom says whether another file of that size may be read. A Load that
// waits for everything makes room.
func (l *Loader) hasRoom(size int64) bool {
	bytes, most := l.backlog.of(size)
	for bytes.Load()+size > most {
		if l.opts.Patience > 0 {
			return false
		}
		l.await(time.Time{})
	}
	return true
}

// await gives the parses that are under way until the deadline; without one
// until they are done.
func (l *Loader) await(deadline time.Time) {
	var late <-chan time.Time
	if !deadline.IsZero() {
		timer := time.NewTimer(time.Until(deadline))
		defer timer.Stop()
		late = timer.C
	}
	for _, j := range l.jobs {
		select {
		case <-j.done:
		case <-late:
			// Before the jobs are collected: one that ends in between is
			// told of for nothing, and none is missed.
			l.behind.Store(true)
			return
		}
	}
}

// collect gives what came of a file's parse, if it is done and worth anything.
func (l *Loader) collect(name string) *entry {
	j := l.jobs[name]
	if j == nil || !j.isDone() || j.entry == nil {
		return nil
	}
	delete(l.jobs, name)
	return j.entry
}

// dropOthers ends the parses of files that are not there any more.
func (l *Loader) dropOthers(names []string) {
	if len(l.jobs) == 0 {
		return
	}
	there := make(map[string]bool, len(names))
	for _, name := range names {
		there[name] = true
	}
	for name := range l.jobs {
		if !there[name] {
			l.drop(name)
		}
	}
}
