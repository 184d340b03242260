package runtime

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/qemu-reconciler/qemu-reconciler/internal/guest"
)

// TestRunDirectorySwept: what nobody has a record or a process of goes, and
// nothing else.
func TestRunDirectorySwept(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.start(l.task("vm", guest.Deaf))
	must(t, l.Update("idle", func(r *Record) { r.Held = true }))
	for _, task := range []string{"idle", "forgotten", "stranger"} {
		must(t, l.layout.PrepareTask(task))
		must(t, os.WriteFile(l.layout.QMPLog(task), nil, 0o600))
	}
	foreign, _, err := ListenUnix(l.layout.QMPSocket("stranger"))
	must(t, err)
	defer foreign.Close()
	dead, _, err := ListenUnix(l.layout.QMPSocket("forgotten"))
	must(t, err)
	must(t, dead.Close())
	l.reopen(func() {})
	for task, stays := range map[string]bool{"vm": true, "idle": true, "stranger": true, "forgotten": false} {
		if _, err := os.Stat(l.layout.VMDir(task)); (err == nil) != stays {
			t.Errorf("%s: %v", task, err)
		}
	}
	l.answering("vm")
}

// TestRunDirectoryRemoved: it is made anew, and locked, and VMs that run say
// what they lost; what starts afterwards has all it needs.
func TestRunDirectoryRemoved(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	info := l.start(l.task("vm", guest.Button)).Record.Process
	l.says("vm", guest.SaysReady)
	// In one step, as an unmounted tmpfs goes.
	must(t, os.Rename(l.layout.Run, filepath.Join(l.images, "aside")))
	o := l.until("vm", "trouble", func(o Observation) bool { return o.Trouble != "" })
	if !o.Alive || !o.Answering || !strings.Contains(o.Trouble, "removed with the run directory") {
		t.Errorf("without its sockets: %s", asJSON(o))
	}
	for _, dir := range []string{l.layout.Run, l.layout.VMsDir()} {
		if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
			t.Errorf("%s: %v, %v", dir, info, err)
		}
	}
	if other := tellLocked(t, l.layout); other != os.Getpid() {
		t.Errorf("the new directory is locked by %d", other)
	}
	l.start(l.task("later", guest.Deaf))
	if o := l.Observe()["later"]; o.Trouble != "" {
		t.Errorf("later: %s", asJSON(o))
	}
	if n := strings.Count(l.log.String(), "run directory was removed"); n != 1 {
		t.Errorf("told %d times", n)
	}
	l.sameProcess("vm", info)
	if exit := l.stop("vm", press(testPatience)); exit.Rung != RungACPI { // the session lasts
		t.Errorf("exit: %s", asJSON(exit))
	}
	if o := l.start(l.task("vm", guest.Deaf)); o.Trouble != "" {
		t.Errorf("started anew: %s", asJSON(o))
	}
}

// tellLocked asks in another process who has the run directory, since a process
// does not see its own locks.
func tellLocked(t *testing.T, layout Layout) int {
	t.Helper()
	other := Layout{State: t.TempDir(), Run: layout.Run}
	var locked *LockedError
	if err := openElsewhere(t, other); !errors.As(err, &locked) {
		t.Fatalf("another daemon: %v", err)
	}
	return locked.PID
}
