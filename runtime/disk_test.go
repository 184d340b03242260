package runtime

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/qemu-reconciler/qemu-reconciler/internal/guest"
)

// TestFullDisk: before a start a full disk is an error and nothing runs; for a
// VM that runs nothing happens but that the disk is brought up to date later.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.start(l.task("vm", guest.Button))
	before := l.onDisk("vm")
	mend := breakDisk(t, l.layout)
	late := l.task("late", guest.Deaf)
	err := l.Start(t.Context(), startOf(late))
	if o := l.Observe()["late"]; err == nil || !strings.Contains(err.Error(), "record of late") || o.Alive || o.Record.Failure == "" {
		t.Errorf("start: %v, %s", err, asJSON(o))
	}
	if found := foundOf(t, l.layout, "late"); len(found) != 0 {
		t.Errorf("it runs all the same: %v", found)
	}
	if err := l.Update("vm", func(r *Record) { r.Held = true }); err == nil || l.Observe()["vm"].Record.Held {
		t.Errorf("update: %v", err)
	}
	exit := l.stop("vm", press(testPatience))
	if exit.Cause != CauseStopped || exit.Rung != RungACPI {
		t.Errorf("exit: %s", asJSON(exit))
	}
	mend()
	if got := l.onDisk("vm"); got.Process == nil || got.Process.PID != before.Process.PID {
		t.Fatalf("the disk was not broken: %s", asJSON(got))
	}
	for _, name := range []string{"vm", "late"} {
		l.find(name).tend(time.Now(), false)
	}
	if got := l.onDisk("vm"); got.Process != nil || got.LastExit == nil || got.LastExit.Rung != RungACPI {
		t.Errorf("not brought up to date: %s", asJSON(got))
	}
	if got := l.onDisk("late"); got.Failure == "" {
		t.Errorf("not brought up to date: %s", asJSON(got))
	}
	must(t, l.Start(t.Context(), startOf(late)))
}

// breakDisk makes every write of a record fail until mend is called. A file is in
// the way of the keeper, who would make the directory anew.
func breakDisk(t *testing.T, layout Layout) (mend func()) {
	t.Helper()
	away := layout.TasksDir() + ".away"
	must(t, os.Rename(layout.TasksDir(), away))
	must(t, os.WriteFile(layout.TasksDir(), nil, 0o600))
	return func() {
		must(t, os.Remove(layout.TasksDir()))
		must(t, os.Rename(away, layout.TasksDir()))
	}
}

// TestFullDiskAfterExec: a VM whose start could be announced and then not be
// recorded runs on and is known; the record follows.
func TestFullDiskAfterExec(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	m := l.ensure("vm")
	s := &start{m: m, req: startOf(l.task("vm", guest.Button)), files: map[int]*os.File{}}
	defer s.close()
	s.upToAnnounce(t)
	if got := l.onDisk("vm"); got.Intent == nil || got.Intent.Kind != IntentStart || got.Intent.SocketInode == 0 || got.Process != nil {
		t.Fatalf("announced: %s", asJSON(got))
	}
	mend := breakDisk(t, l.layout)
	must(t, s.launch())
	o := l.answering("vm")
	mend()
	if got := l.onDisk("vm"); got.Process != nil {
		t.Fatalf("the disk was not broken: %s", asJSON(got))
	}
	m.tend(time.Now(), false)
	if got := l.onDisk("vm"); got.Intent != nil || got.Process == nil || got.Process.PID != o.Record.Process.PID || !got.Process.Answered {
		t.Errorf("not brought up to date: %s", asJSON(got))
	}
}

// upToAnnounce does all of a start but the launch.
func (s *start) upToAnnounce(t *testing.T) {
	t.Helper()
	emulator := func() error { return s.emulator(t.Context()) }
	for _, step := range []func() error{s.allocate, s.bind, emulator, s.image, s.portsFree, s.prepare, s.announce} {
		must(t, step())
	}
}

// TestDeathBeforeExec: a daemon that died between the announcement and the exec
// left nothing that runs, and the task starts as if nothing had been.
func TestDeathBeforeExec(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	task := l.task("vm", guest.Button)
	s := &start{m: l.ensure("vm"), req: startOf(task), files: map[int]*os.File{}}
	s.upToAnnounce(t)
	l.reopen(s.close)
	if o := l.Observe()["vm"]; o.Alive || o.Record.Intent != nil || o.Record.LastExit != nil || o.Record.Applied == nil {
		t.Errorf("found: %s", asJSON(o))
	}
	l.start(task)
}
