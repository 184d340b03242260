package runtime

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/qemu-reconciler/qemu-reconciler/spec"
)

// What is remembered of the directory outlives the daemon, also for who looks
// from outside. What cannot be known is not nothing, once there are VMs to lose.
func TestDirectoryRemembered(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	here := spec.DirectoryID{Device: 77, Inode: 5, Born: 1234}
	expect := func(when string, want *spec.DirectoryID) {
		t.Helper()
		if diff := cmp.Diff(want, l.HeldDirectory()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", when, diff)
		}
		snapshot, err := View(t.Context(), l.layout)
		must(t, err)
		if diff := cmp.Diff(want, snapshot.Held); diff != "" {
			t.Errorf("%s, from outside (-want +got):\n%s", when, diff)
		}
	}
	expect("nothing is recorded", nil)
	must(t, l.RememberDirectory("/vms.d", here))
	expect("still nothing is recorded", nil)
	must(t, l.Update("web", func(rec *Record) { rec.Held = true }))
	expect("as it was told", &here)

	stamp := func() fs.FileInfo {
		info, err := os.Stat(l.layout.Directory())
		must(t, err)
		return info
	}
	first := stamp()
	must(t, l.RememberDirectory("/vms.d", here))
	if again := stamp(); !os.SameFile(first, again) || first.Mode().Perm() != 0o600 {
		t.Errorf("written again though nothing changed, or of mode %v", first.Mode())
	}
	l.reopen(func() {})
	expect("after a restart", &here)

	for _, text := range []string{"{", `{"version": 9, "dir": "/vms.d", "device": 77, "inode": 5, "born": 1234}`} {
		must(t, os.WriteFile(l.layout.Directory(), []byte(text), 0o600))
		expect("from "+text, &spec.DirectoryID{})
	}
	var refused *NewerError
	if err := l.RememberDirectory("/vms.d", here); !errors.As(err, &refused) {
		t.Errorf("over a newer file: %v", err)
	}
	must(t, os.WriteFile(l.layout.Directory(), []byte(`{"version": 1, "dir": "/vms.d", "device": 77}`), 0o600))
	expect("from an early file", &spec.DirectoryID{Device: 77})
	must(t, os.Remove(l.layout.Directory()))
	expect("from a lost file", &spec.DirectoryID{})
	must(t, l.RememberDirectory("/vms.d", here))
	expect("told again", &here)
	must(t, l.Close())
	if err := l.RememberDirectory("/elsewhere", here); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

func TestBorn(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "vms.d")
	born := func() int64 {
		must(t, os.Mkdir(dir, 0o755))
		must(t, os.WriteFile(filepath.Join(dir, "a.hcl"), nil, 0o600))
		f, err := os.Open(dir)
		must(t, err)
		defer f.Close()
		at := Born(f)
		must(t, os.RemoveAll(dir))
		must(t, f.Close())
		if Born(f) != 0 {
			t.Error("a closed file was born")
		}
		return at
	}
	first := born()
	if first == 0 {
		t.Skip("the file system of the test's directory does not know")
	}
	if age := time.Since(time.Unix(0, first)); age < -time.Minute || age > time.Minute {
		t.Errorf("born %s ago", age)
	}
	<-time.After(50 * time.Millisecond) // more than a tick of the kernel's clock
	if again := born(); again <= first {
		t.Errorf("born at %d, and made anew at %d", first, again)
	}
}
