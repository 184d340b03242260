package runtime

import (
	"errors"
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
