package runtime

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
)

// message is anything that QEMU says.
type message struct {
	QMP *struct {
		Version struct {
			QEMU struct{ Major, Minor, Micro int } `json:"qemu"`
		} `json:"version"`
	} `json:"QMP"`
	Return json.RawMessage `json:"return"`
	Error  *QMPError       `json:"error"`
	ID     json.RawMessage `json:"id"`

	Event     string          `json:"event"`
	Data      json.RawMessage `json:"data"`
	Timestamp struct {
		Seconds      int64 `json:"seconds"`
		Microseconds int64 `json:"microseconds"`
	} `json:"timestamp"`
}

// request is anything that is said to QEMU or to a guest agent.
type request struct {
	Execute   string `json:"execute"`
	Arguments any    `json:"arguments,omitempty"`
	ID        string `json:"id,omitempty"`
}

// faultError ends a session in which this program itself failed.
type faultError struct {
	cause any
	stack []byte
}

func (e *faultError) Error() string { return fmt.Sprintf("internal fault: %v", e.cause) }

// read is the reader goroutine: it ends with the session.
func (m *Monitor) read() {
	defer m.endReading()
	defer func() {
		if cause := recover(); cause != nil {
			_ = m.end(&faultError{cause: cause, stack: debug.Stack()})
		}
	}()
	lines := newLineReader(m.conn, maxMonitorLine)
	for {
		line, err := lines.next()
		if err == nil {
			err = m.dispatch(line)
		} else if ended(err) {
			err = io.EOF
		}
		if err != nil {
			if !errors.Is(err, io.EOF) {
				err = fmt.Errorf("QMP session: %w", err)
			}
			// The reason is kept; the connection's own error adds nothing.
			_ = m.end(err)
			return
		}
	}
}

// dispatch handles one message. Only its own copy leaves it.
func (m *Monitor) dispatch(line []byte) error {
	if len(bytes.TrimSpace(line)) == 0 {
		return nil
	}
	var msg message
	if err := json.Unmarshal(line, &msg); err != nil {
		return fmt.Errorf("not a QMP message (%.80q): %w", line, err)
	}
	switch {
	case msg.Event != "":
		m.publish(decodeEvent(msg))
	case msg.Return != nil || msg.Error != nil:
		return m.answer(msg)
	case msg.QMP != nil:
		v := msg.QMP.Version.QEMU
		select {
		case m.greeting <- fmt.Sprintf("%d.%d.%d", v.Major, v.Minor, v.Micro):
		default: // a second greeting says nothing new
		}
	default:
		return fmt.Errorf("not a QMP message: %.80q", line)
	}
	return nil
}

// answer hands a reply to its caller. Ids that nobody waits for belong to
// calls that were given up or to another client's session.
func (m *Monitor) answer(msg message) error {
	if msg.ID == nil && msg.Error != nil {
		return fmt.Errorf("QEMU did not understand a command: %w", msg.Error)
	}
	var id string
	if json.Unmarshal(msg.ID, &id) != nil {
		return nil // other clients may use ids that are no strings
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if answer, ok := m.pending[id]; ok {
		delete(m.pending, id)
		answer <- msg
	}
	return nil
}

func (m *Monitor) publish(e Event) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.queue.push(e)
	m.startDelivery()
}

// endReading ends the session. What was read before is still delivered:
// SHUTDOWN is usually the last word.
func (m *Monitor) endReading() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ended = true
	m.startDelivery()
	close(m.done)
}

// startDelivery is called with mu held.
func (m *Monitor) startDelivery() {
	if !m.delivering {
		m.delivering = true
		m.group.Go(m.deliver)
	}
}

// deliver is the goroutine between the reader, which never waits, and the
// receiver, who may. It ends when nothing waits, so that a quiet session costs
// one goroutine, and closes the events after the last one of all.
func (m *Monitor) deliver() {
	for {
		m.mu.Lock()
		e, ok := m.queue.pop()
		m.delivering = ok
		last := !ok && m.ended
		m.mu.Unlock()
		if last {
			close(m.events)
		}
		if !ok {
			return
		}
		select {
		case m.events <- e:
		case <-m.closing:
			m.mu.Lock()
			m.queue = eventQueue{}
			m.mu.Unlock()
		}
	}
}
