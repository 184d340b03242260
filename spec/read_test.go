package spec

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// plainUser is the variable that tells a re-executed test that it is the child
// with the plain user's rights.
const plainUser = "SPEC_TEST_PLAIN_USER_DIR"

// asPlainUser runs the calling test again as a user whom permissions concern:
// root reads everything. It gives the directory to the child, and reports
// whether this is the child.
func asPlainUser(t *testing.T, prepare func(dir string)) (dir string, child bool) {
	t.Helper()
	if dir := os.Getenv(plainUser); dir != "" {
		return dir, true
	}
	dir = t.TempDir()
	// The parent of a test's directory is closed to others.
	for _, d := range []string{filepath.Dir(dir), dir} {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	prepare(dir)
	// Through /proc, since the way to the test binary is closed to others too.
	cmd := exec.Command("/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.count=1")
	cmd.Env = append(os.Environ(), plainUser+"="+dir)
	cmd.Dir = dir
	if os.Geteuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	}
	out, err := cmd.CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("PASS")) {
		t.Errorf("as a plain user: %v\n%s", err, out)
	}
	return dir, false
}

func TestUnreadable(t *testing.T) {
	dir, child := asPlainUser(t, func(dir string) {
		write(t, dir, "open.hcl", "# readable\n")
		write(t, dir, "shut.hcl", "# not readable\n")
		write(t, dir, "inner.hcl", "# behind a closed directory\n")
		for _, err := range []error{
			os.Chmod(filepath.Join(dir, "shut.hcl"), 0),
			os.MkdirAll(filepath.Join(dir, "closed", "vms.d"), 0o755),
			os.Rename(filepath.Join(dir, "inner.hcl"), filepath.Join(dir, "closed", "inner.hcl")),
			os.Symlink("closed/inner.hcl", filepath.Join(dir, "behind.hcl")),
			os.Mkdir(filepath.Join(dir, "nolist"), 0o311),
			os.Chmod(filepath.Join(dir, "closed"), 0),
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
	})
	if !child {
		// Otherwise the test's directory could not be removed.
		if err := os.Chmod(filepath.Join(dir, "closed"), 0o700); err != nil {
			t.Fatal(err)
		}
		return
	}
	loader := offline(dir)
	for range 2 {
		set := loader.Load()
		if set.Err != nil || len(set.Files) != 3 {
			t.Fatalf("%+v", set)
		}
		for _, f := range set.Files {
			denied := len(f.Errors) == 1 && f.Errors[0].Summary == "Cannot read file" && strings.Contains(f.Errors[0].Detail, "permission denied")
			if want := f.Path != "open.hcl"; denied != want {
				t.Errorf("%s: %v", f.Path, f.Errors)
			}
		}
	}
	if loader.Parsed() != 1 {
		t.Errorf("parsed %d files, want the readable one", loader.Parsed())
	}
	for _, name := range []string{"nolist", "closed/vms.d"} {
		set := offline(filepath.Join(dir, name)).Load()
		if !errors.Is(set.Err, os.ErrPermission) || set.Files != nil || set.Definitions != nil {
			t.Errorf("%s: %+v", name, set)
		}
	}
}

// TestReadProblems changes a file between the look at it and its reading: what
// comes out is one content, whole, or none.
func TestReadProblems(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "x.hcl")
	write(t, dir, "x.hcl", strings.Repeat("#", maxFileSize))
	src, _, err := readFile(path, nil)
	if err != nil || len(src) != maxFileSize {
		t.Errorf("exactly 1 MiB: %d bytes, %v", len(src), err)
	}
	// It grows once it has been looked at.
	_, _, err = readFile(path, func(*os.File, stamp) bool {
		f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := f.WriteString("##"); err != nil {
			t.Fatal(err)
		}
		return true
	})
	if !errors.Is(err, errWriting) {
		t.Errorf("a file that grows while it is read: %v", err)
	}
	// It is replaced and unlinked once it is open: the old content is whole.
	write(t, dir, "x.hcl", "# old\n")
	src, _, err = readFile(path, func(*os.File, stamp) bool {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		return true
	})
	if err != nil || string(src) != "# old\n" {
		t.Errorf("a file that is unlinked while it is read: %q, %v", src, err)
	}
	if _, _, err = readFile(path, nil); !errors.Is(err, errVanished) {
		t.Errorf("a file that is gone: %v", err)
	}
	var problem *fileProblem
	if _, _, err = readFile("/proc/kallsyms", nil); !errors.As(err, &problem) || problem.summary != "File too large" {
		t.Errorf("a file that says it is empty and goes on: %v", err)
	}
}

func TestTaskFileNames(t *testing.T) {
	for name, want := range map[string]bool{
		"a.hcl": true, "a b.hcl": true, "a.b.hcl": true, "é.hcl": true, "-.hcl": true,
		".hcl": false, ".a.hcl": false, "#a.hcl": false, "#a.hcl#": false, "a.hcl~": false, "a.HCL": false, "ahcl": false, "a.hcl.tmp": false,
	} {
		if isTaskFile(name) != want {
			t.Errorf("%q: %v", name, !want)
		}
	}
}

// TestReadNeverWaits holds that a file which has its readers wait, though it
// looks like a regular one (/proc/kmsg), is not waited for: one such file would
// stop the whole loop.
func TestReadNeverWaits(t *testing.T) {
	silent, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	defer writer.Close()
	if _, err := writer.WriteString("# and then nothing"); err != nil {
		t.Fatal(err)
	}
	at, err := fstat(silent)
	if err != nil {
		t.Fatal(err)
	}
	failed := make(chan error, 1)
	go func() {
		_, _, err := readOpen(silent, at)
		failed <- err
	}()
	select {
	case err := <-failed:
		if problem := (*fileProblem)(nil); !errors.As(err, &problem) || problem.summary != "Cannot read file" {
			t.Errorf("%v", err)
		}
	case <-time.After(20 * time.Second):
		t.Error("it is waited for")
	}
}
