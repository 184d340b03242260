package runtime

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
)

// sentinel precedes the answer to guest-sync-delimited, and makes the agent's
// parser forget what a predecessor left half-written (QEMU Guest Agent
// Protocol Reference).
const sentinel = 0xFF

// Agent is a conversation with the QEMU guest agent. What it says comes from
// the guest and is believed only so far: replies are short, waits are bounded,
// and an order counts as heard, not as done. Not safe for concurrent use.
type Agent struct {
	conn  net.Conn
	lines *lineReader
}

// NewAgent finds out whether somebody answers on an agent's socket: QEMU
// accepts the connection whether or not an agent runs in the guest. The
// connection is the Agent's from here on; it is closed when an error is
// returned.
func NewAgent(ctx context.Context, conn net.Conn) (*Agent, error) {
	a := &Agent{conn: conn, lines: newLineReader(conn, maxAgentLine)}
	if err := a.sync(ctx); err != nil {
		// The reason of the failure is the one worth returning.
		_ = conn.Close()
		return nil, fmt.Errorf("guest agent: %w", err)
	}
	return a, nil
}

// Close ends the conversation.
func (a *Agent) Close() error { return a.conn.Close() }

// sync proves that the agent is there and that what it says from here on
// answers us: the id is random, so an older answer is not taken for it.
func (a *Agent) sync(ctx context.Context) error {
	id := syncID()
	if err := a.send(ctx, []byte{sentinel}, "guest-sync-delimited", map[string]any{"id": id}); err != nil {
		return err
	}
	defer whileIn(ctx, a.conn.SetReadDeadline)()
	for {
		line, err := a.lines.next()
		if err != nil {
			return inTime(ctx, err)
		}
		at := bytes.LastIndexByte(line, sentinel)
		if at < 0 {
			continue
		}
		var answer struct {
			Return *uint64 `json:"return"`
		}
		if json.Unmarshal(line[at+1:], &answer) == nil && answer.Return != nil && *answer.Return == id {
			return nil
		}
	}
}

// syncID is random and small enough for every JSON reader.
func syncID() uint64 {
	var b [8]byte
	rand.Read(b[:]) // never fails, by its documentation
	return binary.LittleEndian.Uint64(b[:]) >> 12
}

// Shutdown orders the guest to power off. The agent says nothing when it
// obeys: Shutdown listens until ctx's deadline for an objection, a *QMPError,
// and nil means that none came. It returns at once when the agent goes.
func (a *Agent) Shutdown(ctx context.Context) error {
	if err := a.send(ctx, nil, "guest-shutdown", map[string]any{"mode": "powerdown"}); err != nil {
		return fmt.Errorf("guest agent: guest-shutdown: %w", err)
	}
	defer whileIn(ctx, a.conn.SetReadDeadline)()
	line, err := a.lines.next()
	switch err = inTime(ctx, err); {
	case errors.Is(err, context.Canceled):
		return err
	case errors.Is(err, context.DeadlineExceeded), ended(err):
		return nil
	case err != nil:
		return fmt.Errorf("guest agent: guest-shutdown: %w", err)
	}
	var answer struct {
		Error *QMPError `json:"error"`
	}
	if json.Unmarshal(line, &answer) == nil && answer.Error != nil {
		return fmt.Errorf("guest agent: guest-shutdown: %w", answer.Error)
	}
	return nil
}

func (a *Agent) send(ctx context.Context, before []byte, command string, arguments any) error {
	line, err := json.Marshal(request{Execute: command, Arguments: arguments})
	if err != nil {
		return err
	}
	release := whileIn(ctx, a.conn.SetWriteDeadline)
	defer release()
	_, err = a.conn.Write(append(append(before, line...), '\n'))
	return inTime(ctx, err)
}

// inTime gives the context's reason for what failed because it ended.
func inTime(ctx context.Context, err error) error {
	if err != nil && errors.Is(err, os.ErrDeadlineExceeded) {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		// The connection's clock was a moment ahead of the context's.
		return context.DeadlineExceeded
	}
	return err
}
