package runtime

import (
	"bytes"
	"io"
	"strings"
	"testing"
)

// countingReader counts how often it is asked.
type countingReader struct {
	io.Reader
	reads int
}

func (c *countingReader) Read(p []byte) (int, error) {
	c.reads++
	return c.Reader.Read(p)
}

// A long line is read in large pieces, and what it needed for that is given back
// when only short ones follow.
func TestLongLinesAreReadInLargePieces(t *testing.T) {
	long := strings.Repeat("x", 8<<20)
	source := &countingReader{Reader: strings.NewReader("short\n" + long + "\nnext\n" + long + "\n\nlast\n")}
	lines := newLineReader(source, maxMonitorLine)
	for _, want := range []string{"short", long, "next", long, "", "last"} {
		line, err := lines.next()
		if err != nil || !bytes.Equal(line, []byte(want)) {
			t.Fatalf("a line of %d bytes, %v, instead of one of %d", len(line), err, len(want))
		}
	}
	if most := 2*len(long)/linePiece + 100; source.reads > most {
		t.Errorf("%d reads, at most %d are in order", source.reads, most)
	}
	if _, err := lines.next(); err != io.EOF {
		t.Errorf("the end is %v", err)
	}
	if lines.wide != nil || cap(lines.long) > lineKept {
		t.Errorf("it keeps its large buffer, and %d bytes of a line", cap(lines.long))
	}
}
