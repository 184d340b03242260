package spec

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
)

// TestRules loads the task files of each archive in testdata/rules, and
// compares what a person would be told and which tasks are left. Images below
// /missing do not exist; "offline" in the archive's first line leaves the host
// out.
func TestRules(t *testing.T) {
	archives(t, "rules", func(t *testing.T, path string, archive *txtar.Archive) {
		dir := t.TempDir()
		for _, f := range archive.Files {
			if strings.HasSuffix(f.Name, ".hcl") {
				write(t, dir, f.Name, string(f.Data))
			}
		}
		opts := LoaderOptions{Dir: dir, HostName: "host1.example.org", HostArch: "x86_64"}
		if first, _, _ := strings.Cut(string(archive.Comment), "\n"); !strings.Contains(first, "offline") {
			opts.Host = missingBelow{newFakeHost()}
		}
		set := LoadDir(opts)
		if set.Err != nil {
			t.Fatal(set.Err)
		}
		var b strings.Builder
		for _, f := range set.Files {
			b.WriteString(rendered(f.Errors))
			if len(f.Faulty) > 0 {
				fmt.Fprintf(&b, "faulty in %s: %s\n", f.Path, strings.Join(f.Faulty, " "))
			}
			for _, e := range f.Errors {
				if e.File != f.Path || e.Line == 0 || e.Task == "" {
					t.Errorf("an error without file, line or task: %+v", e)
				}
			}
		}
		fmt.Fprintf(&b, "sound: %s\n", strings.Join(names(set), " "))
		golden(t, path, archive, "want", b.String())
	})
}

// missingBelow has every image that is not below /missing.
type missingBelow struct{ *fakeHost }

func (h missingBelow) Image(path string) (ImageInfo, error) {
	h.all = !strings.HasPrefix(path, "/missing/")
	return h.fakeHost.Image(path)
}

func TestLoadPaths(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "a.hcl", task("a", 512))
	write(t, dir, "copy.hcl", task("a", 512))
	write(t, dir, "b.conf", task("b", 512))
	// Written just now: validate judges it all the same.
	if err := os.WriteFile(filepath.Join(dir, "young.hcl"), []byte(task("young", 512)), 0o644); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	at := func(name string) string { return filepath.Join(dir, name) }
	tests := []struct {
		name  string
		paths []string
		want  []string
	}{
		{"a file alone", []string{at("a.hcl")}, []string{"a=512, 0 errors"}},
		{"whatever its name", []string{at("b.conf")}, []string{"b=512, 0 errors"}},
		{"the directory", []string{dir}, []string{"young=512, 2 errors"}},
		{"the directory twice, also by another name", []string{dir, dir + "/.", link}, []string{"young=512, 2 errors"}},
		{"the directory and files in it", []string{at("a.hcl"), dir, at("b.conf")}, []string{"b=512 young=512, 2 errors"}},
		{"files of one directory are judged together", []string{at("a.hcl"), at("b.conf"), at("copy.hcl"), at("a.hcl")}, []string{"b=512, 2 errors"}},
		{"each path that cannot be found", []string{at("nowhere.hcl"), at("young.hcl"), at("none")},
			[]string{"no such file or directory", "young=512, 0 errors", "no such file or directory"}},
		{"nothing", nil, nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			sets := LoadPaths(test.paths, LoaderOptions{HostName: "host1", HostArch: "x86_64"})
			var got []string
			for _, set := range sets {
				if set.Err != nil {
					got = append(got, set.Err.Error()[strings.LastIndex(set.Err.Error(), ": ")+2:])
					continue
				}
				if set.Dir != dir || set.Unsettled {
					t.Errorf("%+v", set)
				}
				errors := 0
				for _, f := range set.Files {
					errors += len(f.Errors)
				}
				got = append(got, fmt.Sprintf("%s, %d errors", strings.Join(names(set), " "), errors))
			}
			if strings.Join(got, "\n") != strings.Join(test.want, "\n") {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

// TestFileAloneKnowsItsDirectory holds that relative paths mean the same as in
// a run over the whole directory.
func TestFileAloneKnowsItsDirectory(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "a.hcl", strings.Replace(task("a", 512), "/img/a", "disks/a.img", 1))
	t.Chdir(dir)
	for _, path := range []string{"a.hcl", "."} {
		set := LoadPaths([]string{path}, LoaderOptions{HostName: "host1", HostArch: "x86_64"})[0]
		if len(set.Definitions) != 1 {
			t.Fatalf("%s: %+v", path, set)
		}
		if got, want := set.Definitions[0].Task.Config.ImagePath, filepath.Join(dir, "disks/a.img"); got != want {
			t.Errorf("%s: image %q, want %q", path, got, want)
		}
	}
}
