package runtime

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/qemu-reconciler/qemu-reconciler/internal/guest"
)

func TestMonitorOnRealQEMU(t *testing.T) {
	t.Parallel()
	vm := startTiny(t, guest.Deaf)
	m := vm.connect(t)
	if !regexp.MustCompile(`^[1-9]\d*\.\d+\.\d+$`).MatchString(m.Version()) {
		t.Errorf("version %q", m.Version())
	}

	var schema []any // some 200 KiB in one line
	if err := m.Execute(t.Context(), "query-qmp-schema", nil, &schema); err != nil || len(schema) < 500 {
		t.Errorf("%d parts, %v", len(schema), err)
	}
	var refused *QMPError
	if err := m.Execute(t.Context(), "no-such-command", nil, nil); !errors.As(err, &refused) || refused.Class != "CommandNotFound" {
		t.Errorf("error %v", err)
	}
	var callers sync.WaitGroup
	for range 50 {
		callers.Go(func() {
			var name struct{ Status string }
			if err := m.Execute(t.Context(), "query-status", nil, &name); err != nil || name.Status != "running" {
				t.Errorf("status %q, %v", name.Status, err)
			}
		})
	}
	callers.Wait()

	for _, command := range []string{"stop", "cont", "system_reset", "quit"} {
		must(t, m.Execute(t.Context(), command, nil, nil))
	}
	var names []string
	for e := range m.Events() {
		if age := time.Since(e.At); age < 0 || age > testPatience {
			t.Errorf("%s is %v old", e.Name, age)
		}
		if r, ok := e.Data.(ResetEvent); ok && r.Guest {
			continue // a firmware that finds itself run before resets once more
		}
		names = append(names, e.Name)
		if s, ok := e.Data.(ShutdownEvent); e.Name == QMPShutdown && (!ok || s.Reason != reasonQuit || s.Guest) {
			t.Errorf("shutdown %+v", e.Data)
		}
	}
	if diff := cmp.Diff([]string{QMPStop, QMPResume, QMPReset, QMPShutdown}, names); diff != "" {
		t.Error(diff)
	}
	if err := m.Execute(t.Context(), "query-status", nil, nil); !errors.Is(err, io.EOF) || !errors.Is(m.Err(), io.EOF) {
		t.Errorf("after the end: %v, %v", err, m.Err())
	}
}

// A stopped QEMU reads nothing: the calls end anyway, also the one whose
// command does not fit into the socket any more.
func TestMonitorOfStoppedQEMU(t *testing.T) {
	t.Parallel()
	vm := startTiny(t, guest.Deaf)
	m := vm.connect(t)
	must(t, vm.Signal(unix.SIGSTOP))
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := m.Execute(ctx, "query-status", nil, nil); !errors.Is(err, context.DeadlineExceeded) || m.Err() != nil {
		t.Errorf("error %v, session %v", err, m.Err())
	}
	// On a busy machine the time may be over before the first byte is written,
	// which leaves the session as it is.
	huge := map[string]string{"command-line": strings.Repeat("x", 1<<20)}
	for begun := time.Now(); m.Err() == nil && time.Since(begun) < testPatience; {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(200*time.Millisecond, cancel)
		if err := m.Execute(ctx, "human-monitor-command", huge, nil); !errors.Is(err, context.Canceled) {
			t.Errorf("error %v", err)
		}
	}
	if await(t, m.done, "end of a session with half a command"); m.Err() == nil || errors.Is(m.Err(), io.EOF) {
		t.Errorf("the session ended with %v", m.Err())
	}
}

// dialogue runs a session against a peer that says just what it is told to. In
// its bubble no goroutine may be left over.
func dialogue(t *testing.T, peer func(conn net.Conn, heard func() request), use func(t *testing.T, m *Monitor)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		go func() {
			lines := newLineReader(far, maxMonitorLine)
			heard := func() (req request) {
				line, err := lines.next()
				if err == nil {
					err = json.Unmarshal(line, &req)
				}
				if err != nil && !ended(err) {
					t.Error(err)
				}
				return req
			}
			fmt.Fprint(far, fakeGreeting)
			fmt.Fprintf(far, `{"return":{},"id":%q}`+"\r\n", heard().ID)
			peer(far, heard)
		}()
		m, err := NewMonitor(t.Context(), near)
		must(t, err)
		use(t, m)
		_ = m.Close()
		far.Close()
	})
}

func TestMonitorMatchesReplies(t *testing.T) {
	dialogue(t, func(conn net.Conn, heard func() request) {
		a, b := heard(), heard()
		if a.Execute == "b" {
			a, b = b, a
		}
		fmt.Fprintf(conn, `{"return":"B","id":%q}`+"\n"+`{"event":"STOP"}`+"\n\r\n", b.ID)
		fmt.Fprint(conn, `{"return":"stranger","id":7}`+"\n"+`{"return":"stranger","id":"x-1"}`+"\n")
		fmt.Fprintf(conn, `{"return":"A","id":%q}`+"\n", a.ID)
	}, func(t *testing.T, m *Monitor) {
		var callers sync.WaitGroup
		for _, command := range []string{"a", "b"} {
			callers.Go(func() {
				var got string
				if err := m.Execute(t.Context(), command, nil, &got); err != nil || got != strings.ToUpper(command) {
					t.Errorf("%s: %q, %v", command, got, err)
				}
			})
		}
		callers.Wait()
		if e := <-m.Events(); e.Name != QMPStop || e.Data != nil || !e.At.Equal(time.Now()) {
			t.Errorf("event %+v", e)
		}
	})
}

func TestMonitorGivesUpOneCallOnly(t *testing.T) {
	dialogue(t, func(conn net.Conn, heard func() request) {
		late := heard()
		next := heard()
		fmt.Fprintf(conn, `{"return":"late","id":%q}`+"\n", late.ID)
		fmt.Fprintf(conn, `{"return":"next","id":%q}`+"\n", next.ID)
	}, func(t *testing.T, m *Monitor) {
		begun := time.Now()
		err := m.Execute(t.Context(), "slow", nil, nil)
		if took := time.Since(begun); !errors.Is(err, context.DeadlineExceeded) || took != monitorPatience {
			t.Errorf("error %v after %v", err, took)
		}
		var got string
		if err := m.Execute(t.Context(), "next", nil, &got); err != nil || got != "next" {
			t.Errorf("%q, %v", got, err)
		}
	})
}

func TestMonitorEndsWith(t *testing.T) {
	for name, c := range map[string]struct{ said, want string }{
		"the peer's leave":       {"", "EOF"},
		"half a message":         {`{"event":"ST`, "EOF"},
		"no JSON":                {"hello\n", "not a QMP message"},
		"no object":              {"[1]\n", "not a QMP message"},
		"an object of no kind":   {"{}\n", "not a QMP message"},
		"a field of other type":  {`{"event":7}` + "\n", "not a QMP message"},
		"a command not accepted": {`{"error":{"class":"GenericError","desc":"Invalid JSON syntax"}}` + "\n", "Invalid JSON syntax"},
		"a message without end":  {strings.Repeat(" ", maxMonitorLine+1), "longer than"},
	} {
		t.Run(name, func(t *testing.T) {
			dialogue(t, func(conn net.Conn, heard func() request) {
				fmt.Fprint(conn, c.said)
				conn.Close()
			}, func(t *testing.T, m *Monitor) {
				<-m.done
				if err := m.Err(); err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("error %v, want %q", err, c.want)
				}
				if _, open := <-m.Events(); open {
					t.Error("an event came out of nothing")
				}
				if err := m.Execute(t.Context(), "x", nil, nil); err == nil {
					t.Error("a command was executed after the end")
				}
			})
		})
	}
}

func TestMonitorLongReply(t *testing.T) {
	long := strings.Repeat("x", 8<<20)
	dialogue(t, func(conn net.Conn, heard func() request) {
		fmt.Fprintf(conn, `{"return":%q,"id":%q}`+"\n", long, heard().ID)
	}, func(t *testing.T, m *Monitor) {
		var got string
		if err := m.Execute(t.Context(), "x", nil, &got); err != nil || got != long {
			t.Errorf("%d bytes, %v", len(got), err)
		}
	})
}

func TestMonitorHandshakeIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		defer far.Close()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		begun := time.Now()
		_, err := NewMonitor(ctx, near)
		if took := time.Since(begun); !errors.Is(err, context.DeadlineExceeded) || took != time.Second {
			t.Errorf("error %v after %v", err, took)
		}
	})
}

func TestMonitorResetByPeerIsAnEnd(t *testing.T) {
	near, file := socketPair(t)
	far, err := net.FileConn(file)
	must(t, err)
	file.Close()
	go func() {
		lines := newLineReader(far, 1<<10)
		fmt.Fprint(far, fakeGreeting)
		line, _ := lines.next()
		var req request
		_ = json.Unmarshal(line, &req)
		fmt.Fprintf(far, `{"return":{},"id":%q}`+"\n"+`{"event":"SHUTDOWN","data":{"guest":true,"reason":"guest-shutdown"}}`+"\n", req.ID)
	}()
	m, err := NewMonitor(t.Context(), near)
	must(t, err)
	defer m.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	// What is written is never read, so the close resets the connection.
	if err := m.Execute(ctx, "x", nil, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
	far.Close()
	if await(t, m.done, "end of session"); m.Err() != io.EOF {
		t.Errorf("ended with %v", m.Err())
	}
	if e := await(t, m.Events(), "last event"); e.Name != QMPShutdown {
		t.Errorf("event %+v", e)
	}
}

// Nobody receives while a guest resets without end and is stopped in between.
func TestMonitorFloodOfEvents(t *testing.T) {
	const resets = 20_000
	dialogue(t, func(conn net.Conn, heard func() request) {
		for range resets / 100 {
			fmt.Fprint(conn, strings.Repeat(`{"event":"RESET","data":{"guest":true,"reason":"guest-reset"}}`+"\n", 100))
			fmt.Fprint(conn, `{"event":"STOP"}`+"\n"+`{"event":"RESUME"}`+"\n")
		}
		for i := range 1000 {
			fmt.Fprintf(conn, `{"event":"RTC_CHANGE","data":{"offset":%d}}`+"\n", i)
		}
		fmt.Fprint(conn, `{"event":"STOP"}`+"\n"+`{"event":"SHUTDOWN","data":{"guest":false,"reason":"host-signal"}}`+"\n")
		conn.Close()
	}, func(t *testing.T, m *Monitor) {
		<-m.done
		last, received := map[string]int{}, 0
		for e := range m.Events() {
			received++
			last[e.Name] = received
		}
		if last[QMPReset] == 0 || last[QMPStop] == 0 || last[QMPResume] == 0 {
			t.Errorf("a kind was lost: %v", last)
		}
		if received > maxWaitingEvents+8 {
			t.Errorf("%d events were kept", received)
		}
		if last[QMPResume] > last[QMPStop] || last[QMPShutdown] != received {
			t.Errorf("order lost: %v of %d", last, received)
		}
	})
}

func TestEventData(t *testing.T) {
	at := time.Unix(1700000000, 250000000)
	for text, want := range map[string]any{
		`"event":"RESET","data":{"guest":true,"reason":"guest-reset","new":1}`: ResetEvent{Guest: true, Reason: reasonReset},
		`"event":"SHUTDOWN","data":{"guest":false,"reason":"host-signal"}`:     ShutdownEvent{Reason: reasonSignal, At: at},
		`"event":"RESET","data":{"guest":"yes"}`:                               map[string]any{"guest": "yes"},
		`"event":"NEW","data":{"a":1.5}`:                                       map[string]any{"a": 1.5},
		`"event":"STOP"`:                                                       nil,
	} {
		var msg message
		must(t, json.Unmarshal([]byte(`{"timestamp":{"seconds":1700000000,"microseconds":250000},`+text+`}`), &msg))
		if diff := cmp.Diff(Event{Name: msg.Event, At: at, Data: want}, decodeEvent(msg)); diff != "" {
			t.Errorf("%s: %s", text, diff)
		}
	}
}

// brokenConn panics when it is read.
type brokenConn struct{ net.Conn }

func (brokenConn) Read([]byte) (int, error) { panic("injected") }

// A panic over what QEMU says is the end of that session, and of nothing else.
func TestMonitorContainsAPanic(t *testing.T) {
	near, far := net.Pipe()
	defer far.Close()
	_, err := NewMonitor(t.Context(), brokenConn{near})
	var fault *faultError
	if !errors.As(err, &fault) || !strings.Contains(string(fault.stack), "brokenConn") {
		t.Errorf("error %v", err)
	}
}
