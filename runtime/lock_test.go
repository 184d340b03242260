package runtime

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestLockNamesTheHolder(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	layout := Layout{State: filepath.Join(dir, "state"), Run: filepath.Join(dir, "run")}
	other := runOther(t, childOrder{Layout: layout})
	for name, mine := range map[string]Layout{
		"both":           layout,
		"state only":     {State: layout.State, Run: filepath.Join(dir, "run2")},
		"sockets only":   {State: filepath.Join(dir, "state2"), Run: layout.Run},
		"by other paths": {State: filepath.Join(layout.State, "..", "state"), Run: layout.Run},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			began := time.Now()
			_, err := Open(t.Context(), Options{Layout: mine})
			var locked *LockedError
			if !errors.As(err, &locked) || locked.PID != other.pid() || !strings.Contains(err.Error(), "pid "+itoa(other.pid())) {
				t.Fatalf("open: %v; pid %d has it", err, other.pid())
			}
			if waited := time.Since(began); waited < lockPatience {
				t.Errorf("a dying predecessor would have been waited for for %v only", waited)
			}
		})
	}
}

func TestLockWaitsForDyingPredecessor(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*otherDaemon){"killed": (*otherDaemon).kill, "dismissed": (*otherDaemon).dismiss} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			layout := Layout{State: filepath.Join(dir, "state"), Run: filepath.Join(dir, "run")}
			other := runOther(t, childOrder{Layout: layout})
			if _, err := tryLock(layout.StateLock()); err == nil {
				t.Fatal("two have the lock")
			}
			go end(other)
			r, err := Open(t.Context(), Options{Layout: layout})
			must(t, err)
			must(t, r.Close())
		})
	}
}

// TestLockOutlivesALook: a lock that is taken anew on the very file that is
// locked, since a look at it failed, was never let go of; one whose file is gone
// is on the file that came in its place, and on that alone.
func TestLockOutlivesALook(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	layout := Layout{State: filepath.Join(dir, "state"), Run: filepath.Join(dir, "run")}
	must(t, layout.Prepare())
	held, err := tryLock(layout.RunLock())
	must(t, err)
	for range 2 {
		must(t, held.renew(layout.RunLock()))
		if pid := tellLocked(t, layout); pid != os.Getpid() {
			t.Errorf("the lock is that of %d", pid)
		}
	}
	must(t, os.Remove(layout.RunLock()))
	must(t, held.renew(layout.RunLock()))
	if pid := tellLocked(t, layout); pid != os.Getpid() || !held.current(layout.RunLock()) {
		t.Errorf("the new file is locked by %d", pid)
	}
	must(t, held.release())
	if err := openElsewhere(t, Layout{State: t.TempDir(), Run: layout.Run}); err != nil {
		t.Errorf("it was released: %v", err)
	}
}

// TestLooksThatFail: a path that cannot be looked at tells nothing of what was
// there; the keeper makes nothing anew for it, and once it can be looked at again
// all is as before. A lock file that is gone is another matter.
func TestLooksThatFail(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.cancel() // this test is the keeper
	l.tasks.Wait()
	for _, dir := range []string{l.layout.State, l.layout.Run} {
		must(t, os.Rename(dir, dir+".away"))
		must(t, os.Symlink(dir, dir)) // ELOOP
	}
	l.keepStateDirectory()
	l.keepRunDirectory()
	for _, dir := range []string{l.layout.State, l.layout.Run} {
		must(t, os.Remove(dir))
		must(t, os.Rename(dir+".away", dir))
	}
	l.keepStateDirectory()
	l.keepRunDirectory()
	if text := l.log.String(); strings.Contains(text, "removed") {
		t.Errorf("told: %s", text)
	}
	must(t, os.Remove(l.layout.RunLock()))
	l.keepRunDirectory()
	if pid := tellLocked(t, l.layout); pid != os.Getpid() {
		t.Errorf("the run directory is locked by %d", pid)
	}
}

func TestViewNamesTheDaemon(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	layout := Layout{State: filepath.Join(dir, "state"), Run: filepath.Join(dir, "run")}
	other := runOther(t, childOrder{Layout: layout})
	snapshot, err := View(t.Context(), layout)
	must(t, err)
	if snapshot.DaemonPID != other.pid() {
		t.Errorf("daemon: %d, want %d", snapshot.DaemonPID, other.pid())
	}
	other.kill()
	snapshot, err = View(t.Context(), layout)
	must(t, err)
	if snapshot.DaemonPID != 0 {
		t.Errorf("daemon: %d after its end", snapshot.DaemonPID)
	}
}
