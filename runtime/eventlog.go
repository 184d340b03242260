package runtime

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// maxWaitingLines limits the lines that wait for room on the disk; what comes
// on top of them is counted and no more.
const maxWaitingLines = 1000

// EventLog appends events to a file, one JSON object a line. When the file
// would outgrow its limit it becomes the predecessor (.1) and a new one begins.
// What cannot be written waits in memory. A file that somebody has moved away
// or removed is begun anew.
type EventLog struct {
	path  string
	limit int64

	// sync brings a file or a directory to the disk.
	sync func(*os.File) error

	mu   sync.Mutex
	file *os.File
	size int64
	// unsynced says that lines were written since the last Sync, fresh that the
	// file was begun since then; former are those that were the log before it.
	unsynced, fresh bool
	former          []*os.File
	// torn says that the last line has no end.
	torn bool
	// waiting are lines that could not be written yet, lost how many more there
	// were.
	waiting [][]byte
	lost    int
}

// OpenEventLog opens or creates the log. limit is in bytes.
func OpenEventLog(path string, limit int64) (*EventLog, error) {
	l := &EventLog{path: path, limit: limit, sync: (*os.File).Sync}
	if err := l.open(); err != nil {
		return nil, err
	}
	return l, nil
}

func (l *EventLog) open() error {
	file, err := openPrivate(l.path, os.O_RDWR|os.O_CREATE|os.O_APPEND)
	if err != nil {
		return err
	}
	info, err := file.Stat()
	if err != nil {
		return errors.Join(err, file.Close())
	}
	l.file, l.size, l.torn, l.fresh = file, info.Size(), true, true
	return nil
}

// mend ends a line that a dying writer or a full disk cut short, so that it
// spoils no other.
func (l *EventLog) mend() error {
	if !l.torn {
		return nil
	}
	last := []byte{'\n'}
	if l.size > 0 {
		if _, err := l.file.ReadAt(last, l.size-1); err != nil {
			return err
		}
	}
	if last[0] != '\n' {
		n, err := l.file.Write([]byte("\n"))
		l.size += int64(n)
		if err != nil {
			return err
		}
	}
	l.torn = false
	return nil
}

// setLimit changes the limit, in bytes.
func (l *EventLog) setLimit(limit int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.limit = limit
}

// Append writes one event. An error that is not the event's own means that the
// event waits: it is written before the next one, or by Flush.
func (l *EventLog) Append(e LogEvent) error {
	line, err := json.Marshal(e)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.waiting) >= maxWaitingLines {
		l.lost++
	} else {
		l.waiting = append(l.waiting, append(bytes.TrimSpace(line), '\n'))
	}
	return l.flush()
}

// Flush writes what waits.
func (l *EventLog) Flush() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.flush()
}

func (l *EventLog) flush() error {
	if len(l.waiting) == 0 {
		return nil
	}
	if err := l.follow(); err != nil {
		return err
	}
	for len(l.waiting) > 0 {
		if err := l.write(l.waiting[0]); err != nil {
			return err
		}
		l.waiting = l.waiting[1:]
	}
	if l.lost > 0 {
		return l.confess()
	}
	return nil
}

// confess tells in the log itself how much of it is missing.
func (l *EventLog) confess() error {
	line, err := json.Marshal(LogEvent{Time: time.Now(), Type: EventLost,
		Message: fmt.Sprintf("%d events before this one could not be written", l.lost), Facts: map[string]any{"count": l.lost}})
	if err == nil {
		err = l.write(append(line, '\n'))
	}
	if err == nil {
		l.lost = 0
	}
	return err
}

// follow begins the file anew when the path is another one's by now: somebody
// has rotated it, or cleaned up. One that was truncated in place goes on.
func (l *EventLog) follow() error {
	there, err := os.Stat(l.path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil // the open file goes on
	}
	if mine, failed := l.file.Stat(); err == nil && failed == nil && os.SameFile(mine, there) {
		l.torn = l.torn || there.Size() != l.size
		l.size = there.Size()
		return nil
	}
	return l.succeed()
}

// write writes one line whole, or nothing of it as far as that can be had.
func (l *EventLog) write(line []byte) error {
	if err := l.mend(); err != nil {
		return err
	}
	if l.size > 0 && l.size+int64(len(line)) > l.limit {
		if err := l.rotate(); err != nil {
			return err
		}
	}
	n, err := l.file.Write(line)
	l.unsynced = l.unsynced || n > 0
	if err == nil {
		l.size += int64(n)
		return nil
	}
	if n > 0 && l.file.Truncate(l.size) != nil {
		l.size, l.torn = l.size+int64(n), true
	}
	return err
}

func (l *EventLog) rotate() error {
	if err := os.Rename(l.path, l.path+previousSuffix); err != nil {
		return err
	}
	return l.succeed()
}

// succeed begins another file; the one before is closed when it is on the disk.
// When there can be no other it goes on.
func (l *EventLog) succeed() error {
	old := l.file
	if err := l.open(); err != nil {
		return err
	}
	l.former = append(l.former, old)
	return nil
}

// lacks says whether there are lines that a power cut would take.
func (l *EventLog) lacks() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.unsynced
}

// Sync brings to the disk what was written. Nobody who appends waits for it.
func (l *EventLog) Sync() error {
	l.mu.Lock()
	due, fresh, files := l.unsynced, l.fresh, append(l.former, l.file)
	if due {
		l.unsynced, l.fresh, l.former = false, false, nil
	}
	l.mu.Unlock()
	if !due {
		return nil
	}
	var errs []error
	for i, file := range files {
		errs = append(errs, l.sync(file))
		if i < len(files)-1 {
			errs = append(errs, file.Close())
		}
	}
	if fresh {
		errs = append(errs, syncDir(filepath.Dir(l.path), l.sync))
	}
	err := errors.Join(errs...)
	if err != nil {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.unsynced, l.fresh = true, l.fresh || fresh
	}
	return err
}

// Close ends the log; it tries once more to write what waits.
func (l *EventLog) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	errs := []error{l.flush(), l.file.Close()}
	for _, old := range l.former {
		errs = append(errs, old.Close())
	}
	return errors.Join(errs...)
}
