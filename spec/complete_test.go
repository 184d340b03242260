package spec

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestCompleteAt holds that a file of which nobody knows whether it is finished is
// taken after a tenth of a second, and believed to lack a task after some more.
func TestCompleteAt(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.hcl")
	var now time.Time
	busy, known := false, false
	loader := NewLoader(LoaderOptions{Dir: dir, HostName: "host1", HostArch: "x86_64",
		Now: func() time.Time { return now }, Writing: func(*os.File) (bool, bool) { return busy, known }})
	// wrote leaves the file with the times of a plain write, and sets the clock.
	wrote := func(memory int, ago time.Duration) time.Time {
		t.Helper()
		if err := os.WriteFile(path, []byte(task("a", memory)), 0o644); err != nil {
			t.Fatal(err)
		}
		at, err := statFile(path)
		if err != nil || at.mtime != at.ctime {
			t.Fatalf("%+v, %v", at, err)
		}
		now = time.Unix(0, at.mtime).Add(ago)
		return time.Unix(0, at.mtime)
	}
	expect := func(what string, memory int, complete time.Time) {
		t.Helper()
		set := loader.Load()
		if len(set.Definitions) != 1 || set.Definitions[0].Task.Resources.MemoryMiB != memory || set.Unsettled {
			t.Errorf("%s: %v, unsettled %v", what, names(set), set.Unsettled)
		}
		if !set.CompleteAt.Equal(complete) {
			t.Errorf("%s: complete at %v, want %v", what, set.CompleteAt, complete)
		}
	}
	at := wrote(512, settleTime)
	expect("written just now", 512, at.Add(completeTime))
	expect("looked at again", 512, at.Add(completeTime))
	at = wrote(513, settleTime)
	expect("written again", 513, at.Add(completeTime))
	wrote(514, -time.Hour)
	expect("written by another clock", 514, now.Add(completeTime))

	wrote(515, settleTime)
	if err := os.Rename(path, path+".new"); err != nil {
		t.Fatal(err)
	}
	for at, err := statFile(path + ".new"); err == nil && at.ctime == at.mtime; at, err = statFile(path + ".new") {
		if err := os.Chmod(path+".new", 0o644); err != nil { // until a tick of the clock has passed
			t.Fatal(err)
		}
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
	expect("renamed since", 515, time.Time{})

	known = true
	wrote(516, 0)
	expect("with a lease", 516, time.Time{})
	known = false
	at = wrote(517, settleTime)
	expect("without one", 517, at.Add(completeTime))
	write(t, dir, "b.hcl", "# of an hour ago\n")
	expect("beside an old file", 517, at.Add(completeTime))
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if set := loader.Load(); !set.CompleteAt.Before(at) {
		t.Errorf("it is gone, and the set complete at %v", set.CompleteAt)
	}
}
