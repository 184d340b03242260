package spec

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestEmptyMountPointAfterARestart follows a loader's memory into the next
// one: an emptied directory is empty, an empty one elsewhere is not mounted.
func TestEmptyMountPointAfterARestart(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "a.hcl", task("a", 512))
	var told []uint64
	next := func(device uint64) *Loader {
		return NewLoader(LoaderOptions{Dir: dir, HostName: "host1", HostArch: "x86_64", Device: device,
			Remember: func(d uint64) { told = append(told, d) }})
	}
	first := next(0)
	first.Load()
	first.Load()
	at, err := statFile(dir)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]uint64{at.dev}, told); diff != "" {
		t.Fatal(diff)
	}
	if err := os.Remove(filepath.Join(dir, "a.hcl")); err != nil {
		t.Fatal(err)
	}
	if set := next(at.dev).Load(); set.Err != nil {
		t.Errorf("emptied where it was: %v", set.Err)
	}
	if set := next(0).Load(); set.Err != nil {
		t.Errorf("empty, and never known: %v", set.Err)
	}
	elsewhere := next(at.dev + 1)
	if set := elsewhere.Load(); !errors.Is(set.Err, errEmptyMount) {
		t.Errorf("an empty mount point reads as emptied: %v", set.Err)
	}
	// The way out that the error names.
	write(t, dir, "empty.hcl", "# nothing here\n")
	if set := elsewhere.Load(); set.Err != nil || len(told) != 2 || told[1] != at.dev {
		t.Errorf("a comment does not make it a directory: %v, told %v", set.Err, told)
	}
}

// TestDeviceIsTheTaskDirectorys holds that `validate DIR` of another directory
// does not take it for an unmounted one.
func TestDeviceIsTheTaskDirectorys(t *testing.T) {
	dir, other := t.TempDir(), t.TempDir()
	opts := LoaderOptions{Dir: dir, HostName: "host1", HostArch: "x86_64", Device: 1 << 40}
	sets := LoadPaths([]string{dir, other}, opts)
	if !errors.Is(sets[0].Err, errEmptyMount) || sets[1].Err != nil {
		t.Errorf("got %v and %v", sets[0].Err, sets[1].Err)
	}
}
