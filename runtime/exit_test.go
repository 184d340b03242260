package runtime

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/qemu-reconciler/qemu-reconciler/internal/guest"
)

func exited(code int) WaitStatus             { return WaitStatus{Known: true, Code: code} }
func signalled(s unix.Signal) WaitStatus     { return WaitStatus{Known: true, Signal: s} }
func announced(reason string) *ShutdownEvent { return &ShutdownEvent{Reason: reason} }
func stopping(rung string) *Intent {
	return &Intent{Kind: IntentStop, Rung: rung, At: time.Unix(1000, 0)}
}

func TestExitCauses(t *testing.T) {
	term := []string{"qemu-system-x86_64: terminating on signal 15 from pid 1 (systemd)"}
	hup := []string{"qemu-system-x86_64: terminating on signal 1 from pid 7 (sh)", "more words"}
	unknown := WaitStatus{}
	for _, c := range []struct {
		name                string
		evidence            Evidence
		cause, signal, rung string
		code                any
	}{
		{"guest powers off", Evidence{Status: exited(0), Shutdown: announced("guest-shutdown"), Answered: true}, CauseGuestShutdown, "", "", 0},
		{"guest powers off, nobody watching", Evidence{Shutdown: announced("guest-shutdown"), Status: unknown}, CauseGuestShutdown, "", "", nil},
		{"guest resets", Evidence{Status: exited(0), Shutdown: announced("guest-reset")}, CauseGuestReset, "", "", 0},
		{"guest panics", Evidence{Status: exited(0), Shutdown: announced("guest-panic")}, CauseGuestPanic, "", "", 0},
		{"guest panics, QEMU says so", Evidence{Status: exited(1), Shutdown: announced("guest-panic")}, CauseGuestPanic, "", "", 1},
		{"guest panics while it is asked", Evidence{Status: exited(0), Shutdown: announced("guest-panic"), Stop: stopping(RungACPI)}, CauseGuestPanic, "", "", 0},

		{"asked by agent", Evidence{Status: exited(0), Shutdown: announced("guest-shutdown"), Stop: stopping(RungAgent)}, CauseStopped, "", RungAgent, 0},
		{"asked by button", Evidence{Status: exited(0), Shutdown: announced("guest-shutdown"), Stop: stopping(RungACPI)}, CauseStopped, "", RungACPI, 0},
		{"asked, and late", Evidence{Status: exited(0), Shutdown: announced("guest-shutdown"), Stop: stopping(RungQuit)}, CauseStopped, "", RungQuit, 0},
		{"asked, and reboots instead", Evidence{Status: exited(0), Shutdown: announced("guest-reset"), Stop: stopping(RungACPI)}, CauseStopped, "", RungACPI, 0},
		{"before it was asked", Evidence{Status: exited(0), Shutdown: announced("guest-shutdown"), Stop: stopping("")}, CauseGuestShutdown, "", "", 0},
		{"our quit", Evidence{Status: exited(0), Shutdown: announced("host-qmp-quit"), Stop: stopping(RungQuit)}, CauseStopped, "", RungQuit, 0},
		{"our quit, seen by nobody", Evidence{Shutdown: announced("host-qmp-quit"), Stop: stopping(RungQuit)}, CauseStopped, "", RungQuit, nil},
		{"another's quit", Evidence{Status: exited(0), Shutdown: announced("host-qmp-quit")}, CauseStopped, "", "", 0},
		{"our SIGTERM", Evidence{Status: exited(0), Shutdown: announced("host-signal"), Stop: stopping(RungSIGTERM), Words: term}, CauseStopped, "SIGTERM", RungSIGTERM, 0},
		{"our SIGTERM, before QEMU can catch it", Evidence{Status: signalled(unix.SIGTERM), Stop: stopping(RungSIGTERM)}, CauseStopped, "SIGTERM", RungSIGTERM, nil},
		{"our SIGKILL", Evidence{Status: signalled(unix.SIGKILL), Stop: stopping(RungSIGKILL)}, CauseStopped, "SIGKILL", RungSIGKILL, nil},
		{"our SIGKILL, seen by nobody", Evidence{Stop: stopping(RungSIGKILL)}, CauseStopped, "", RungSIGKILL, nil},

		{"SIGTERM from outside", Evidence{Status: exited(0), Shutdown: announced("host-signal"), Words: term}, CauseKilled, "SIGTERM", "", 0},
		{"SIGHUP from outside", Evidence{Status: exited(0), Shutdown: announced("host-signal"), Words: hup}, CauseCrashed, "SIGHUP", "", 0},
		{"SIGHUP, announcement lost", Evidence{Words: hup, Answered: true}, CauseCrashed, "SIGHUP", "", nil},
		{"SIGINT before QEMU can catch it", Evidence{Status: signalled(unix.SIGINT)}, CauseCrashed, "SIGINT", "", nil},
		{"SIGTERM, words lost", Evidence{Shutdown: announced("host-signal")}, CauseKilled, "SIGTERM", "", nil},
		{"SIGTERM, announcement lost", Evidence{Words: term, Answered: true}, CauseKilled, "SIGTERM", "", nil},
		{"SIGTERM from outside during our stop", Evidence{Status: exited(0), Shutdown: announced("host-signal"), Stop: stopping(RungACPI)}, CauseKilled, "SIGTERM", "", 0},
		{"SIGKILL from outside", Evidence{Status: signalled(unix.SIGKILL), Answered: true}, CauseKilled, "SIGKILL", "", nil},
		{"SIGKILL from outside before QMP answered", Evidence{Status: signalled(unix.SIGKILL)}, CauseKilled, "SIGKILL", "", nil},
		{"SIGKILL from outside during our stop", Evidence{Status: signalled(unix.SIGKILL), Stop: stopping(RungACPI)}, CauseKilled, "SIGKILL", "", nil},

		{"SIGSEGV", Evidence{Status: signalled(unix.SIGSEGV), Answered: true}, CauseCrashed, "SIGSEGV", "", nil},
		{"SIGSEGV during our stop", Evidence{Status: signalled(unix.SIGSEGV), Stop: stopping(RungSIGKILL)}, CauseCrashed, "SIGSEGV", "", nil},
		{"SIGSEGV after the announcement", Evidence{Status: signalled(unix.SIGSEGV), Shutdown: announced("guest-shutdown")}, CauseCrashed, "SIGSEGV", "", nil},
		{"SIGABRT after the greeting", Evidence{Status: signalled(unix.SIGABRT), Answered: true}, CauseCrashed, "SIGABRT", "", nil},
		{"a code", Evidence{Status: exited(1), Answered: true}, CauseCrashed, "", "", 1},
		{"a code during our stop", Evidence{Status: exited(1), Answered: true, Stop: stopping(RungQuit)}, CauseCrashed, "", "", 1},
		{"QEMU's own error", Evidence{Shutdown: announced("host-error")}, CauseCrashed, "", "", nil},

		{"bad argument", Evidence{Status: exited(1)}, CauseLaunchFailed, "", "", 1},
		{"an argument that only prints", Evidence{Status: exited(0)}, CauseLaunchFailed, "", "", 0},
		{"its end, announced amidst a greeting", Evidence{Status: exited(0), Spoke: true}, CauseUnknown, "", "", 0},
		{"a code after the greeting", Evidence{Status: exited(1), Spoke: true}, CauseLaunchFailed, "", "", 1},
		{"a code before anybody asked, but announced", Evidence{Status: exited(1), Shutdown: announced("guest-shutdown")}, CauseCrashed, "", "", 1},
		{"another boot", Evidence{OtherBoot: true, Stop: stopping(RungACPI), Answered: true}, CauseHostReboot, "", "", nil},
		{"no evidence", Evidence{}, CauseUnknown, "", "", nil},
		{"no evidence but the code", Evidence{Status: exited(0), Answered: true}, CauseUnknown, "", "", 0},
		{"a reason of the future", Evidence{Status: exited(0), Shutdown: announced("moon")}, CauseUnknown, "", "", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			at := time.Unix(1002, 500_000_000)
			exit := c.evidence.Exit(at)
			checkExit(t, exit, c.cause, c.signal, c.rung, c.code)
			want := 0.0
			if c.rung != "" {
				want = 2.5
			}
			if exit.Seconds != want || !exit.At.Equal(at) {
				t.Errorf("took %v s until %v", exit.Seconds, exit.At)
			}
		})
	}
}

// What real ends leave behind, with nobody connected to QMP.
func TestExitOfRealQEMU(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		variant       guest.Variant
		args          []string
		signal        unix.Signal
		cause, killer string
		code          any
	}{
		"power off": {guest.PowerOff, nil, 0, CauseGuestShutdown, "", 0},
		"reset":     {guest.Reset, []string{"-no-reboot"}, 0, CauseGuestReset, "", 0},
		"SIGTERM":   {guest.Deaf, nil, unix.SIGTERM, CauseKilled, "SIGTERM", 0},
		"SIGINT":    {guest.Deaf, nil, unix.SIGINT, CauseCrashed, "SIGINT", 0},
		"SIGKILL":   {guest.Deaf, nil, unix.SIGKILL, CauseKilled, "SIGKILL", nil},
		"SIGSEGV":   {guest.Deaf, nil, unix.SIGSEGV, CauseCrashed, "SIGSEGV", nil},
		"bad args":  {guest.Deaf, []string{"-device", "no-such-device"}, 0, CauseLaunchFailed, "", 1},
	} {
		t.Run(name, func(t *testing.T) {
			vm := startTiny(t, c.variant, c.args...)
			if c.signal != 0 {
				vm.says(t, guest.SaysReady)
				must(t, vm.Signal(c.signal))
			}
			evidence := vm.evidence(t, nil)
			checkExit(t, evidence.Exit(time.Now()), c.cause, c.killer, "", c.code)
			if name == "bad args" && !strings.Contains(strings.Join(evidence.Words, "\n"), "no-such-device") {
				t.Errorf("QEMU's words are %q", evidence.Words)
			}
		})
	}
}

func TestLastShutdown(t *testing.T) {
	event := func(reason string, second int) string {
		return fmt.Sprintf(`{"timestamp":{"seconds":%d,"microseconds":0},"event":"SHUTDOWN","data":{"guest":true,"reason":%q}}`+"\r\n", second, reason)
	}
	long := strings.Repeat(`{"return":"SHUTDOWN"}`+"\r\n", tailSize/20)
	at := func(reason string, second int64) *ShutdownEvent {
		return &ShutdownEvent{Guest: true, Reason: reason, At: time.Unix(second, 0)}
	}
	for name, c := range map[string]struct {
		log  string
		want *ShutdownEvent
	}{
		"empty":           {"", nil},
		"none":            {fakeGreeting, nil},
		"one":             {fakeGreeting + event("guest-shutdown", 5) + `{"return":{}}` + "\r\n", at("guest-shutdown", 5)},
		"the last":        {event("guest-reset", 5) + event("guest-shutdown", 6), at("guest-shutdown", 6)},
		"half of another": {event("guest-reset", 5) + event("guest-shutdown", 6)[:60], at("guest-reset", 5)},
		"without its end": {strings.TrimSpace(event("guest-shutdown", 6)), nil},
		"after much":      {long + event("guest-shutdown", 5), at("guest-shutdown", 5)},
		"amidst rubbish":  {"\x00\xff\n" + event("guest-shutdown", 5) + "{{{\n", at("guest-shutdown", 5)},
		"quoted":          {`{"return":"` + strings.ReplaceAll(strings.TrimSpace(event("x", 1)), `"`, `\"`) + `"}` + "\n", nil},
		"of another form": {`{"event":"SHUTDOWN","data":{"guest":[]}}` + "\n", nil},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "qmp.log")
			must(t, os.WriteFile(path, []byte(c.log), 0o600))
			if diff := cmp.Diff(c.want, LastShutdown(path)); diff != "" {
				t.Error(diff)
			}
		})
	}
	if got := LastShutdown(filepath.Join(t.TempDir(), "none")); got != nil {
		t.Errorf("a log that is not there says %+v", got)
	}
}

func TestLastWords(t *testing.T) {
	long := strings.Repeat("x", 3*maxWord)
	for name, c := range map[string]struct {
		log  string
		from int64
		n    int
		want []string
	}{
		"nothing":           {"", 0, 3, nil},
		"the newest last":   {"a\nb\n\nc\nd", 0, 3, []string{"b", "c", "d"}},
		"from an offset":    {"old\nnew\n", 4, 3, []string{"new"}},
		"nothing new":       {"old\n", 4, 3, nil},
		"rotated":           {"new\n", 1000, 3, []string{"new"}},
		"control sequences": {"\x1b[31mred\x07\tbell\u202e\x00\r\n\xff\n", 0, 3, []string{"[31mred bell", "\ufffd"}},
		"a long line":       {long + "\n", 0, 3, []string{"…" + long[:maxWord]}},
		"a cut letter":      {"bä" + strings.Repeat("x", maxWord-1) + "\n", 0, 3, []string{"…" + strings.Repeat("x", maxWord-1)}},
		"a large log":       {strings.Repeat("y\n", tailSize) + "end\n", 1, 1, []string{"end"}},
		"one endless line":  {strings.Repeat("z", 2*tailSize), 0, 3, []string{"…" + strings.Repeat("z", maxWord)}},
		"endless, then one": {strings.Repeat("z", 2*tailSize) + ": no\nend\n", 0, 1, []string{"end"}},
		"its very end":      {strings.Repeat("z", 2*tailSize) + ": no\n", 0, 1, []string{"…" + strings.Repeat("z", maxWord-4) + ": no"}},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "qemu.log")
			must(t, os.WriteFile(path, []byte(c.log), 0o600))
			if diff := cmp.Diff(c.want, LastWords(path, c.from, c.n)); diff != "" {
				t.Error(diff)
			}
		})
	}
}
