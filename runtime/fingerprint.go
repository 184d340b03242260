package runtime

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/qemu-reconciler/qemu-reconciler/spec"
)

const (
	// The failure of a probe is believed for retryFirst, and twice as long after
	// each further one, up to retryLast: a binary that hangs must not hold up
	// whoever asks again and again. One that answers is believed until it
	// changes, and one that changed is asked at once.
	retryFirst = 30 * time.Second
	retryLast  = 10 * time.Minute
)

// Fingerprint knows what this host's emulators can do. Each binary is asked
// once, by a run without a machine, and its answer is kept on disk until the
// binary changes. All methods are safe for concurrent use.
type Fingerprint struct {
	cacheFile string
	log       hclog.Logger

	mu     sync.Mutex // guards the map, never held while a binary is asked
	probes map[stamp]*inquiry

	saving sync.Mutex // one writer of the cache file at a time

	// ctx ends with Close; probing are the probes under way.
	ctx     context.Context
	cancel  context.CancelFunc
	probing sync.WaitGroup
}

// inquiry is one binary's answer, or the way to it.
type inquiry struct {
	done   chan struct{} // closed when the rest is there
	answer answer
	err    error
	at     time.Time
	// failures is how often in a row this very binary has failed before.
	failures int
	// known says that there is an answer worth keeping; guarded by the
	// Fingerprint's mu.
	known bool
}

// stamp identifies a binary's content as far as stat can.
type stamp struct {
	Path   string `json:"path"`
	Size   int64  `json:"size"`
	Mtime  int64  `json:"mtime"` // nanoseconds
	Device uint64 `json:"device"`
	Inode  uint64 `json:"inode"`
}

// NewFingerprint makes one that keeps its answers in cacheFile, which is read
// now and may be missing, unreadable or empty ("": answers are kept in memory).
func NewFingerprint(cacheFile string, log hclog.Logger) *Fingerprint {
	f := &Fingerprint{cacheFile: cacheFile, log: log, probes: map[stamp]*inquiry{}}
	f.ctx, f.cancel = context.WithCancel(context.Background())
	f.load()
	return f
}

// Close ends the probes under way and waits for them; those who wait for their
// answers are told ErrClosed. What is known already can still be asked.
func (f *Fingerprint) Close() {
	f.mu.Lock()
	f.cancel() // under the lock that a new probe is begun under
	f.mu.Unlock()
	f.probing.Wait()
}

var _ spec.Host = (*Fingerprint)(nil)

// Emulators lists the programs on PATH that are called as QEMU's are, sorted.
// None of them is run.
func (f *Fingerprint) Emulators() []string {
	var names []string
	for _, dir := range filepath.SplitList(os.Getenv("PATH")) {
		matches, _ := filepath.Glob(filepath.Join(globEscape(dir), spec.EmulatorPrefix+"*"))
		for _, match := range matches {
			if isProgram(match) {
				names = append(names, filepath.Base(match))
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// Emulator describes the program of that name on PATH.
func (f *Fingerprint) Emulator(name string) (spec.EmulatorInfo, error) {
	_, answer, _, err := f.ask(f.ctx, name)
	if err != nil {
		return spec.EmulatorInfo{}, err
	}
	return spec.EmulatorInfo{
		Version:      answer.Version.String(),
		Accelerators: slices.Clone(answer.Accelerators),
		MachineTypes: slices.Clone(answer.MachineTypes),
	}, nil
}

// Features says what of the program of that name makes a difference to its
// command line, and where it is. The error is one sentence.
func (f *Fingerprint) Features(emulator string) (Features, string, error) {
	return f.featuresWithin(f.ctx, emulator)
}

// featuresWithin is Features for a caller who may stop waiting; the probe goes
// on for others.
func (f *Fingerprint) featuresWithin(ctx context.Context, emulator string) (Features, string, error) {
	path, _, features, err := f.ask(ctx, emulator)
	return features, path, err
}

// Image checks that path leads to an image that can be opened.
func (f *Fingerprint) Image(path string) (spec.ImageInfo, error) {
	file, info, err := openImage(path)
	if err != nil {
		return spec.ImageInfo{}, err
	}
	return info, file.Close()
}

// ask finds a program and gives what it answered, now or before. The error is
// one sentence that names the program.
func (f *Fingerprint) ask(ctx context.Context, name string) (path string, a answer, features Features, err error) {
	if path, err = findEmulator(name); err != nil {
		return "", answer{}, Features{}, err
	}
	stamp, err := stampOf(path)
	if err != nil {
		return "", answer{}, Features{}, fmt.Errorf("emulator %s cannot be used: %w", name, err)
	}
	q, err := f.inquire(ctx, stamp)
	if err == nil {
		features, err = judge(q.answer.Version, q.answer.Options)
	}
	if err != nil {
		return "", answer{}, Features{}, fmt.Errorf("emulator %s %w", name, err)
	}
	return path, q.answer, features, nil
}

// inquire waits for the one inquiry about a binary.
func (f *Fingerprint) inquire(ctx context.Context, s stamp) (*inquiry, error) {
	q := f.inquiry(s)
	if !isClosed(q.done) { // what is known is told also after the end
		select {
		case <-q.done:
		case <-ctx.Done():
		}
	}
	switch {
	case isClosed(q.done) && (q.err == nil || f.ctx.Err() == nil):
		return q, q.err
	case f.ctx.Err() != nil:
		return q, fmt.Errorf("was not asked: %w", ErrClosed)
	}
	return q, fmt.Errorf("was not waited for: %w", ctx.Err())
}

// inquiry gives the one inquiry about a binary, and begins it when there is
// none that can be believed. It replaces the answers of the binaries that were
// at the path before.
func (f *Fingerprint) inquiry(s stamp) *inquiry {
	f.mu.Lock()
	defer f.mu.Unlock()
	known := f.probes[s]
	if known != nil && !known.stale(time.Now()) {
		return known
	}
	q := &inquiry{done: make(chan struct{})}
	if known != nil {
		q.failures = known.failures + 1
	}
	if f.ctx.Err() != nil {
		return q // which nobody answers any more
	}
	for other := range f.probes {
		if other.Path == s.Path {
			delete(f.probes, other)
		}
	}
	f.probes[s] = q
	f.probing.Go(func() { f.probe(s, q) })
	return q
}

// stale says whether the inquiry failed so long ago that it is worth another.
func (q *inquiry) stale(now time.Time) bool {
	select {
	case <-q.done:
		return q.err != nil && now.Sub(q.at) > q.patience()
	default:
		return false
	}
}

// patience is how long a failure is believed.
func (q *inquiry) patience() time.Duration {
	wait := retryFirst
	for n := q.failures; n > 0 && wait < retryLast; n-- {
		wait *= 2
	}
	return min(wait, retryLast)
}

// probe carries out an inquiry and keeps its answer.
func (f *Fingerprint) probe(s stamp, q *inquiry) {
	begun := time.Now()
	q.answer, q.err = f.askBinary(s.Path)
	q.at = time.Now()
	defer close(q.done) // after the answer is kept, so that nobody asks twice
	switch {
	case q.err != nil && f.ctx.Err() != nil:
		return // it was not given the time
	case q.err != nil:
		f.log.Warn("emulator cannot be used", "path", s.Path, "error", q.err, "believed_for", q.patience())
		return
	}
	f.log.Debug("emulator asked", "path", s.Path, "version", q.answer.Version.String(), "took", q.at.Sub(begun))
	f.mu.Lock()
	q.known = true
	f.mu.Unlock()
	f.save()
}

// askBinary is probe, of which a panic is an answer that nothing can be done
// with.
func (f *Fingerprint) askBinary(path string) (a answer, err error) {
	defer func() {
		if cause := recover(); cause != nil {
			f.log.Error("internal fault", "path", path, "panic", cause, "stack", string(debug.Stack()))
			err = fmt.Errorf("could not be asked: internal fault: %v", cause)
		}
	}()
	return probe(f.ctx, path)
}
