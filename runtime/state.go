package runtime

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/qemu-reconciler/qemu-reconciler/internal/crash"
)

// File names in the directory of the records.
const (
	recordSuffix = ".json"
	// safeSuffix marks the copy that a durable write leaves on the disk. The
	// record itself is replaced many times without a sync, and a power cut may
	// leave anything of it; the copy has what must survive: ports, pinned format,
	// holds, definitions.
	safeSuffix    = ".json.durable"
	corruptSuffix = ".json.corrupt-"
	// asideStamp is the layout of the time in the name of what was set aside.
	asideStamp = "20060102T150405.000000000"
	// temporaryPrefix begins the names of files being written. No task's name
	// begins with a dot.
	temporaryPrefix = "."
)

// writesAtOnce is how many records are written or removed at a time. All names are
// in one directory, which the kernel changes one at a time: hundreds that stop at
// once would stand in line there, each as a thread.
const writesAtOnce = 2

// NewerError refuses a record that a later version of this program wrote.
type NewerError struct {
	Path    string
	Version int
	// Known is the latest version that this program knows.
	Known int
}

func (e *NewerError) Error() string {
	return fmt.Sprintf("%s has version %d and this program knows up to version %d: use the newer program again, nothing was touched", e.Path, e.Version, e.Known)
}

// Store keeps one record a task as JSON. Writes of one task must not overlap;
// different tasks are independent.
type Store struct {
	layout Layout
	now    func() time.Time
	blanks *blanks
	// numbers are those of the writes; the last one that was given or seen.
	numbers atomic.Uint64
	// sync brings a file or a directory to the disk.
	sync func(*os.File) error
	// turns are those of writes that do not wait for the disk, and of removals.
	turns chan struct{}
	// stirred says that names came or went that are perhaps not on the disk yet.
	stirred atomic.Bool
	// trusted says that they were synced since an earlier daemon may have died
	// before it came to that.
	trusted atomic.Bool
}

// Stored is what a Store holds.
type Stored struct {
	Records map[string]*Record
	// Spare are the safe copies of records that are lost: corrupt, or gone. Their
	// word on processes is old.
	Spare map[string]*Record
	// Corrupt says of every record that makes no sense what is wrong with it.
	Corrupt map[string]error
	// Untouchable are the records that cannot be read now or are of a newer
	// version. Neither they nor their processes may be touched.
	Untouchable map[string]error
}

// OpenStore makes the store of a state directory, which must exist.
func OpenStore(layout Layout) *Store {
	s := &Store{
		layout: layout, now: time.Now, blanks: newBlanks(layout.BlanksDir()),
		sync: (*os.File).Sync, turns: make(chan struct{}, writesAtOnce),
	}
	s.stirred.Store(true)
	return s
}

// Read reads everything and changes nothing.
func (s *Store) Read() (Stored, error) {
	out := Stored{Records: map[string]*Record{}, Spare: map[string]*Record{}, Corrupt: map[string]error{}, Untouchable: map[string]error{}}
	entries, err := os.ReadDir(s.layout.TasksDir())
	if err != nil {
		return out, fmt.Errorf("records: %w", err)
	}
	seals := map[string]seal{}
	for _, entry := range entries {
		name := entry.Name()
		if task, ok := strings.CutSuffix(name, recordSuffix); ok && !strings.HasPrefix(name, temporaryPrefix) {
			seals[task] = s.sort(&out, task)
		}
	}
	for _, entry := range entries {
		if task, ok := strings.CutSuffix(entry.Name(), safeSuffix); ok && out.Untouchable[task] == nil {
			s.consult(&out, task, seals[task])
		}
	}
	return out, nil
}

// sort reads one record and puts it where it belongs.
func (s *Store) sort(out *Stored, task string) seal {
	record, seal, err := readRecord(s.layout.Record(task), task)
	s.seen(seal.Number)
	switch {
	case err == nil:
		out.Records[task] = record
	case errors.Is(err, fs.ErrNotExist): // went away meanwhile
	case notOurs(err):
		out.Untouchable[task] = err
	default:
		out.Corrupt[task] = err
	}
	return seal
}

// consult has the copy of a record stand in for it, if that is lost, or if the host
// has booted since and the copy knows better: then the last writes did not reach the
// disk.
func (s *Store) consult(out *Stored, task string, seal seal) {
	record := out.Records[task]
	if record != nil && seal.BootID == BootID() {
		s.seen(numberIn(s.safe(task)))
		return
	}
	copied, copySeal, err := readRecord(s.safe(task), task)
	s.seen(copySeal.Number)
	switch {
	case err == nil && record == nil:
		out.Spare[task] = copied
		if seal.early() && errors.Is(out.Corrupt[task], errAnothers) { // the last bytes of the file that it is in
			delete(out.Corrupt, task)
		}
	case err == nil && copySeal.early() && copySeal.Number > seal.Number && lasting(copied, record):
		delete(out.Records, task)
		out.Spare[task] = copied
	case record != nil && notOurs(err) && !errors.Is(err, fs.ErrNotExist):
		delete(out.Records, task) // the copy might say otherwise
		out.Untouchable[task] = err
	}
}

// notOurs says whether a record or a copy makes sense perhaps, to others or later.
func notOurs(err error) bool {
	var newer *NewerError
	var unreadable *fs.PathError
	return errors.As(err, &newer) || errors.As(err, &unreadable)
}

// seen has later writes have higher numbers.
func (s *Store) seen(number uint64) {
	for last := s.numbers.Load(); last < number && !s.numbers.CompareAndSwap(last, number); {
		last = s.numbers.Load()
	}
}

// number is that of the next write.
func (s *Store) number() uint64 { return s.numbers.Add(1) }

// Load reads everything, sets corrupt records aside (never deleted) and removes what interrupted writes left behind.
func (s *Store) Load() (Stored, error) {
	out, err := s.Read()
	if err != nil {
		return out, err
	}
	if err := s.sweep(); err != nil {
		return out, fmt.Errorf("records: %w", err)
	}
	for task, reason := range out.Corrupt {
		spare := out.Spare[task] != nil
		aside := filepath.Join(s.layout.TasksDir(), task+corruptSuffix+s.now().UTC().Format(asideStamp))
		if err := setAside(s.layout.Record(task), aside, spare); err != nil {
			delete(out.Corrupt, task)
			delete(out.Spare, task)
			out.Untouchable[task] = fmt.Errorf("%w, and it cannot be set aside: %w", reason, err)
			continue
		}
		crash.Point("adopt.aside")
		out.Corrupt[task] = fmt.Errorf("%w; set aside as %s", reason, aside)
	}
	return out, nil
}

// setAside gives a corrupt record another name. One that has a copy to stand in
// for it keeps its own name as well, until that is written: a daemon that comes
// after a crash then says the same of it.
func setAside(path, aside string, spare bool) error {
	if spare && os.Link(path, aside) == nil { // not every file system has links
		return nil
	}
	return os.Rename(path, aside)
}

// sweep removes files of writes that never finished, and takes over the blanks.
func (s *Store) sweep() error {
	entries, err := os.ReadDir(s.layout.TasksDir())
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), temporaryPrefix) {
			err = errors.Join(err, os.Remove(filepath.Join(s.layout.TasksDir(), entry.Name())))
		}
	}
	s.seen(s.blanks.find())
	return err
}

// Put replaces the record of a task atomically. A durable write has reached
// the disk when it returns; any other survives the death of this process but
// perhaps not a power cut.
func (s *Store) Put(record *Record, durable bool) error {
	raw, err := encodeRecord(record, s.number())
	if err != nil {
		return err
	}
	if durable {
		if err := s.create(s.safe(record.Task), raw, s.sync); err != nil {
			return fmt.Errorf("record of %s: %w", record.Task, withAdvice(err))
		}
		crash.Point("record.copied")
	}
	if err := s.replace(s.layout.Record(record.Task), raw); err != nil {
		return fmt.Errorf("record of %s: %w", record.Task, withAdvice(err))
	}
	crash.Point("record.replaced")
	if !durable {
		return nil
	}
	return syncDir(s.layout.TasksDir(), s.sync)
}

// Delete removes the record of a task. The copy goes first: one without a record
// is there only when the record was lost. Until the names are synced a power cut
// may bring it back.
func (s *Store) Delete(task string) error {
	s.turns <- struct{}{}
	defer func() { <-s.turns }()
	defer s.stirred.Store(true)
	if err := remove(s.safe(task)); err != nil {
		return err
	}
	crash.Point("forget.halved")
	return remove(s.layout.Record(task))
}

func (s *Store) safe(task string) string {
	return filepath.Join(s.layout.TasksDir(), task+safeSuffix)
}

func syncDir(path string, sync func(*os.File) error) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	defer dir.Close()
	return sync(dir)
}

func remove(path string) error {
	if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
