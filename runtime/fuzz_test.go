package runtime

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"
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
			if kept++; e.Name == "" {
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
