package runtime

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/hashicorp/go-hclog"
)

// realSession is what a real QEMU says in a session, from its greeting to its
// end.
func realSession(f *testing.F) []byte {
	f.Helper()
	said, err := os.ReadFile(filepath.Join("testdata", "qmp", "session.log"))
	must(f, err)
	return said
}

// realLines are the lines of realSession.
func realLines(f *testing.F) [][]byte {
	f.Helper()
	return bytes.SplitAfter(realSession(f), []byte("\n"))
}

// FuzzMonitor: whatever comes over the monitor, a command gets its own answer
// or an error, never another's; the session ends when QEMU leaves; what waits
// for a receiver is bounded.
func FuzzMonitor(f *testing.F) {
	for _, line := range realLines(f) {
		f.Add(line)
	}
	f.Add(realSession(f))
	f.Add([]byte(`{"return":{},"id":"x"}` + "\r\n" + `{"event":"RESET","data":{"guest":true,"reason":"guest-reset"},"timestamp":{"seconds":1,"microseconds":2}}` + "\n"))
	f.Add([]byte(`{"event":"BLOCK_IO_ERROR","data":{"device":1,"nospace":"x","qom-path":null}}` + "\n" + fakeGreeting))
	f.Add([]byte(`{"error":{"class":"GenericError","desc":"x"},"id":1}` + "\n[[[[\n\x00\xff"))
	f.Fuzz(func(t *testing.T, said []byte) {
		const truth = "the answer to this very command"
		near, far := net.Pipe()
		var peer sync.WaitGroup
		peer.Go(func() {
			defer far.Close()
			lines := newLineReader(far, 1<<10)
			fmt.Fprint(far, fakeGreeting)
			var req request
			for range 2 {
				line, err := lines.next()
				if err != nil || json.Unmarshal(line, &req) != nil {
					return // the other end may be closed already
				}
				if req.Execute == "x" {
					_, _ = far.Write(append(said, '\n'))
					fmt.Fprintf(far, `{"return":%q,"id":%q}`+"\n", truth, req.ID)
				} else {
					fmt.Fprintf(far, `{"return":{},"id":%q}`+"\n", req.ID)
				}
			}
		})
		ctx, cancel := context.WithTimeout(t.Context(), testPatience)
		defer cancel()
		m, err := NewMonitor(ctx, near)
		must(t, err)
		var got string
		switch err := m.Execute(ctx, "x", nil, &got); {
		case ctx.Err() != nil:
			t.Fatal("no end")
		case err == nil && got != truth:
			t.Errorf("the answer is %q", got)
		case err != nil && m.Err() == nil:
			t.Errorf("%v, and the session goes on", err)
		}
		kept := 0
		for e := range m.Events() {
			if kept++; e.Name == "" || e.Count < 1 {
				t.Errorf("event %+v", e)
			}
		}
		if kept > maxWaitingEvents+len(vitalEvents)+1 {
			t.Errorf("%d events were kept", kept)
		}
		if m.Err() == nil || m.Execute(ctx, "x", nil, nil) == nil {
			t.Error("the session goes on after its end")
		}
		_ = m.Close()
		peer.Wait()
	})
}

// FuzzAgent: what a guest says never counts as an agent's answer unless it has
// the id that was asked with; what follows never makes an order fail that was
// not refused, and no reply hangs.
func FuzzAgent(f *testing.F) {
	f.Add([]byte("\xff{\"return\":1}\n"), []byte("{\"return\":{}}\n"))
	f.Add([]byte("{\"error\":{}}\n\xff\xff{\"return\":-1}\n\xff"), []byte(`{"error":{"class":"GenericError","desc":"no"}}`+"\n"))
	f.Add([]byte("\xff"), []byte("\x00\n\xff"))
	f.Fuzz(func(t *testing.T, before, after []byte) {
		for _, present := range []bool{false, true} {
			near, far := net.Pipe()
			var peer sync.WaitGroup
			peer.Go(func() {
				defer far.Close()
				lines := newLineReader(far, maxAgentLine)
				line, err := lines.next()
				if err != nil {
					t.Error(err)
				}
				_, _ = far.Write(before)
				if !present {
					return
				}
				var asked struct{ Arguments struct{ ID uint64 } }
				if err := json.Unmarshal(bytes.TrimLeft(line, "\xff"), &asked); err != nil {
					t.Error(err)
				}
				fmt.Fprintf(far, "\n\xff{\"return\":%d}\n", asked.Arguments.ID)
				if _, err := lines.next(); err == nil {
					_, _ = far.Write(after)
				}
			})
			ctx, cancel := context.WithTimeout(t.Context(), testPatience)
			agent, err := NewAgent(ctx, near)
			if (err == nil) != present && len(before) <= maxAgentLine {
				t.Errorf("agent present: %v, and %v", present, err)
			}
			if err == nil {
				err := agent.Shutdown(ctx)
				first, _, _ := bytes.Cut(after, []byte("\n"))
				if err != nil && !bytes.Contains(bytes.ToLower(first), []byte("error")) && len(after) <= maxAgentLine {
					t.Errorf("%q was taken for a refusal: %v", after, err)
				}
				agent.Close()
			}
			if ctx.Err() != nil {
				t.Error("no end")
			}
			cancel()
			peer.Wait()
		}
	})
}

// FuzzQMPLog: the reader of the evidence believes complete messages only, and
// whatever is in the log before, QEMU's last SHUTDOWN is the one that counts.
func FuzzQMPLog(f *testing.F) {
	for _, line := range realLines(f) {
		f.Add(line)
	}
	f.Add(realSession(f))
	f.Add([]byte(`{"event":"SHUTDOWN","data":{"guest":true,"reason":7}}` + "\n"))
	path := filepath.Join(f.TempDir(), "qmp.log")
	f.Fuzz(func(t *testing.T, log []byte) {
		must(t, os.WriteFile(path, log, 0o600))
		if found := LastShutdown(path); found != nil && !bytes.Contains(bytes.ToLower(log), []byte("shutdown")) && !bytes.Contains(log, []byte(`\u`)) {
			t.Errorf("%+v out of nothing", found)
		}
		last := `{"timestamp":{"seconds":7,"microseconds":0},"event":"SHUTDOWN","data":{"guest":true,"reason":"guest-reset"}}`
		must(t, os.WriteFile(path, append(log, "\n"+last...), 0o600))
		if found := LastShutdown(path); found != nil && found.At.Equal(time.Unix(7, 0)) && !bytes.Contains(log, []byte("7")) {
			t.Error("half a line is believed")
		}
		must(t, os.WriteFile(path, append(log, "\n"+last+"\r\n"+`{"return":{}}`+"\r\n"...), 0o600))
		if found := LastShutdown(path); found == nil || *found != (ShutdownEvent{Guest: true, Reason: reasonReset, At: time.Unix(7, 0)}) {
			t.Errorf("the last event is lost: %+v", found)
		}
	})
}

// FuzzLastWords: QEMU's last words, the guest's console among them, are few,
// short, safe for a terminal and for JSON, and the last line is the last.
func FuzzLastWords(f *testing.F) {
	f.Add([]byte("qemu-system-x86_64: -drive file=x: Could not open 'x'\n"), int64(0), 3)
	f.Add([]byte("\x1b[2J\x1b]0;title\x07\r\n\x00\xff\xc2\x9b31m\n\u202e\n"), int64(5), 5)
	f.Add(bytes.Repeat([]byte("\xe2\x82"), tailSize), int64(1), 1)
	f.Add(append(bytes.Repeat([]byte("x"), 2*tailSize), '\n'), int64(-1), 2)
	path := filepath.Join(f.TempDir(), "qemu.log")
	f.Fuzz(func(t *testing.T, log []byte, from int64, n int) {
		must(t, os.WriteFile(path, log, 0o600))
		checkWords(t, LastWords(path, from, n), n)
		const last = "qemu-system-x86_64: terminating on signal 15"
		must(t, os.WriteFile(path, append(log, "\n"+last+"\n"...), 0o600))
		words := LastWords(path, 0, n)
		checkWords(t, words, n)
		if n > 0 && (len(words) == 0 || words[len(words)-1] != last) {
			t.Errorf("the last line is lost: %q", words)
		}
		exit := Evidence{Status: WaitStatus{Known: true}, Words: words}.Exit(time.Unix(1, 0))
		if text, err := json.Marshal(exit); err != nil || !json.Valid(text) {
			t.Errorf("%s, %v", text, err)
		}
	})
}

func checkWords(t *testing.T, words []string, n int) {
	t.Helper()
	if len(words) > max(0, n) {
		t.Errorf("%d words of %d", len(words), n)
	}
	for _, word := range words {
		if word == "" || len(word) > maxWord+len("…") || !utf8.ValidString(word) {
			t.Errorf("%q", word)
		}
		for _, r := range word {
			if !unicode.IsPrint(r) && r != utf8.RuneError {
				t.Errorf("%q in %q", r, word)
			}
		}
	}
}

// FuzzRotate: rotation keeps the last bytes as they are, whatever they are, and
// empties the log.
func FuzzRotate(f *testing.F) {
	f.Add([]byte("boot\r\nlogin: "), uint16(4))
	f.Add([]byte("\x00\xff\x1b[0m"), uint16(1))
	path := filepath.Join(f.TempDir(), "console.log")
	f.Fuzz(func(t *testing.T, log []byte, limit uint16) {
		must(t, os.WriteFile(path, log, 0o600))
		must(t, remove(path+previousSuffix))
		file := logFile{path: path, limit: int64(limit)}
		_, err := file.check()
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

// FuzzInterview: an emulator that says anything at all gives an answer that can
// be used and kept, or an error.
func FuzzInterview(f *testing.F) {
	for _, line := range realLines(f) {
		f.Add(line, line)
	}
	f.Add([]byte(`{"qemu":{"major":7,"minor":2,"micro":0},"package":""}`), []byte(`[{"name":"tcg-accel"},{"name":"-accel"},{"name":"pc","alias":"q"}]`))
	f.Add([]byte(`{"qemu":{"major":-1,"minor":99999999999999999999}}`), []byte(`[null,{}]`))
	f.Fuzz(func(t *testing.T, version, list []byte) {
		near, far := net.Pipe()
		var peer sync.WaitGroup
		peer.Go(func() {
			defer far.Close()
			lines := newLineReader(far, 1<<10)
			fmt.Fprint(far, fakeGreeting)
			for {
				var req request
				line, err := lines.next()
				if err != nil || json.Unmarshal(line, &req) != nil {
					return
				}
				said := map[string][]byte{"qmp_capabilities": []byte("{}"), "query-version": version}[req.Execute]
				if said == nil {
					said = list
				}
				fmt.Fprintf(far, `{"return":%s,"id":%q}`+"\n", said, req.ID)
			}
		})
		ctx, cancel := context.WithTimeout(t.Context(), testPatience)
		defer cancel()
		got, err := interview(ctx, near)
		near.Close()
		peer.Wait()
		if ctx.Err() != nil {
			t.Error("no end")
		}
		if err != nil {
			return
		}
		checkAnswer(t, got)
	})
}

// checkAnswer holds that an answer can be kept and read back.
func checkAnswer(t *testing.T, got answer) {
	t.Helper()
	raw, err := json.Marshal(got)
	must(t, err)
	var back answer
	if err := json.Unmarshal(raw, &back); err != nil {
		t.Errorf("%+v does not read back: %v", got, err)
	}
	if again, err := json.Marshal(back); err != nil || !bytes.Equal(raw, again) {
		t.Errorf("%s became %s", raw, again)
	}
	_, _ = judge(got.Version, got.Options)
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
