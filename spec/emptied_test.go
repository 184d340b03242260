package spec

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// born is a clock of births that a test sets: file systems give the number of a
// removed directory's inode again, and not each tells the times apart.
type born struct{ at int64 }

func (b *born) of(*os.File) int64 { return b.at }

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
}

// TestEmptied holds that only the directory which held the files can have been
// emptied: any other empty one says nothing, until there is a file in it.
func TestEmptied(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "vms.d")
	made := &born{at: 1}
	mkdir := func() {
		t.Helper()
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	mkdir()
	loader := offline(dir)
	loader.opts.Born = made.of
	expect := func(when string, believed bool) {
		t.Helper()
		set := loader.Load()
		if believed != (set.Err == nil) || set.Err != nil && (!errors.Is(set.Err, errNotFilled) || set.Files != nil) {
			t.Errorf("%s: %v, %v", when, set.Err, set.Files)
		}
	}
	expect("never a file", true)
	write(t, dir, "a.hcl", task("a", 512))
	expect("a file", true)
	remove(t, filepath.Join(dir, "a.hcl"))
	expect("emptied", true)
	write(t, dir, "notes.txt", "no task file")
	expect("emptied but for a note", true)

	remove(t, dir)
	mkdir()
	made.at++
	expect("made anew", false)
	write(t, dir, "notes.txt", "no task file")
	expect("made anew with a note", false)
	expect("the same for long", false)
	write(t, dir, "none.hcl", "# nothing here\n")
	expect("the way out that the error names", true)
	remove(t, filepath.Join(dir, "none.hcl"))
	expect("emptied after it", true)

	if err := os.Rename(dir, dir+".away"); err != nil {
		t.Fatal(err)
	}
	mkdir()
	expect("another inode of the same time", false)
}

// TestEmptiedBeforeTheStart follows a loader's memory into the next one.
func TestEmptiedBeforeTheStart(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "a.hcl", task("a", 512))
	var told []DirectoryID
	made := &born{at: 7}
	next := func(held *DirectoryID) *Loader {
		return NewLoader(LoaderOptions{Dir: dir, HostName: "host1", HostArch: "x86_64", Held: held, Born: made.of,
			Remember: func(d DirectoryID) { told = append(told, d) }})
	}
	first := next(nil)
	first.Load()
	first.Load()
	at, err := statFile(dir)
	if err != nil {
		t.Fatal(err)
	}
	here := DirectoryID{Device: at.dev, Inode: at.ino, Born: 7}
	if diff := cmp.Diff([]DirectoryID{here}, told); diff != "" {
		t.Fatal(diff)
	}
	remove(t, filepath.Join(dir, "a.hcl"))
	for _, c := range []struct {
		what     string
		held     *DirectoryID
		believed bool
	}{
		{"emptied where it was", &here, true},
		{"nothing was ever there", nil, true},
		{"nobody knows any more", &DirectoryID{}, false},
		{"another file system", &DirectoryID{here.Device + 1, here.Inode, here.Born}, false},
		{"another directory", &DirectoryID{here.Device, here.Inode + 1, here.Born}, false},
		{"made anew", &DirectoryID{here.Device, here.Inode, here.Born - 1}, false},
	} {
		if set := next(c.held).Load(); c.believed != (set.Err == nil) {
			t.Errorf("%s: %v", c.what, set.Err)
		}
	}
	if len(told) != 1 {
		t.Errorf("an empty directory was remembered: %v", told)
	}
}

// TestHeldIsTheTaskDirectorys holds that `validate DIR` of another directory
// does not take it for an unmounted one.
func TestHeldIsTheTaskDirectorys(t *testing.T) {
	dir, other := t.TempDir(), t.TempDir()
	opts := LoaderOptions{Dir: dir, HostName: "host1", HostArch: "x86_64", Held: &DirectoryID{}}
	sets := LoadPaths([]string{dir, other}, opts)
	if !errors.Is(sets[0].Err, errNotFilled) || sets[1].Err != nil {
		t.Errorf("got %v and %v", sets[0].Err, sets[1].Err)
	}
}
