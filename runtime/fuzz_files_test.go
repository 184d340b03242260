package runtime

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/hashicorp/go-hclog"
)

// FuzzRotate: rotation keeps the last bytes as they are, whatever they are, and
// empties the log.
func FuzzRotate(f *testing.F) {
	f.Add([]byte("boot\r\nlogin: "), uint16(4))
	f.Add([]byte("\x00\xff\x1b[0m"), uint16(1))
	path := filepath.Join(f.TempDir(), "console.log")
	f.Fuzz(func(t *testing.T, log []byte, limit uint16) {
		must(t, os.WriteFile(path, log, 0o600))
		must(t, remove(path+previousSuffix))
		file := logFile{path: path, most: math.MaxInt64}
		_, err := file.check(int64(limit))
		must(t, err)
		now, err := os.ReadFile(path)
		must(t, err)
		before, _ := os.ReadFile(path + previousSuffix)
		want, left := log[max(0, len(log)-int(limit)):], []byte{}
		if len(log) <= int(limit) {
			want, left = nil, log
		}
		if !bytes.Equal(now, left) || !bytes.Equal(before, want) {
			t.Errorf("limit %d: %q became %q and %q", limit, log, before, now)
		}
	})
}

// FuzzProbeCache: no bytes in the cache file are more than a cache that is not
// used.
func FuzzProbeCache(f *testing.F) {
	f.Add([]byte(`{"version":1,"emulators":[{"path":"/q","size":1,"mtime":1,"device":1,"inode":1,"version":"7.2.0","accelerators":["tcg"]}]}`))
	f.Add([]byte(`{"version":1,"emulators":[null,{"version":"x"}]}`))
	f.Add([]byte(`{"version":2}`))
	path := filepath.Join(f.TempDir(), "emulators.json")
	f.Fuzz(func(t *testing.T, raw []byte) {
		must(t, os.WriteFile(path, raw, 0o600))
		known := NewFingerprint(path, hclog.NewNullLogger())
		defer known.Close()
		for _, entry := range known.answers() {
			checkAnswer(t, entry.answer)
		}
		known.save()
		again := NewFingerprint(path, hclog.NewNullLogger())
		defer again.Close()
		if len(again.answers()) != len(known.answers()) {
			t.Errorf("%v became %v", known.answers(), again.answers())
		}
	})
}

// FuzzProc: a process may call itself anything and write anything over its own
// arguments and environment; its start time is read right all the same, and it
// counts as ours only by whole variables.
func FuzzProc(f *testing.F) {
	f.Add([]byte("qemu-system-x86"), uint64(12345), []byte("A=1\x00"+envPorts+"={\"ssh\":22022}\x00"))
	f.Add([]byte(") R 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 ("), uint64(7), []byte("no end and no sign"))
	f.Add([]byte("a\nb) S"), uint64(1<<63), []byte("\x00\x00=\x00="+envTask+"=x\x00"+envPorts+"={\"a\":-1}"))
	f.Fuzz(func(t *testing.T, name []byte, ticks uint64, memory []byte) {
		stat := fmt.Appendf(nil, "4242 (%s) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 %d 20 21\n", name, ticks)
		if got, err := parseStartTicks(stat); err != nil || got != ticks {
			t.Errorf("%q: %d, %v", stat, got, err)
		}
		_, _ = parseStartTicks(name) // cut short, or no such line at all
		entries := nulTerminated(memory)
		env := variables(entries)
		for key, value := range env {
			if !slices.Contains(entries, key+"="+value) {
				t.Errorf("%q=%q is not in %q", key, value, memory)
			}
		}
		for label, port := range markedPorts(env) {
			if port < 1 || port > 65535 {
				t.Errorf("port %q is %d", label, port)
			}
		}
		if hasName(entries, "web") && !slices.Contains(entries, "web") {
			t.Errorf("%q is taken for web", entries)
		}
		for _, forward := range forwardsOf(entries) {
			if len(forward.Protocols) == 0 {
				t.Errorf("%+v of %q", forward, entries)
			}
		}
		_ = imageFormatOf(entries)
	})
}

// FuzzFormat: a format is one of those that a task may have, and only the head
// of the file has a say in it.
func FuzzFormat(f *testing.F) {
	for _, seed := range []string{"", "QFI\xfb\x00\x00\x00\x03", "QFI\xfb\x00\x00\x00\x01", "KDMV", "COWD", "vhdxfile", "conectix", "QED\x00",
		strings.Repeat("\x00", 64) + "\x7f\x10\xda\xbe", "# Disk DescriptorFile\nversion=1\n", "#\n\n # \nversion=4"} {
		f.Add([]byte(seed), []byte("QFI\xfb"))
	}
	known := []string{formatRaw, formatQcow2, formatVMDK, formatVDI, formatVHDX, formatVPC, formatQED}
	path := filepath.Join(f.TempDir(), "image")
	f.Fuzz(func(t *testing.T, head, tail []byte) {
		detect := func(content []byte) (string, error) {
			must(t, os.WriteFile(path, content, 0o600))
			format, _, err := DetectFormat(path)
			return format, err
		}
		format, err := detect(head)
		if (err == nil) != slices.Contains(known, format) {
			t.Errorf("%q: %q, %v", head, format, err)
		}
		head = append(head[:len(head):len(head)], make([]byte, max(0, headSize-len(head)))...)
		alone, errAlone := detect(head)
		whole, errWhole := detect(append(head, tail...))
		if alone != whole || (errAlone == nil) != (errWhole == nil) {
			t.Errorf("%q alone, %q with what is behind the head", alone, whole)
		}
	})
}

// FuzzStoredRecord: whatever bytes stand in the files of the store, what can
// be used is used, what makes no sense is set aside whole, and what a newer
// version wrote stays where it is.
func FuzzStoredRecord(f *testing.F) {
	golden, err := os.ReadFile(filepath.Join("testdata", "records", "v1.json"))
	must(f, err)
	f.Add(golden, golden)
	f.Add([]byte(`{"version":99}`), []byte(`{"version":1,"task":"web"}`))
	f.Add([]byte("\x00"), []byte{})
	f.Fuzz(func(t *testing.T, raw, spare []byte) {
		layout := Layout{State: t.TempDir()}
		must(t, os.MkdirAll(layout.TasksDir(), 0o700))
		s := OpenStore(layout)
		must(t, os.WriteFile(layout.Record("web"), raw, 0o600))
		must(t, os.WriteFile(s.safe("web"), spare, 0o600))
		stored, err := s.Load()
		must(t, err)
		found := 0
		if r := stored.Records["web"]; r != nil {
			found++
			if r.Task != "web" {
				t.Errorf("%+v", r)
			}
		}
		if stored.Untouchable["web"] != nil {
			found++
			if kept, err := os.ReadFile(layout.Record("web")); err != nil || !bytes.Equal(kept, raw) {
				t.Errorf("touched: %q, %v", kept, err)
			}
		}
		if stored.Corrupt["web"] != nil {
			found++
			aside, _ := filepath.Glob(filepath.Join(layout.TasksDir(), "web"+corruptSuffix+"*"))
			if kept, err := os.ReadFile(aside[0]); err != nil || !bytes.Equal(kept, raw) {
				t.Errorf("not set aside: %q, %v", kept, err)
			}
		}
		if found != 1 {
			t.Errorf("%+v", stored)
		}
		if r := stored.Spare["web"]; r != nil && (r.Task != "web" || stored.Corrupt["web"] == nil) {
			t.Errorf("%+v", stored)
		}
	})
}

// FuzzEvent: whatever is in an event, it is one line of JSON in the event log,
// and the daemon's own log has nothing that a terminal obeys.
func FuzzEvent(f *testing.F) {
	f.Add("web", "ended: crashed", "qemu-system-x86_64: no such file")
	f.Add("a\x1b[31m", "\x1b]0;title\x07\x9b31m\xff\u009b2J", "a\nb\r\u202e\u2066")
	f.Add("", "one\ntwo [WARN] three", "\x00\v\u0085")
	f.Fuzz(func(t *testing.T, task, message, fact string) {
		e := LogEvent{Time: time.Unix(1, 0), Type: EventExited, Task: task, Message: message, Facts: map[string]any{"words": []string{fact}, "error": fact}}
		var out bytes.Buffer
		e.tell(hclog.New(&hclog.LoggerOptions{Output: &out}))
		if !utf8.Valid(out.Bytes()) {
			t.Errorf("not UTF-8: %q", out.String())
		}
		for _, r := range out.String() {
			if r != '\n' && r != '\t' && (unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r)) {
				t.Errorf("%q in %q", r, out.String())
				break
			}
		}
		for i, line := range strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n") {
			if i > 0 && !strings.HasPrefix(line, " ") {
				t.Errorf("a line of its own: %q", line)
			}
		}
		line, err := json.Marshal(e)
		if err != nil || !json.Valid(line) || bytes.ContainsAny(line, "\n\r\x1b") {
			t.Errorf("%q, %v", line, err)
		}
	})
}
