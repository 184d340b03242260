package runtime

import (
	"encoding/json"
	"fmt"
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
	EventStateRemoved  = "state-removed"
	EventLost          = "events-lost"
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
