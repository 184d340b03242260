package runtime

import (
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qemu-reconciler/qemu-reconciler/internal/guest"
	"github.com/qemu-reconciler/qemu-reconciler/spec"
)

// sameProcess fails unless the task runs in the very process that it had.
func (l *lab) sameProcess(task string, before *ProcessInfo) Observation {
	l.t.Helper()
	o := l.Observe()[task]
	if !o.Alive || o.Record.Process == nil || o.Record.Process.PID != before.PID || o.Record.Process.StartTicks != before.StartTicks {
		l.t.Fatalf("%s had pid %d and is %s", task, before.PID, asJSON(o))
	}
	if found := foundOf(l.t, l.layout, task); len(found) != 1 {
		l.t.Fatalf("%d processes of %s: %v", len(found), task, found)
	}
	return o
}

func TestAdoption(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	task := l.task("vm", guest.Button)
	req := startOf(task)
	req.Record = func(r *Record) { r.Restarts = 3 }
	must(t, l.Start(t.Context(), req))
	before := l.answering("vm").Record
	l.reopen(func() {})
	o := l.sameProcess("vm", before.Process)
	if o.Record.Restarts != 3 || o.Record.Applied == nil || o.Record.UUID != before.UUID || !o.Record.Process.StartedAt.Equal(before.Process.StartedAt) {
		t.Errorf("adopted: %s", asJSON(o))
	}
	l.answering("vm")
	if exit := l.stop("vm", press(testPatience)); exit.Cause != CauseStopped || exit.Rung != RungACPI {
		t.Errorf("exit: %s", asJSON(exit))
	}
	l.says("vm", guest.SaysButton)
	want := []string{EventStarted, EventRunning, EventAdopted, EventStopping, EventStopped}
	if got := l.told("vm"); !slices.Equal(got, want) {
		t.Errorf("events: %v, want %v", got, want)
	}
}

// TestAdoptionFromTheDead: the VMs of a daemon that was killed are no children
// of its successor.
func TestAdoptionFromTheDead(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	must(t, l.Close())
	other := runOther(t, childOrder{Layout: l.layout, Start: []*spec.Task{l.task("a", guest.Button), l.task("b", guest.Deaf)}})
	other.kill()
	a, b := l.onDisk("a").Process, l.onDisk("b").Process
	l.open()
	l.sameProcess("a", a)
	l.sameProcess("b", b)
	l.answering("a")
	l.says("a", guest.SaysReady)
	if exit := l.stop("a", press(testPatience)); exit.Cause != CauseStopped || exit.Rung != RungACPI {
		t.Errorf("exit: %s", asJSON(exit))
	}
	l.says("a", guest.SaysButton)
	l.kill("b", unix.SIGKILL)
	if exit := l.ended("b"); exit.Cause != CauseKilled || exit.Signal != "SIGKILL" {
		t.Errorf("exit: %s", asJSON(exit))
	}
}

// TestExitUnseen: what ended while nobody looked has its cause where there is
// evidence.
func TestExitUnseen(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		do    func(l *lab, info *ProcessInfo)
		cause string
	}{
		{"power-off", func(l *lab, _ *ProcessInfo) { l.aside("vm", "system_powerdown") }, CauseGuestShutdown},
		{"quit", func(l *lab, _ *ProcessInfo) { l.aside("vm", "quit") }, CauseStopped},
		{"SIGTERM", func(l *lab, info *ProcessInfo) { must(l.t, signalTo(info, unix.SIGTERM)) }, CauseKilled},
		{"SIGKILL", func(l *lab, info *ProcessInfo) { must(l.t, signalTo(info, unix.SIGKILL)) }, CauseUnknown},
		{"other boot", func(l *lab, info *ProcessInfo) {
			must(l.t, signalTo(info, unix.SIGKILL))
			l.forge("vm", func(r *Record) { r.Process.BootID, r.Ports = "another", map[string]int{"x": 20000} })
		}, CauseHostReboot},
		{"stop under way", func(l *lab, _ *ProcessInfo) {
			l.forge("vm", func(r *Record) {
				r.Intent = &Intent{Kind: IntentStop, At: time.Now(), BootID: BootID(), Rung: RungACPI}
			})
			l.aside("vm", "system_powerdown")
		}, CauseStopped},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			info := l.start(l.task("vm", guest.Button)).Record.Process
			l.says("vm", guest.SaysReady)
			l.reopen(func() {
				c.do(l, info)
				l.gone(info)
			})
			o := l.Observe()["vm"]
			exit := o.Record.LastExit
			if o.Alive || o.Record.Process != nil || o.Record.Intent != nil || exit == nil || exit.Cause != c.cause || exit.PID != info.PID {
				t.Fatalf("afterwards: %s", asJSON(o))
			}
			if c.cause == CauseHostReboot && (o.Record.Ports["x"] != 20000 || o.Record.Applied == nil || o.Record.UUID == "" || o.Record.Format == nil) {
				t.Errorf("the reboot took what must stay: %s", asJSON(o.Record))
			}
			if l.onDisk("vm").LastExit == nil {
				t.Error("the exit is not on the disk")
			}
		})
	}
}

func signalTo(info *ProcessInfo, sig unix.Signal) error {
	p, err := OpenProcess(info.PID, info.StartTicks, info.BootID)
	if err != nil {
		return err
	}
	defer p.Close()
	return p.Signal(sig)
}

// TestRecycledPID: a process that only has the pid of ours is never touched.
func TestRecycledPID(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	must(t, l.Close())
	stranger := launchShell(t, "exec sleep 1000")
	for name, edit := range map[string]func(*ProcessInfo){
		"ticks": func(p *ProcessInfo) { p.StartTicks-- },
		"boot":  func(p *ProcessInfo) { p.BootID = "another" },
	} {
		info := &ProcessInfo{PID: stranger.PID(), StartTicks: stranger.StartTicks(), BootID: BootID(), Argv: []string{"qemu"}, Answered: true}
		edit(info)
		record := &Record{Version: RecordVersion, Task: name, Process: info, Intent: &Intent{Kind: IntentStop, BootID: info.BootID}}
		must(t, OpenStore(l.layout).Put(record, true))
	}
	l.open()
	for _, task := range []string{"ticks", "boot"} {
		if o := l.Observe()[task]; o.Alive || o.Record.Process != nil || o.Record.LastExit == nil {
			t.Errorf("%s: %s", task, asJSON(o))
		}
		must(t, l.Stop(t.Context(), task, StopRequest{}))
	}
	select {
	case <-stranger.Done():
		t.Error("a stranger was killed")
	default:
	}
}

// TestIntentStart: a daemon that died between exec and record left a process
// that is found by its socket, and one that died before exec left none.
func TestIntentStart(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	info := l.start(l.task("ran", guest.Button)).Record.Process
	inode := socketOf(t, info.PID)
	announce := func(inode uint64) *Intent {
		return &Intent{Kind: IntentStart, At: time.Now().Add(-time.Minute), BootID: BootID(), SocketInode: inode}
	}
	must(t, l.Update("never", func(r *Record) { r.Intent = announce(1) }))
	must(t, l.Update("before", func(r *Record) { r.Intent = announce(inode); r.Intent.BootID = "another" }))
	l.reopen(func() {
		l.forge("ran", func(r *Record) { r.Process, r.Intent = nil, announce(inode) })
	})
	o := l.sameProcess("ran", info)
	if o.Record.Intent != nil || o.Record.Process.Format != "raw" || !slices.Equal(o.Record.Process.Argv, info.Argv) {
		t.Errorf("found: %s", asJSON(o))
	}
	for _, task := range []string{"never", "before"} {
		if o := l.Observe()[task]; o.Alive || o.Record.Intent != nil || l.onDisk(task).Intent != nil {
			t.Errorf("%s: %s", task, asJSON(o))
		}
	}
	l.answering("ran")
	l.says("ran", guest.SaysReady)
	l.reopen(func() {
		l.forge("ran", func(r *Record) { r.Process, r.Intent = nil, announce(inode) })
		l.aside("ran", "system_powerdown")
		l.gone(info)
	})
	if o := l.Observe()["ran"]; o.Alive || o.Record.Intent != nil || o.Record.LastExit == nil || o.Record.LastExit.Cause != CauseGuestShutdown {
		t.Errorf("ran and ended: %s", asJSON(o))
	}
}
