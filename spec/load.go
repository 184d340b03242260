package spec

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// settleTime is how long a file must have been left alone when nobody can
	// say whether it is being written. It is also longer than the coarsest
	// tick of a file system's clock: a file that changed less than this
	// before it was read can change again and keep its stamp.
	settleTime = 100 * time.Millisecond
	// completeTime is the same for what is not in the file: a writer may rest
	// for long where it looks finished.
	completeTime = 5 * time.Second
	// maxLooks bounds how often a Load begins anew because the directory was
	// swapped under it.
	maxLooks = 3
)

// LoaderOptions say what a Loader reads and whom it asks.
type LoaderOptions struct {
	// Dir is the task directory; a relative one begins at the working
	// directory. It may be a symlink, also one that is swapped.
	Dir string
	// HostName and HostArch (e.g. "x86_64") are what tasks see of the host.
	HostName, HostArch string
	// Host judges images and emulators; nil leaves the host out.
	Host Host
	// Writing says whether somebody has the file open for writing, and whether
	// that could be known. Nil means that it never can.
	Writing func(f *os.File) (busy, known bool)
	// Patience is how long a Load waits for files that take long to parse; a
	// later one has them. Until then they count as being written. Zero waits
	// for all.
	Patience time.Duration
	// Ready is called, from any goroutine, when the first file is parsed that the
	// latest Load has not waited for: another Load has it. Nil tells nobody.
	Ready func()
	// Crashed is told of bugs that are met on the way; see Env. It may be
	// called from any goroutine.
	Crashed func(file string, reason any, stack []byte)
	// Now is the clock that a file's age is told by; nil means time.Now.
	Now func() time.Time
	// Held is the directory that last held task files, as Remember was told: an
	// empty one that is another says nothing. The zero DirectoryID is for when
	// that should be known and is not; nil believes any.
	Held *DirectoryID
	// Remember is told when that changes, before Load returns. It must not
	// call the Loader. Nil tells nobody.
	Remember func(held DirectoryID)
	// Born gives DirectoryID.Born of an open directory. Nil means that it is
	// never known.
	Born func(dir *os.File) int64
}

func (o LoaderOptions) crashed(file string, reason any, stack []byte) {
	if o.Crashed != nil {
		o.Crashed(file, reason, stack)
	}
}

// Loader reads the task directory again and again, and parses only files that
// changed. It is safe for concurrent use.
type Loader struct {
	opts LoaderOptions
	// err is set when Dir cannot be made absolute.
	err error
	// asIs takes files as they are, half-written or not.
	asIs bool
	// wanted picks files by name; nil means all task files.
	wanted []string
	// shown is how a file is named in diagnostics; nil leaves it as it is.
	shown func(name string) string

	mu      sync.Mutex
	entries map[string]*entry
	jobs    map[string]*job
	// behind says that the latest Load did not wait for all jobs, and that none of
	// them has ended since.
	behind  atomic.Bool
	lanes   *lanes
	backlog backlog
	judge   *judge
	// last is the set of the latest Load that could read the directory, and
	// changed says that it is not true any more.
	last    *Set
	changed bool
	// held is the directory that last held task files; see LoaderOptions.
	held    *DirectoryID
	recheck bool
	parsed  int
}

// NewLoader makes a Loader that has read nothing yet.
func NewLoader(opts LoaderOptions) *Loader {
	if opts.Now == nil {
		opts.Now = time.Now
	}
	dir, err := filepath.Abs(opts.Dir)
	opts.Dir = dir
	if opts.Remember == nil {
		opts.Remember = func(DirectoryID) {}
	}
	if opts.Ready == nil {
		opts.Ready = func() {}
	}
	if opts.Born == nil {
		opts.Born = func(*os.File) int64 { return 0 }
	}
	return &Loader{opts: opts, err: err, entries: map[string]*entry{}, jobs: map[string]*job{}, lanes: newLanes(), judge: newJudge(opts.Host, opts.crashed), held: opts.Held}
}

// Recheck has the tasks with errors that come from the host judged anew at the
// next Load; the verdicts on all others stay.
func (l *Loader) Recheck() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.recheck = true
}

// Parsed counts the files that were parsed since the start.
func (l *Loader) Parsed() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.parsed
}

// Load says what the directory holds now. What cannot be read for the moment
// never looks like a removal: see Set.Err, File.Errors and Set.Unsettled.
func (l *Loader) Load() *Set {
	l.mu.Lock()
	defer l.mu.Unlock()
	var deadline time.Time
	if l.opts.Patience > 0 {
		deadline = time.Now().Add(l.opts.Patience)
	}
	seen, err := l.look(deadline)
	if err != nil {
		return &Set{Dir: l.opts.Dir, Err: fmt.Errorf("task directory %s: %w", l.opts.Dir, err)}
	}
	if l.recheck && l.judge.forget() {
		l.changed = true
	}
	l.recheck = false
	if l.last == nil || l.changed {
		l.last = newSet(l.opts.Dir, seen.sources(), l.judge.all(seen.sources()))
		l.changed = false
	}
	set := *l.last
	set.Unsettled, set.Writing, set.CompleteAt = seen.unsettled, seen.writing, seen.completeAt
	return &set
}

// sighting is what one look at the directory found.
type sighting struct {
	names []string
	// entries are what is known of names, in the same order; a nil one is a
	// file that is not there, or not yet.
	entries   []*entry
	unsettled bool
	// writing are the names of the files that are not settled.
	writing []string
	// completeAt is the latest of the entries.
	completeAt time.Time
}

func (k sighting) sources() []*Source {
	out := make([]*Source, 0, len(k.entries))
	for _, e := range k.entries {
		if e != nil {
			out = append(out, e.source)
		}
	}
	return out
}

// look reads the directory, and reads it again when it was swapped, or a file
// in it renamed, meanwhile: otherwise names and contents of two different
// states could get together, or a file be missed under both its names.
func (l *Loader) look(deadline time.Time) (sighting, error) {
	if l.err != nil {
		return sighting{}, l.err
	}
	for attempt := 1; ; attempt++ {
		seen, before, err := l.readDir(deadline)
		if errors.Is(err, fs.ErrNotExist) && attempt < maxLooks {
			continue
		}
		if err != nil {
			return sighting{}, withoutPath(err)
		}
		if after, err := statFile(l.opts.Dir); err == nil && after == before {
			return seen, nil
		}
		if attempt == maxLooks {
			seen.unsettled = true
			return seen, nil
		}
	}
}

// readDir brings the entries up to date with the directory, and gives the
// stamp that the directory had before. Names and contents come from where the
// symlinks in its path lead at this moment.
func (l *Loader) readDir(deadline time.Time) (sighting, stamp, error) {
	dir, err := filepath.EvalSymlinks(l.opts.Dir)
	if err != nil {
		return sighting{}, stamp{}, err
	}
	names, at, err := l.list(dir)
	if err != nil {
		return sighting{}, stamp{}, err
	}
	l.behind.Store(false) // what has ended by now is collected
	seen := sighting{names: names, entries: make([]*entry, len(names))}
	settled := make([]bool, len(names))
	for i, name := range names {
		seen.entries[i], settled[i] = l.refresh(dir, name, l.entries[name])
	}
	l.dropOthers(names)
	l.await(deadline)
	present := 0
	for i, name := range names {
		old, fresh := l.entries[name], seen.entries[i]
		if parsed := l.collect(name); parsed != nil {
			fresh, settled[i] = parsed, true
			seen.entries[i] = parsed
		}
		if !settled[i] {
			seen.unsettled, seen.writing = true, append(seen.writing, name)
		}
		if fresh != nil {
			present++
			seen.completeAt = later(seen.completeAt, fresh.completeAt)
		}
		if fresh != old {
			l.changed = true
			l.entries[name] = fresh
		}
	}
	if l.changed || present != len(l.entries) {
		l.changed = true
		l.keep(seen)
	}
	return seen, at, nil
}

// list gives the names of the files to look at, sorted.
func (l *Loader) list(dir string) ([]string, stamp, error) {
	if l.wanted != nil {
		at, err := statFile(dir)
		return l.wanted, at, err
	}
	names, at, born, err := listDir(dir, l.opts.Born)
	if err != nil {
		return nil, stamp{}, err
	}
	return names, at, l.emptied(names, DirectoryID{Device: at.dev, Inode: at.ino, Born: born})
}

// keep forgets the files that are gone.
func (l *Loader) keep(seen sighting) {
	l.entries = make(map[string]*entry, len(seen.names))
	for i, name := range seen.names {
		if seen.entries[i] != nil {
			l.entries[name] = seen.entries[i]
		}
	}
}

// withoutPath keeps a path from being named twice.
func withoutPath(err error) error {
	if path := (*fs.PathError)(nil); errors.As(err, &path) {
		return path.Err
	}
	return err
}
