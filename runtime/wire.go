package runtime

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"time"
)

// maxAgentLine bounds what a guest may say in one reply. The guest is not
// trusted; the replies that are asked for are a few dozen bytes.
const maxAgentLine = 1 << 20

// maxMonitorLine bounds one message of QEMU. The largest honest replies (a
// query-qmp-schema, a guest's memory map) are well below 1 MiB; twice this much is
// what a QEMU that has gone mad can cost the daemon.
const maxMonitorLine = 16 << 20

// What a lineReader holds while nobody speaks is held for every VM.
const (
	// lineBuffer is enough for an event or the reply to query-status.
	lineBuffer = 512
	// lineKept is how much stays for the next line that is longer than that.
	lineKept = 4 << 10
	// linePiece is how much of a line that is longer still is read at once.
	linePiece = 64 << 10
)

// lineReader reads lines of a bounded length.
type lineReader struct {
	buffered *bufio.Reader
	// wide reads from buffered while a long line is being read; nil else.
	wide  *bufio.Reader
	limit int
	long  []byte
}

// newLineReader reads from r in small pieces; what is long is better given to it
// in a bufio.Reader, which it then uses.
func newLineReader(r io.Reader, limit int) *lineReader {
	return &lineReader{buffered: bufio.NewReaderSize(r, lineBuffer), limit: limit}
}

// next gives a line without its end, valid until the following call. What
// comes after the last newline is no line.
func (l *lineReader) next() ([]byte, error) {
	l.long = l.long[:0]
	for {
		part, err := l.source().ReadSlice('\n')
		if len(l.long)+len(part) > l.limit {
			return nil, fmt.Errorf("a message longer than %d bytes", l.limit)
		}
		if err == nil && len(l.long) == 0 {
			return bytes.TrimRight(part, "\r\n"), nil
		}
		l.long = append(l.long, part...)
		if err == nil {
			return l.takeLong(), nil
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return nil, err
		}
	}
}

// source is what the next piece is read from. A system call for each half of a
// kilobyte would make a long reply slow.
func (l *lineReader) source() *bufio.Reader {
	switch {
	case l.wide == nil && len(l.long) >= lineKept:
		l.wide = bufio.NewReaderSize(l.buffered, linePiece)
	case l.wide != nil && len(l.long) == 0 && l.wide.Buffered() == 0:
		l.wide = nil
	}
	if l.wide != nil {
		return l.wide
	}
	return l.buffered
}

// takeLong gives the assembled line away when it is large, so that one long
// reply does not stay in memory for the life of the session.
func (l *lineReader) takeLong() []byte {
	line := bytes.TrimRight(l.long, "\r\n")
	if cap(l.long) > lineKept {
		l.long = nil
	}
	return line
}

// whileIn lets ctx's end, by deadline or by cancellation, end what blocks on a
// connection; setDeadline is the connection's SetWriteDeadline or
// SetReadDeadline. The returned function takes the deadline off again and must
// be called before the connection is used for anything else.
func whileIn(ctx context.Context, setDeadline func(time.Time) error) (release func()) {
	deadline, _ := ctx.Deadline()
	// An error means that the connection is closed, which the read or write
	// that follows reports.
	_ = setDeadline(deadline)
	fired := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		_ = setDeadline(time.Unix(1, 0))
		close(fired)
	})
	return func() {
		if !stop() {
			<-fired
		}
		_ = setDeadline(time.Time{})
	}
}

// ended says whether err is one of the ways in which the other side of a local
// socket goes away: a QEMU that exits with unread bytes in its queue resets
// the connection instead of ending it.
func ended(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.ErrClosedPipe) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, net.ErrClosed)
}
