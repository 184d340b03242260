package runtime

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	// tailSize is how much of a log is read for evidence. The SHUTDOWN event
	// is followed by little more than the reply to quit.
	tailSize = 64 << 10
	// maxWord bounds one line of QEMU's last words, in bytes.
	maxWord = 512
)

// LastShutdown finds the last SHUTDOWN event in a QMP log (what QEMU said on
// its monitor, a message a line); nil when there is none or it cannot be read.
// The log must be this process's own: it is truncated at each start.
func LastShutdown(qmpLogPath string) *ShutdownEvent {
	tail, whole := readTail(qmpLogPath, 0)
	lines := bytes.Split(tail, []byte("\n"))
	lines = lines[:len(lines)-1] // what has no end yet is no message
	if !whole && len(lines) > 0 {
		lines = lines[1:]
	}
	for _, line := range slices.Backward(lines) {
		var msg message
		if json.Unmarshal(line, &msg) != nil || msg.Event != QMPShutdown {
			continue
		}
		if shutdown, ok := decodeEvent(msg).Data.(ShutdownEvent); ok {
			return &shutdown
		}
	}
	return nil
}

// hasContent says whether there is anything in a log.
func hasContent(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Size() > 0
}

// LastWords gives the last n lines that QEMU wrote to its log from an offset in
// bytes on, the newest last, without blank ones. Of a line that is too long the
// end is kept, where QEMU says what is wrong. Control characters are taken out,
// since the lines go to terminals. A log shorter than the offset was rotated in
// between and is read from its beginning.
func LastWords(qemuLogPath string, from int64, n int) []string {
	tail, whole := readTail(qemuLogPath, from)
	lines := strings.Split(string(tail), "\n")
	if !whole && len(lines[0]) <= maxWord {
		lines = lines[1:] // the short rest of a line tells nothing
	}
	var words []string
	for _, line := range slices.Backward(lines) {
		if len(words) >= n {
			break
		}
		if line = printable(line); line != "" {
			words = append(words, line)
		}
	}
	slices.Reverse(words)
	return words
}

// readTail gives the last tailSize bytes of a file from an offset on; whole
// says that nothing was left out between the offset and them.
func readTail(path string, from int64) (tail []byte, whole bool) {
	file, err := os.Open(path)
	if err != nil {
		return nil, true
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, true
	}
	if from < 0 || from > info.Size() {
		from = 0
	}
	start := max(from, info.Size()-tailSize)
	// What could be read before an error is evidence as well.
	tail, _ = io.ReadAll(io.NewSectionReader(file, start, tailSize))
	return tail, start == from
}

// printable makes a line safe and short: what does not print becomes nothing,
// blanks become spaces.
func printable(line string) string {
	line = strings.Map(func(r rune) rune {
		switch {
		case r == '\t':
			return ' '
		case r == utf8.RuneError || unicode.IsPrint(r):
			return r
		}
		return -1
	}, strings.ToValidUTF8(line, string(utf8.RuneError)))
	line = strings.TrimSpace(line)
	if len(line) <= maxWord {
		return line
	}
	return "…" + strings.ToValidUTF8(line[len(line)-maxWord:], "")
}
