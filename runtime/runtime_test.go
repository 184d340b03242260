package runtime

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/qemu-reconciler/qemu-reconciler/internal/guest"
	"github.com/qemu-reconciler/qemu-reconciler/spec"
)

func TestStartRunStop(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	task := l.task("web", guest.Button)
	before := time.Now()
	o := l.start(task)
	p := o.Record.Process
	if !o.Alive || o.Paused != "" || o.Trouble != "" || p.PID == 0 || p.StartedAt.Before(before) || p.Format != "raw" {
		t.Fatalf("running: %s", asJSON(o))
	}
	if onDisk := l.onDisk("web"); !cmp.Equal(onDisk.Process, p) || !p.Answered || !strings.HasPrefix(p.Version, "7.") {
		t.Errorf("on the disk: %s", asJSON(onDisk))
	}
	if want, err := l.Preview(task, o.Record); err != nil || !cmp.Equal(want, p.Argv) {
		t.Errorf("preview differs from what runs (%v):\n%s", err, cmp.Diff(want, p.Argv))
	}
	if err := l.Start(t.Context(), startOf(task)); err == nil || !strings.Contains(err.Error(), "runs already, pid "+itoa(p.PID)) {
		t.Errorf("second start: %v", err)
	}
	if err := l.Forget("web"); err == nil {
		t.Error("a task was forgotten while it runs")
	}
	exit := l.stop("web", press(testPatience))
	if exit.Cause != CauseStopped || exit.Rung != RungACPI || exit.Code == nil || *exit.Code != 0 || exit.PID != p.PID || exit.Seconds <= 0 {
		t.Errorf("stopped: %s", asJSON(exit))
	}
	l.says("web", guest.SaysButton)
	if got := l.onDisk("web").LastExit; !cmp.Equal(*got, exit) {
		t.Errorf("on the disk: %s", asJSON(got))
	}
	want := []string{EventStarted, EventRunning, EventStopping, EventStopped}
	if got := l.told("web"); !cmp.Equal(got, want) {
		t.Errorf("events: %v, want %v", got, want)
	}
	must(t, l.Forget("web"))
	if _, known := l.Observe()["web"]; known {
		t.Error("forgotten and still known")
	}
	for _, path := range []string{l.layout.Record("web"), l.layout.VMDir("web")} {
		if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: %v", path, err)
		}
	}
	if _, err := os.Stat(l.layout.ConsoleLog("web")); err != nil {
		t.Errorf("its logs are gone, too: %v", err)
	}
}

func TestExits(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		variant guest.Variant
		args    []string
		do      func(l *lab)
		cause   string
		signal  string
		code    any
		kinds   []string
	}{
		{name: "killed", variant: guest.Deaf, do: func(l *lab) { l.kill("vm", unix.SIGKILL) },
			cause: CauseKilled, signal: "SIGKILL", code: nil, kinds: []string{EventStarted, EventRunning, EventExited}},
		{name: "crashed", variant: guest.Deaf, do: func(l *lab) { l.kill("vm", unix.SIGSEGV) },
			cause: CauseCrashed, signal: "SIGSEGV", code: nil, kinds: []string{EventStarted, EventRunning, EventExited}},
		{name: "terminated", variant: guest.Deaf, do: func(l *lab) { l.kill("vm", unix.SIGTERM) },
			cause: CauseKilled, signal: "SIGTERM", code: 0, kinds: []string{EventStarted, EventRunning, EventExited}},
		{name: "button by another", variant: guest.Button, do: func(l *lab) { l.says("vm", guest.SaysReady); l.tell("vm", "system_powerdown") },
			cause: CauseGuestShutdown, code: 0, kinds: []string{EventStarted, EventRunning, EventExited}},
		{name: "reset ends it", variant: guest.Reset, args: []string{"-no-reboot", "-S"}, do: func(l *lab) { l.tell("vm", "cont") },
			cause: CauseGuestReset, code: 0},
		{name: "bad argument", variant: guest.Deaf, args: []string{"-device", "no-such-device"}, do: func(*lab) {},
			cause: CauseLaunchFailed, code: 1, kinds: []string{EventStarted, EventStartFailed}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			must(t, l.Start(t.Context(), startOf(l.task("vm", c.variant, c.args...))))
			if c.cause != CauseLaunchFailed {
				l.answering("vm")
			}
			c.do(l)
			exit := l.ended("vm")
			var code any
			if exit.Code != nil {
				code = *exit.Code
			}
			if exit.Cause != c.cause || exit.Signal != c.signal || code != c.code {
				t.Errorf("exit: %s", asJSON(exit))
			}
			if c.cause == CauseLaunchFailed && !strings.Contains(strings.Join(exit.Words, "\n"), "no-such-device") {
				t.Errorf("QEMU's words are lost: %q", exit.Words)
			}
			if got := l.told("vm"); c.kinds != nil && !cmp.Equal(got, c.kinds) {
				t.Errorf("events: %v, want %v", got, c.kinds)
			}
		})
	}
}

// TestWordsOfThisProcess: the words of an exit are those of the process that
// ended, not of its predecessors.
func TestWordsOfThisProcess(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	must(t, l.Start(t.Context(), startOf(l.task("vm", guest.Deaf, "-device", "first-bad-device"))))
	l.ended("vm")
	l.start(l.task("vm", guest.Deaf))
	l.kill("vm", unix.SIGKILL)
	exit := l.until("vm", "second end", func(o Observation) bool { return !o.Alive && o.Record.LastExit.Cause == CauseKilled }).Record.LastExit
	if len(exit.Words) != 0 {
		t.Errorf("words: %q", exit.Words)
	}
}

func TestStopSoonAfterExec(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	must(t, l.Start(t.Context(), startOf(l.task("vm", guest.Button))))
	if exit := l.stop("vm", press(testPatience)); exit.Cause != CauseStopped || exit.Rung != RungACPI {
		t.Errorf("exit: %s", asJSON(exit))
	}
	must(t, l.Start(t.Context(), startOf(l.task("vm", guest.Deaf))))
	if exit := l.stop("vm", StopRequest{}); exit.Cause != CauseStopped || exit.Rung == "" {
		t.Errorf("exit: %s", asJSON(exit))
	}
	must(t, l.Stop(t.Context(), "vm", StopRequest{}))
	must(t, l.Stop(t.Context(), "unknown", StopRequest{}))
}

func TestStartFails(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	taken := unusedPorts(t, 1)[0]
	holder := l.task("holder", guest.Deaf)
	forward(holder, taken)
	l.start(holder)
	holderPID := itoa(l.Observe()["holder"].Record.Process.PID)
	for _, c := range []struct {
		name  string
		edit  func(*spec.Task, *StartRequest)
		words []string
	}{
		{"emulator", func(task *spec.Task, _ *StartRequest) { task.Config.Emulator = "qemu-system-none" }, []string{"qemu-system-none"}},
		{"image", func(task *spec.Task, _ *StartRequest) { task.Config.ImagePath = "/nowhere/x.img" }, []string{"/nowhere/x.img", "does not exist"}},
		{"port", func(task *spec.Task, _ *StartRequest) { forward(task, taken) }, []string{itoa(taken), "qemu-system-x86_64", "pid " + holderPID}},
		{"diagnostic", func(_ *spec.Task, req *StartRequest) {
			req.Wanted = func(map[string]int) (*spec.Task, []spec.Diagnostic) {
				return nil, []spec.Diagnostic{{Severity: spec.SeverityError, File: "a.hcl", Position: spec.Position{Line: 3, Column: 1}, Summary: "no such port"}}
			}
		}, []string{"a.hcl:3:1: no such port"}},
		{"panic", func(_ *spec.Task, req *StartRequest) {
			req.Wanted = func(map[string]int) (*spec.Task, []spec.Diagnostic) { panic("expression") }
		}, []string{"internal fault", "expression"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			task := l.task("vm-"+c.name, guest.Deaf)
			req := startOf(task)
			c.edit(task, &req)
			req.Record = func(r *Record) { r.Restarts += 7 }
			err := l.Start(t.Context(), req)
			o := l.Observe()[task.Name]
			if err == nil || o.Alive || o.Record.Process != nil || o.Record.Intent != nil {
				t.Fatalf("%v: %s", err, asJSON(o))
			}
			for _, word := range c.words {
				if !strings.Contains(err.Error(), word) {
					t.Errorf("%q does not say %q", err, word)
				}
			}
			if c.name == "panic" {
				return
			}
			r := l.onDisk(task.Name)
			if r.Failure == "" || r.FailedAt.IsZero() || r.LastExit == nil || r.LastExit.Cause != CauseLaunchFailed || r.Restarts != 7 {
				t.Errorf("record: %s", asJSON(r))
			}
			if got := l.told(task.Name); !cmp.Equal(got, []string{EventStartFailed}) {
				t.Errorf("events: %v", got)
			}
		})
	}
	if o := l.Observe()["holder"]; !o.Alive {
		t.Error("the holder is gone")
	}
}

func forward(task *spec.Task, port int) {
	task.Config.PortMap = map[string]int{"ssh": 22}
	task.Resources.Ports = []spec.Port{{Label: "ssh", Static: port, Protocols: []string{"tcp"}}}
}

// TestStartCalledOff: a start that nobody waits for any more is no failure of
// the task, and still to be made.
func TestStartCalledOff(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	ctx, cancel := context.WithCancel(t.Context())
	req := startOf(l.task("vm", guest.Deaf))
	wanted := req.Wanted
	req.Wanted = func(ports map[string]int) (*spec.Task, []spec.Diagnostic) {
		cancel()
		return wanted(ports)
	}
	req.Record = func(r *Record) { r.Restarts, r.Attempts = r.Restarts+1, append(r.Attempts, time.Now()) }
	if err := l.Start(ctx, req); !errors.Is(err, context.Canceled) {
		t.Errorf("start: %v", err)
	}
	if o := l.Observe()["vm"]; o.Alive || o.Record.Intent != nil || o.Record.Failure != "" || o.Record.LastExit != nil || o.Record.Restarts != 0 || len(o.Record.Attempts) != 0 {
		t.Errorf("afterwards: %s", asJSON(o))
	}
	l.reopen(func() {
		if !l.onDisk("vm").Due {
			t.Error("the next daemon does not know of it")
		}
	})
	req.Wanted = func(ports map[string]int) (*spec.Task, []spec.Diagnostic) { return nil, nil }
	if err := l.Start(t.Context(), req); err == nil || l.onDisk("vm").Due {
		t.Errorf("it failed (%v): it is made no more for its own sake", err)
	}
	must(t, l.Update("vm", func(r *Record) { r.callOff(time.Now()) }))
	end, err := l.ensure("vm").take(t.Context())
	must(t, err)
	req.Wanted = wanted
	s := &start{m: l.ensure("vm"), req: req, files: map[int]*os.File{}}
	defer s.close()
	s.upToAnnounce(t)
	if r := l.onDisk("vm"); r.Due || r.Intent == nil {
		t.Errorf("it is announced, and would be made twice: %s", asJSON(r))
	}
	end()
}

// TestStartCountsOnce: what goes with a start is recorded once, also when it
// fails after it was announced.
func TestStartCountsOnce(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	dir := t.TempDir()
	program := filepath.Join(dir, "qemu-system-x86_64")
	must(t, os.WriteFile(program, []byte("no program"), 0o700))
	req := startOf(l.task("vm", guest.Deaf))
	req.Record = func(r *Record) { r.Restarts++ }
	end, err := l.ensure("vm").take(t.Context())
	must(t, err)
	s := &start{m: l.ensure("vm"), req: req, files: map[int]*os.File{}}
	defer s.close()
	s.upToAnnounce(t)
	s.command.Program = program
	failed := s.launch()
	if failed == nil {
		t.Fatal("it runs")
	}
	s.fail(failed, false)
	end()
	if r := l.onDisk("vm"); r.Restarts != 1 || r.Failure == "" || r.Intent != nil {
		t.Errorf("record: %s", asJSON(r))
	}
	must(t, l.Start(t.Context(), req))
	if got := l.onDisk("vm").Restarts; got != 2 {
		t.Errorf("%d starts counted of 2", got)
	}
}

// TestPorts: what was allocated is kept, through restarts and against
// strangers.
func TestAllocatedPortIsKept(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	task := l.task("vm", guest.Deaf)
	task.Config.PortMap = map[string]int{"ssh": 22}
	task.Resources.Ports = []spec.Port{{Label: "ssh", Protocols: []string{"tcp", "udp"}}, {Label: "spare", Protocols: []string{"tcp"}}}
	o := l.start(task)
	given := o.Record.Ports
	if len(given) != 2 || len(o.Record.Process.Forwards) != 1 || o.Record.Process.Forwards[0].Host != given["ssh"] {
		t.Fatalf("ports: %s", asJSON(o.Record))
	}
	if err := PortFree("", given["ssh"], []string{"tcp"}); err == nil {
		t.Error("nobody listens on the allocated port")
	}
	l.stop("vm", StopRequest{})
	occupy(t, given["ssh"])
	err := l.Start(t.Context(), startOf(task))
	if err == nil || !strings.Contains(err.Error(), itoa(os.Getpid())) {
		t.Errorf("start with the port taken: %v", err)
	}
	if got := l.Observe()["vm"].Record.Ports; !cmp.Equal(got, given) {
		t.Errorf("ports: %v, they were %v", got, given)
	}
}
