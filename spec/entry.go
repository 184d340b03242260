package spec

import (
	"crypto/sha256"
	"errors"
	"os"
	"path/filepath"
	"time"
)

// entry is what is known of one file. Another content makes another entry, so
// that comparing pointers tells whether anything changed.
type entry struct {
	stamp stamp
	// young is set when the file changed so shortly before it was read that
	// the stamp proves nothing; sum then tells whether it changed again.
	young bool
	sum   [sha256.Size]byte
	// completeAt is Set.CompleteAt for this file; zero when it is finished.
	completeAt time.Time
	// reads are the files that expressions in this one read.
	reads map[string]stamp
	// problem says why the file could not be read; source then has no task.
	problem string
	source  *Source
}

// refresh gives the entry of one file as it is now: the old one when nothing
// changed or when the file cannot be believed yet, nil when it is not there.
func (l *Loader) refresh(dir, name string, old *entry) (fresh *entry, settled bool) {
	path := filepath.Join(dir, name)
	if l.underWay(name, path) {
		return old, false
	}
	if old != nil && !old.young && old.problem == "" {
		if now, err := statFile(path); err == nil && now == old.stamp && old.readsSame() {
			return old, true
		}
	}
	if now, err := statFile(path); err == nil && now.problem() == nil && !l.hasRoom(now.size) {
		return old, false
	}
	src, now, finished, err := l.read(path)
	var problem *fileProblem
	switch {
	case errors.Is(err, errVanished):
		return nil, true
	case errors.Is(err, errWriting):
		return old, false
	case errors.As(err, &problem):
		return l.problem(name, problem, old), true
	case err != nil:
		return l.problem(name, &fileProblem{"Cannot read file", err.Error()}, old), true
	}
	sum := sha256.Sum256(src)
	if old != nil && old.young && old.stamp == now && old.sum == sum && old.readsSame() {
		old.young = l.isYoung(now)
		return old, true
	}
	begun := entry{stamp: now, young: l.isYoung(now), sum: sum}
	if !finished {
		begun.completeAt = l.completeAt(now)
	}
	l.begin(name, src, begun)
	return old, false // until its parse is done
}

// read reads one file, unless it is being written. finished says that it is
// known that nobody does.
func (l *Loader) read(path string) (src []byte, now stamp, finished bool, err error) {
	if !l.asIs {
		src, now, err = readFile(path, func(f *os.File, now stamp) (settled bool) {
			settled, finished = l.settled(f, now)
			return settled
		})
		return src, now, finished, err
	}
	src, now, err = readFile(path, nil)
	for range maxLooks {
		if !errors.Is(err, errWriting) {
			return src, now, true, err
		}
		src, now, err = readFile(path, nil)
	}
	if errors.Is(err, errWriting) {
		err = &fileProblem{"File is being written", "It changed each time that it was read. Try again when it is finished."}
	}
	return src, now, true, err
}

// problem is the entry of a file that cannot be read; the old one when that is
// known already. It is tried again at every Load, since not everything that
// can be wrong shows in a stamp.
func (l *Loader) problem(name string, p *fileProblem, old *entry) *entry {
	if old != nil && old.problem == p.Error() {
		return old
	}
	return &entry{problem: p.Error(), source: &Source{Path: l.show(name), Errors: []Diagnostic{p.diagnostic(l.show(name))}}}
}

// show is the name of a file in diagnostics.
func (l *Loader) show(name string) string {
	if l.shown == nil {
		return name
	}
	return l.shown(name)
}

// settled says whether a file's content can be believed: nobody has it open
// for writing or, where that cannot be known, it was left alone for a while.
func (l *Loader) settled(f *os.File, now stamp) (settled, known bool) {
	if l.opts.Writing != nil {
		if busy, known := l.opts.Writing(f); known {
			return !busy, true
		}
	}
	return !l.within(now.mtime), false
}

// completeAt is when a file counts as finished though nobody knows whether it is.
// That is at once when something else than a write happened to it last: who has
// written it then renames it, or sets its time or its mode.
func (l *Loader) completeAt(now stamp) time.Time {
	if now.mtime != now.ctime {
		return time.Time{}
	}
	written := time.Unix(0, now.mtime)
	if read := l.opts.Now(); written.After(read) { // by another clock
		written = read
	}
	return written.Add(completeTime)
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// isYoung says whether the file changed so lately that a stamp proves nothing.
func (l *Loader) isYoung(s stamp) bool { return l.within(s.mtime) || l.within(s.ctime) }

// within says whether a time is less than settleTime away. A time that is
// further in the future comes from another clock and says nothing.
func (l *Loader) within(nanoseconds int64) bool {
	age := l.opts.Now().Sub(time.Unix(0, nanoseconds))
	return age.Abs() < settleTime
}

// readsSame says whether no file that expressions read has changed.
func (e *entry) readsSame() bool {
	for path, then := range e.reads {
		if now, _ := statFile(path); now != then {
			return false
		}
	}
	return true
}

// stamps takes the stamp of each file; one that is not there has the zero one.
func stamps(paths []string) map[string]stamp {
	if len(paths) == 0 {
		return nil
	}
	out := make(map[string]stamp, len(paths))
	for _, path := range paths {
		out[path], _ = statFile(path)
	}
	return out
}

func (l *Loader) anyYoung(reads map[string]stamp) bool {
	for _, s := range reads {
		if l.isYoung(s) {
			return true
		}
	}
	return false
}
