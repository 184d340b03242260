package spec

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// many makes a directory with n task files of one task each.
func many(t testing.TB, n int) string {
	t.Helper()
	dir := t.TempDir()
	for i := range n {
		name := fmt.Sprintf("vm%05d", i)
		write(t, dir, name+".hcl", task(name, 512))
	}
	return dir
}

// TestUnchangedPass holds that a pass over many unchanged tasks parses
// nothing, asks the host nothing, and takes not much longer than to list the
// directory and look at each file.
func TestUnchangedPass(t *testing.T) {
	const n = 3000
	dir, host := many(t, n), newFakeHost()
	host.all = true
	loader := NewLoader(LoaderOptions{Dir: dir, HostName: "host1", HostArch: "x86_64", Host: host,
		Now: func() time.Time { return time.Now().Add(time.Hour) }})
	if set := loader.Load(); len(set.Definitions) != n {
		t.Fatalf("%d of %d tasks, first error %v", len(set.Definitions), n, set.Files[0].Errors)
	}
	parsed, looks := loader.Parsed(), host.looks
	if parsed != n || looks != n {
		t.Errorf("the first pass parsed %d files and asked for %d images, want %d", parsed, looks, n)
	}
	pass := func() { loader.Load() }
	bare := func() {
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if _, err := os.Stat(filepath.Join(dir, e.Name())); err != nil {
				t.Fatal(err)
			}
		}
	}
	// The quickest of several, since anything may get in the way of one.
	var passTime, bareTime time.Duration = time.Hour, time.Hour
	for range 7 {
		passTime, bareTime = min(passTime, took(pass)), min(bareTime, took(bare))
	}
	t.Logf("a pass over %d unchanged files takes %v, a bare look at them %v", n, passTime, bareTime)
	if passTime > 3*bareTime {
		t.Errorf("a pass takes %v, more than three times the %v of a bare look", passTime, bareTime)
	}
	if loader.Parsed() != parsed || host.looks != looks {
		t.Errorf("unchanged passes parsed %d files and asked for %d images", loader.Parsed()-parsed, host.looks-looks)
	}

	write(t, dir, "vm00042.hcl", task("vm00042", 1024))
	loader.Load()
	if loader.Parsed() != parsed+1 || host.looks != looks+1 {
		t.Errorf("one edit parsed %d files and asked for %d images, want 1", loader.Parsed()-parsed, host.looks-looks)
	}
}

func took(f func()) time.Duration {
	began := time.Now()
	f()
	return time.Since(began)
}

// TestSwapNeverLosesATask swaps the directory's symlink as fast as it can,
// between two directories that have a task in common under different file
// names: no Load may miss it, nor mix the two.
func TestSwapNeverLosesATask(t *testing.T) {
	root := t.TempDir()
	for rev, files := range map[string][]string{"rev1": {"a", "common"}, "rev2": {"common", "z"}} {
		dir := filepath.Join(root, rev)
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		for _, name := range files {
			write(t, dir, rev+"-"+name+".hcl", task(name, 512))
		}
	}
	link := filepath.Join(root, "vms.d")
	swap := func(rev string) {
		if err := os.Symlink(rev, link+".tmp"); err != nil {
			t.Error(err)
		}
		if err := os.Rename(link+".tmp", link); err != nil {
			t.Error(err)
		}
	}
	swap("rev1")
	loader, stop := offline(link), make(chan struct{})
	var swapping sync.WaitGroup
	swapping.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
				swap([]string{"rev1", "rev2"}[i%2])
			}
		}
	})
	saw := map[string]int{}
	for range 300 {
		set := loader.Load()
		saw[fmt.Sprintf("%s, error %v, broken %v", strings.Join(names(set), " "), set.Err, set.Broken())]++
	}
	close(stop)
	swapping.Wait()
	delete(saw, "a=512 common=512, error <nil>, broken false")
	delete(saw, "common=512 z=512, error <nil>, broken false")
	if len(saw) > 0 {
		t.Errorf("neither of the two directories: %v", saw)
	}
}

// TestYoungFile holds that a file which was read just after it changed is
// looked into again: a second change within one tick of the clock leaves the
// stamp as it was. The clock stands still at the file's time here.
func TestYoungFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.hcl")
	write(t, dir, "a.hcl", task("a", 512))
	at, err := statFile(path)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Unix(0, at.ctime)
	loader := NewLoader(LoaderOptions{Dir: dir, HostName: "host1", HostArch: "x86_64", Now: func() time.Time { return now }})
	first := loader.Load()
	if got := names(first); !slices.Equal(got, []string{"a=512"}) {
		t.Fatalf("%v", got)
	}
	// The same size, and a stamp that is made to look the same.
	if err := os.WriteFile(path, []byte(task("a", 768)), 0o644); err != nil {
		t.Fatal(err)
	}
	mtime := time.Unix(0, at.mtime)
	if err := os.Chtimes(path, mtime, mtime); err != nil {
		t.Fatal(err)
	}
	after, err := statFile(path)
	if err != nil {
		t.Fatal(err)
	}
	loader.entries["a.hcl"].stamp = after
	if got := names(loader.Load()); !slices.Equal(got, []string{"a=768"}) {
		t.Errorf("the second change was missed: %v", got)
	}
	parsed := loader.Parsed()
	loader.Load()
	if loader.Parsed() != parsed {
		t.Error("a young file with the same content was parsed again")
	}
	if got := names(first); !slices.Equal(got, []string{"a=512"}) {
		t.Errorf("an earlier set changed afterwards: %v", got)
	}
}

// TestErrorInBetweenForgetsNothing holds that what one Load noticed before it
// failed is in the next that succeeds.
func TestErrorInBetweenForgetsNothing(t *testing.T) {
	root := t.TempDir()
	dir := filepath.Join(root, "vms.d")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, dir, "a.hcl", task("a", 512))
	loader := offline(dir)
	loader.Load()
	for _, err := range []error{os.Rename(dir, dir+".away"), os.WriteFile(dir, nil, 0o644)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if set := loader.Load(); set.Err == nil {
		t.Fatal("a file was taken for a directory")
	}
	write(t, dir+".away", "a.hcl", task("a", 768))
	for _, err := range []error{os.Remove(dir), os.Rename(dir+".away", dir)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if got := names(loader.Load()); !slices.Equal(got, []string{"a=768"}) {
		t.Errorf("%v", got)
	}
}

// FuzzLoadDir holds what must be true of any two files whatsoever: the loader
// does not panic, every sound task is in one file and in no Faulty, an error
// always has its file's name, and looking again parses nothing.
func FuzzLoadDir(f *testing.F) {
	f.Add(task("a", 512), task("b", 512))
	f.Add(task("a", 512), task("a", 512))
	f.Add(task("a", 5), "")
	f.Add("task \"a\" {", "\xff\x00")
	f.Add(strings.Replace(task("a", 512), "512", `file("two.hcl")`, 1), `locals { a = file("one.hcl") }`)
	f.Fuzz(func(t *testing.T, one, two string) {
		dir := t.TempDir()
		write(t, dir, "one.hcl", one)
		write(t, dir, "two.hcl", two)
		host := newFakeHost()
		host.all = true
		loader := NewLoader(LoaderOptions{Dir: dir, HostName: "host1", HostArch: "x86_64", Host: host,
			Now: func() time.Time { return time.Now().Add(time.Hour) }})
		set := loader.Load()
		if set.Err != nil || len(set.Files) != 2 {
			t.Fatalf("%+v", set)
		}
		for _, file := range set.Files {
			for _, e := range file.Errors {
				if e.File != file.Path || e.Summary == "" {
					t.Errorf("%s: %+v", file.Path, e)
				}
			}
			for _, d := range set.Definitions {
				if slices.Contains(file.Faulty, d.Task.Name) {
					t.Errorf("%q is sound and faulty", d.Task.Name)
				}
				if d.File != "one.hcl" && d.File != "two.hcl" || !slices.ContainsFunc(set.Files, func(f File) bool { return f.Path == d.File }) {
					t.Errorf("%q is from %q", d.Task.Name, d.File)
				}
				for _, e := range file.Errors {
					if e.Task == d.Task.Name {
						t.Errorf("%q is sound in spite of %v", d.Task.Name, e)
					}
				}
			}
		}
		for i := 1; i < len(set.Definitions); i++ {
			if set.Definitions[i-1].Task.Name >= set.Definitions[i].Task.Name {
				t.Errorf("not sorted or not unique: %v", names(set))
			}
		}
		if loader.Load(); loader.Parsed() != 2 {
			t.Errorf("parsed %d files", loader.Parsed())
		}
		// Who waits for nothing comes to the same in the end.
		patient := impatient(dir)
		patient.judge = newJudge(host, patient.opts.crashed)
		late := until(t, patient, "end", func(set *Set) bool { return !set.Unsettled })
		if !slices.Equal(names(late), names(set)) || late.Broken() != set.Broken() || len(late.Files) != 2 {
			t.Errorf("%v at once, %v in the end", names(set), names(late))
		}
	})
}
