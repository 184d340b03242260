package runtime

import (
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestMountWatch(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root may mount")
	}
	w, err := WatchMounts()
	must(t, err)
	dir := t.TempDir()
	expect := func(what string) {
		t.Helper()
		select {
		case <-w.Changed():
		case <-time.After(10 * time.Second):
			t.Fatalf("%s was not seen", what)
		}
	}
	for range 3 {
		must(t, unix.Mount("none", dir, "tmpfs", 0, ""))
		expect("a mount")
		must(t, unix.Unmount(dir, 0))
		expect("an unmount")
	}
	must(t, w.Close())
}

func TestSilentFileSystem(t *testing.T) {
	if kind := SilentFileSystem(t.TempDir()); kind != "" {
		t.Errorf("the temporary directory is on %s", kind)
	}
	if kind := SilentFileSystem("/no/such/directory"); kind != "" {
		t.Errorf("nothing is on %s", kind)
	}
}

func TestWatchFault(t *testing.T) {
	for _, err := range []error{nil, unix.ENOENT, fmt.Errorf("wrapped: %w", unix.ENOTDIR), unix.EACCES} {
		if fault := WatchFault(err); fault != nil {
			t.Errorf("%v is a fault: %v", err, fault)
		}
	}
	for _, err := range []error{unix.ENOSPC, unix.EMFILE, unix.ENOMEM} {
		if fault := WatchFault(err); !errors.Is(fault, err) {
			t.Errorf("%v became %v", err, fault)
		}
	}
}
