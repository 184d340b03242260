package runtime

import (
	"reflect"
	"slices"
	"time"
)

// The names of events (QEMU QMP Reference Manual) that change what is known of
// a VM.
const (
	QMPShutdown = "SHUTDOWN"
	QMPReset    = "RESET"
	QMPStop     = "STOP"
	QMPResume   = "RESUME"
)

// Event is one event of QEMU, or the latest of several alike that came faster
// than they were received.
type Event struct {
	Name string
	// At is QEMU's own time; the time of its arrival when QEMU could not tell.
	At time.Time
	// Data is a ShutdownEvent or ResetEvent by the name of the event; a
	// map[string]any for other events and for data that does not have the known
	// form; nil without data.
	Data any
}

// The reasons of a ShutdownEvent and of a ResetEvent (ShutdownCause in QEMU's
// qapi/run-state.json).
const (
	reasonHostError   = "host-error"
	reasonQuit        = "host-qmp-quit"
	reasonSystemReset = "host-qmp-system-reset"
	reasonSignal      = "host-signal"
	reasonUI          = "host-ui"
	reasonShutdown    = "guest-shutdown"
	reasonReset       = "guest-reset"
	reasonPanic       = "guest-panic"
)

// ShutdownEvent says why QEMU ends.
type ShutdownEvent struct {
	// Guest is true when the guest asked for it.
	Guest  bool   `mapstructure:"guest"`
	Reason string `mapstructure:"reason"`
	// At is the time of the event, which may be long before somebody noticed
	// the end of the process.
	At time.Time `mapstructure:"-"`
}

// ResetEvent says why the machine was reset.
type ResetEvent struct {
	Guest  bool   `mapstructure:"guest"`
	Reason string `mapstructure:"reason"`
}

// maxWaitingEvents is how many events wait for a receiver that is busy.
const maxWaitingEvents = 256

// vitalEvents change what is known of a VM, so they are never dropped.
var vitalEvents = map[string]bool{QMPShutdown: true, QMPReset: true, QMPStop: true, QMPResume: true}

// eventQueue holds the events that wait for the receiver. A triple-faulting
// guest resets many times a second and must not fill memory: an event takes the
// place of one like it that waits, at the end, so the order of the latest of each
// kind (STOP before RESUME) is kept. When the queue is full,
// events of one name count as alike whatever their data, and new ones that are
// not vital are dropped.
type eventQueue struct{ waiting []Event }

func (q *eventQueue) push(e Event) {
	full := len(q.waiting) >= maxWaitingEvents
	for i, w := range q.waiting {
		if w.Name == e.Name && (full || alike(w.Data, e.Data)) {
			q.waiting = append(slices.Delete(q.waiting, i, i+1), e)
			return
		}
	}
	if !full || vitalEvents[e.Name] {
		q.waiting = append(q.waiting, e)
	}
}

func (q *eventQueue) pop() (Event, bool) {
	if len(q.waiting) == 0 {
		return Event{}, false
	}
	e := q.waiting[0]
	q.waiting = slices.Delete(q.waiting, 0, 1)
	return e, true
}

// alike compares the data of two events without their times.
func alike(a, b any) bool {
	return reflect.DeepEqual(timeless(a), timeless(b))
}

func timeless(data any) any {
	if s, ok := data.(ShutdownEvent); ok {
		s.At = time.Time{}
		return s
	}
	return data
}
