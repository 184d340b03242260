package runtime

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"
)

// The types of LogEvent that this package writes.
const (
	EventStarted       = "started"
	EventAdopted       = "adopted"
	EventRunning       = "running"
	EventStopping      = "stopping"
	EventStopped       = "stopped"
	EventExited        = "exited"
	EventStartFailed   = "start-failed"
	EventPaused        = "paused"
	EventResumed       = "resumed"
	EventRebooted      = "rebooted"
	EventRecordCorrupt = "record-corrupt"
)

// LogEvent is one line of events.jsonl.
type LogEvent struct {
	Time    time.Time
	Type    string
	Task    string
	Message string
	// Facts become further fields of the line.
	Facts map[string]any
}

// MarshalJSON writes the fixed fields first and the facts after them, sorted,
// in one flat object. A fact cannot take a fixed field's name.
func (e LogEvent) MarshalJSON() ([]byte, error) {
	head, err := json.Marshal(struct {
		Time    time.Time `json:"time"`
		Type    string    `json:"type"`
		Task    string    `json:"task"`
		Message string    `json:"message"`
	}{e.Time.UTC(), e.Type, e.Task, e.Message})
	if err != nil {
		return nil, err
	}
	facts := make(map[string]any, len(e.Facts))
	for key, value := range e.Facts {
		switch key {
		case "time", "type", "task", "message":
			return nil, fmt.Errorf("event %s: fact %q has the name of a fixed field", e.Type, key)
		}
		facts[key] = value
	}
	if len(facts) == 0 {
		return head, nil
	}
	tail, err := json.Marshal(facts)
	if err != nil {
		return nil, err
	}
	return append(append(head[:len(head)-1], ','), tail[1:]...), nil
}

// EventLog appends events to a file, one JSON object a line. When the file
// would outgrow its limit it becomes the predecessor (.1) and a new one begins.
type EventLog struct {
	path  string
	limit int64

	mu   sync.Mutex
	file *os.File
	size int64
}

// OpenEventLog opens or creates the log. limit is in bytes.
func OpenEventLog(path string, limit int64) (*EventLog, error) {
	l := &EventLog{path: path, limit: limit}
	if err := l.open(); err != nil {
		return nil, err
	}
	return l, l.mend()
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
	l.file, l.size = file, info.Size()
	return nil
}

// mend ends a line that a dying writer or a full disk cut short, so that it
// spoils no other.
func (l *EventLog) mend() error {
	if l.size == 0 {
		return nil
	}
	last := make([]byte, 1)
	if _, err := l.file.ReadAt(last, l.size-1); err != nil || last[0] == '\n' {
		return err
	}
	n, err := l.file.Write([]byte("\n"))
	l.size += int64(n)
	return err
}

// setLimit changes the limit, in bytes.
func (l *EventLog) setLimit(limit int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.limit = limit
}

// Append writes one event.
func (l *EventLog) Append(e LogEvent) error {
	line, err := json.Marshal(e)
	if err != nil {
		return err
	}
	line = append(bytes.TrimSpace(line), '\n')
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.size > 0 && l.size+int64(len(line)) > l.limit {
		if err := l.rotate(); err != nil {
			return err
		}
	}
	n, err := l.file.Write(line)
	l.size += int64(n)
	if err != nil && n > 0 {
		return errors.Join(err, l.mend())
	}
	return err
}

func (l *EventLog) rotate() error {
	if err := os.Rename(l.path, l.path+previousSuffix); err != nil {
		return err
	}
	old := l.file
	if err := l.open(); err != nil {
		return err // the old file goes on
	}
	return old.Close()
}

// Close ends the log.
func (l *EventLog) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.file.Close()
}
