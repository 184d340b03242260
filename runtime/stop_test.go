package runtime

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qemu-reconciler/qemu-reconciler/internal/guest"
)

// interrupted begins a stop of a deaf guest and breaks it off.
func interrupted(t *testing.T, l *lab) *Record {
	t.Helper()
	l.start(l.task("vm", guest.Deaf))
	ctx, cancel := context.WithCancel(t.Context())
	stopped := make(chan error, 1)
	go func() { stopped <- l.Stop(ctx, "vm", press(time.Hour)) }()
	record := l.until("vm", "button", func(o Observation) bool { return o.Record.Intent != nil && o.Record.Intent.Rung == RungACPI }).Record
	cancel()
	if err := await(t, stopped, "interrupted stop"); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted stop: %v", err)
	}
	return record
}

// TestStopResumed: a guest that was asked before the daemon ended is asked for
// the whole time again, however long that was ago, and however far the clock
// has jumped.
func TestStopResumed(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	first := interrupted(t, l)
	l.reopen(func() {
		l.forge("vm", func(r *Record) { r.Intent.At = r.Intent.At.Add(-2 * time.Hour) })
	})
	o := l.Observe()["vm"]
	if !o.Alive || o.Record.Intent == nil || o.Record.Intent.Kind != IntentStop || o.Record.Process.PID != first.Process.PID {
		t.Fatalf("after the restart: %s", asJSON(o))
	}
	const timeout = 700 * time.Millisecond
	l.answering("vm")
	began := time.Now()
	exit := l.stop("vm", press(timeout))
	if took := time.Since(began); took < timeout {
		t.Errorf("the guest was asked for no more than %v", took)
	}
	if exit.Cause != CauseStopped || exit.Rung != RungQuit || exit.Seconds < 7200 {
		t.Errorf("exit: %s", asJSON(exit))
	}
}

// TestStopResumedAtForce: a guest that was being forced is not asked again, and
// a clock that was set back makes no stop shorter than nothing.
func TestStopResumedAtForce(t *testing.T) {
	t.Parallel()
	for from, signalled := range map[string]string{RungQuit: "", RungSIGTERM: "SIGTERM", RungSIGKILL: "SIGKILL"} {
		t.Run(from, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			l.start(l.task("vm", guest.Deaf))
			l.reopen(func() {
				l.forge("vm", func(r *Record) {
					r.Intent = &Intent{Kind: IntentStop, At: time.Now().Add(time.Hour), BootID: BootID(), Rung: from}
				})
			})
			l.answering("vm")
			exit := l.stop("vm", press(time.Hour))
			if exit.Cause != CauseStopped || exit.Rung != from || exit.Seconds != 0 || exit.Signal != signalled {
				t.Errorf("exit: %s", asJSON(exit))
			}
		})
	}
}

// TestEndIsNoTrouble: that a session ends a moment before its process is told to
// nobody, and nor is it while a stop is under way.
func TestEndIsNoTrouble(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	must(t, l.layout.PrepareTask("vm"))
	begin := func(script string, intent *Intent) *Process {
		p := launchShell(t, script) // nobody ever listens for it
		l.ensure("vm").begin(p, func(r *Record) {
			r.Intent, r.LastExit = intent, nil
			r.Process = &ProcessInfo{PID: p.PID(), StartTicks: p.StartTicks(), BootID: BootID(), Argv: []string{"qemu"}, Answered: true}
		}, func() {})
		return p
	}
	quiet := func(what string) {
		t.Helper()
		l.ended("vm")
		if strings.Contains(l.log.String(), "trouble") {
			t.Errorf("%s: %s", what, l.log.String())
		}
	}
	begin("exec sleep 0.2", nil)
	quiet("end")
	begin("exec sleep 1.2", &Intent{Kind: IntentStop, At: time.Now(), BootID: BootID()})
	quiet("stop")
	p := begin("exec sleep 1000", nil)
	l.until("vm", "trouble", func(o Observation) bool { return strings.Contains(o.Trouble, "QMP socket lost") })
	must(t, p.Signal(unix.SIGKILL))
	l.ended("vm")
}

// TestStopEvents: an event says its reason once.
func TestStopEvents(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	req := startOf(l.task("vm", guest.Deaf))
	req.Reason = "new task"
	must(t, l.Start(t.Context(), req))
	l.stop("vm", StopRequest{Reason: "removed"})
	var messages []string
	for _, e := range readEvents(t, l.layout.Events()) {
		if _, twice := e["reason"]; twice {
			t.Errorf("the reason twice: %v", e)
		}
		messages = append(messages, e["message"].(string))
	}
	for _, want := range []string{"started: new task", "stopping: removed", "stopped"} {
		if !slices.Contains(messages, want) {
			t.Errorf("%q is not among %q", want, messages)
		}
	}
	if got := because("started", ""); got != "started" {
		t.Errorf("without a reason: %q", got)
	}
}

// TestEndsArePoked: an end that somebody waits for is told by his return and pokes
// nobody, who would find the stop still under way; any other end pokes, also when
// whoever waited has given up.
func TestEndsArePoked(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	var early atomic.Int32
	look := func() {
		if m := l.find("vm"); m.currentLife() == nil && len(m.turn) == 1 && m.current().LastExit != nil && m.current().Intent == nil {
			early.Add(1)
		}
	}
	interrupted(t, l)
	l.kill("vm", unix.SIGKILL)
	l.ended("vm")
	for range 5 {
		l.start(l.task("vm", guest.Deaf))
		l.onPoke.Store(&look)
		l.stop("vm", StopRequest{})
		l.onPoke.Store(nil)
	}
	if n := early.Load(); n > 0 {
		t.Errorf("%d pokes found the end recorded and the stop under way", n)
	}
}
