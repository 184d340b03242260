package runtime

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/mitchellh/mapstructure"

	"github.com/qemu-reconciler/qemu-reconciler/internal/crash"
)

// monitorPatience bounds a call whose context has no deadline.
const monitorPatience = 10 * time.Second

// ErrMonitorClosed is why a session ended that was closed from this side.
var ErrMonitorClosed = errors.New("QMP session closed")

// QMPError is QEMU's (or a guest agent's) answer that it did not do as told.
type QMPError struct {
	Class string `json:"class"`
	Desc  string `json:"desc"`
}

func (e *QMPError) Error() string { return e.Class + ": " + e.Desc }

// Monitor is a QMP session (QEMU's docs/interop/qmp-spec): one goroutine reads,
// one hands events over, callers write. It is safe for concurrent use.
type Monitor struct {
	conn net.Conn
	// prefix tells the replies of this session from those to a predecessor's
	// command, which QEMU may deliver to the next client.
	prefix   string
	version  string
	greeting chan string
	writing  chan struct{}
	events   chan Event
	closing  chan struct{}
	done     chan struct{}
	group    sync.WaitGroup

	mu      sync.Mutex
	err     error
	serial  uint64
	pending map[string]chan message
	queue   eventQueue
	// delivering says that deliver runs, ended that the reader has read its
	// last.
	delivering, ended bool
}

// NewMonitor begins a session: it waits for QEMU's greeting and leaves the
// negotiation mode, within ctx (10 s when it has no deadline). The connection
// is the Monitor's from here on; it is closed when an error is returned. A
// session is to be closed even when it has ended by itself.
func NewMonitor(ctx context.Context, conn net.Conn) (*Monitor, error) {
	m := &Monitor{
		conn: conn, prefix: rand.Text() + "-",
		greeting: make(chan string, 1), writing: make(chan struct{}, 1),
		events:  make(chan Event),
		closing: make(chan struct{}), done: make(chan struct{}),
		pending: map[string]chan message{},
	}
	m.group.Go(m.read)
	if err := m.negotiate(ctx); err != nil {
		// The reason of the failure is the one worth returning.
		_ = m.Close()
		return nil, fmt.Errorf("QMP handshake: %w", err)
	}
	return m, nil
}

func (m *Monitor) negotiate(ctx context.Context) error {
	ctx, cancel := withPatience(ctx)
	defer cancel()
	select {
	case m.version = <-m.greeting:
	case <-m.done:
		return m.Err()
	case <-ctx.Done():
		return fmt.Errorf("no greeting: %w", ctx.Err())
	}
	return m.Execute(ctx, "qmp_capabilities", nil, nil)
}

// Version is QEMU's version as it greeted, e.g. "7.2.22".
func (m *Monitor) Version() string { return m.version }

// Events gives QEMU's events in their order, and is closed after the last one.
// A receiver that is slow misses no kind of the vital ones.
func (m *Monitor) Events() <-chan Event { return m.events }

// Err says why the session ended: io.EOF when QEMU left, ErrMonitorClosed
// after Close, nil while it lasts.
func (m *Monitor) Err() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.err
}

// Close ends the session and waits for its goroutines. Events that were not
// received are lost. Its error is the connection's.
func (m *Monitor) Close() error {
	err := m.end(ErrMonitorClosed)
	m.mu.Lock()
	select {
	case <-m.closing:
	default:
		close(m.closing)
	}
	m.mu.Unlock()
	m.group.Wait()
	return err
}

// end closes the connection; the first reason given is the one that counts.
func (m *Monitor) end(reason error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		return nil
	}
	m.err = reason
	return m.conn.Close()
}

// Execute runs a command and decodes what it returns into result, unless that
// is nil. Arguments may be nil. An answer that is an error is a *QMPError.
// Without a deadline in ctx it takes 10 s at most. A call given up leaves the
// session usable: the late reply is ignored.
func (m *Monitor) Execute(ctx context.Context, command string, arguments, result any) error {
	ctx, cancel := withPatience(ctx)
	defer cancel()
	reply, err := m.roundTrip(ctx, command, arguments)
	if err != nil {
		return fmt.Errorf("QMP %s: %w", command, err)
	}
	if reply.Error != nil {
		return fmt.Errorf("QMP %s: %w", command, reply.Error)
	}
	crash.Point("session.replied")
	if result == nil {
		return nil
	}
	if err := json.Unmarshal(reply.Return, result); err != nil {
		return fmt.Errorf("QMP %s: unexpected answer: %w", command, err)
	}
	return nil
}

func (m *Monitor) roundTrip(ctx context.Context, command string, arguments any) (message, error) {
	id, answer := m.expect()
	defer m.forget(id)
	line, err := json.Marshal(request{Execute: command, Arguments: arguments, ID: id})
	if err != nil {
		return message{}, err
	}
	if err := m.write(ctx, append(line, '\n')); err != nil {
		return message{}, err
	}
	select {
	case reply := <-answer:
		return reply, nil
	case <-ctx.Done():
		return message{}, fmt.Errorf("no answer: %w", ctx.Err())
	case <-m.done:
	}
	select { // the reply to quit comes with the end of the session
	case reply := <-answer:
		return reply, nil
	default:
		return message{}, m.Err()
	}
}

// expect registers a new command id. The channel has room for the one reply,
// so the reader never waits for a caller.
func (m *Monitor) expect() (string, <-chan message) {
	answer := make(chan message, 1)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.serial++
	id := m.prefix + strconv.FormatUint(m.serial, 10)
	m.pending[id] = answer
	return id, answer
}

func (m *Monitor) forget(id string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.pending, id)
}

// write sends one line. A QEMU that is stopped does not read, and the socket's
// buffer fills: that wait is bounded by ctx too. After half a line nothing
// that follows would make sense, so the session ends.
func (m *Monitor) write(ctx context.Context, line []byte) error {
	select {
	case m.writing <- struct{}{}:
	case <-ctx.Done():
		return fmt.Errorf("not sent: %w", ctx.Err())
	case <-m.done:
		return m.Err()
	}
	defer func() { <-m.writing }()
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("not sent: %w", err)
	}
	release := whileIn(ctx, m.conn.SetWriteDeadline)
	n, err := m.conn.Write(line)
	release()
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		err = fmt.Errorf("not sent: %w", ctx.Err())
	case ended(err):
		// QEMU may have left words (SHUTDOWN) that the reader has not come to.
		return io.EOF
	}
	if n > 0 {
		// What is closed already needs no second report.
		_ = m.end(fmt.Errorf("QMP session broken off in the middle of a command: %w", err))
	}
	return err
}

// decodeEvent gives an event its typed data.
func decodeEvent(msg message) Event {
	e := Event{Name: msg.Event, At: time.Now()}
	// QEMU writes -1 where its clock failed.
	if t := msg.Timestamp; t.Seconds > 0 {
		e.At = time.Unix(t.Seconds, t.Microseconds*1000)
	}
	var raw map[string]any
	if len(msg.Data) == 0 || json.Unmarshal(msg.Data, &raw) != nil || raw == nil {
		return e
	}
	switch e.Name {
	case QMPShutdown:
		e.Data = typed(raw, ShutdownEvent{At: e.At})
	case QMPReset:
		e.Data = typed(raw, ResetEvent{})
	default:
		e.Data = raw
	}
	return e
}

// typed decodes raw over empty; data of another form stays what it was, since
// the name of an event alone is worth knowing.
func typed[T any](raw map[string]any, empty T) any {
	if err := mapstructure.Decode(raw, &empty); err != nil {
		return raw
	}
	return empty
}

// withPatience gives ctx a deadline when it has none.
func withPatience(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, monitorPatience)
}
