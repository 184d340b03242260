package runtime

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// blanksOf are the files beside the records.
func blanksOf(t *testing.T, s *Store) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(s.layout.TasksDir(), temporaryPrefix+"blank-*"))
	must(t, err)
	return paths
}

// TestRecordsAreWrittenOver: from some write on no file is made any more, what is
// longer than its successor leaves nothing behind, and a record that is open is read
// in peace meanwhile.
func TestRecordsAreWrittenOver(t *testing.T) {
	t.Parallel()
	s := testStore(t)
	put := func(i int) {
		record := &Record{Version: 1, Task: "web", Restarts: i, Failure: strings.Repeat("x", 5000*(i%2))}
		must(t, s.Put(record, false))
		stored, err := s.Read()
		must(t, err)
		if diff := cmp.Diff(record, stored.Records["web"]); diff != "" {
			t.Fatalf("write %d: %s", i, diff)
		}
	}
	put(0)
	for i := range 3 * blanksKept {
		reader, err := os.Open(s.layout.Record("web"))
		must(t, err)
		before, err := os.ReadFile(s.layout.Record("web"))
		must(t, err)
		for j := range blanksKept {
			put(i + j + 1)
		}
		after, err := io.ReadAll(reader)
		must(t, err)
		reader.Close()
		if string(before) != string(after) {
			t.Fatalf("a reader got %q instead of %q", after, before)
		}
	}
	if n := len(blanksOf(t, s)); n != blanksKept {
		t.Errorf("%d files are kept", n)
	}
	_, err := s.Load()
	must(t, err)
	if left := blanksOf(t, s); len(left) != 0 {
		t.Errorf("left by a new daemon: %v", left)
	}
}

// TestBlanksAreNobodyElses: only a file that was a record and has no other name is
// written over.
func TestBlanksAreNobodyElses(t *testing.T) {
	t.Parallel()
	s := testStore(t)
	record := s.layout.Record("web")
	writes := func() error {
		var err error
		for range 2 * blanksKept {
			err = s.Put(fullRecord(), false)
		}
		return err
	}
	must(t, writes())
	linked := filepath.Join(t.TempDir(), "linked")
	must(t, os.Link(record, linked))
	before, err := os.ReadFile(linked)
	must(t, err)
	must(t, writes())
	if after, err := os.ReadFile(linked); err != nil || string(after) != string(before) {
		t.Errorf("a file that has two names was written over: %s, %v", after, err)
	}

	// Whatever somebody made of the blanks.
	for i, path := range blanksOf(t, s) {
		must(t, os.Remove(path))
		switch i % 3 {
		case 0:
			must(t, os.Symlink(linked, path))
		case 1:
			must(t, os.Mkdir(path, 0o700))
		}
	}
	must(t, writes())
	if after, err := os.ReadFile(linked); err != nil || string(after) != string(before) {
		t.Errorf("a file was written over through a link: %s, %v", after, err)
	}

	must(t, os.Remove(record))
	must(t, os.MkdirAll(filepath.Join(record, "full"), 0o700))
	if err := writes(); err == nil {
		t.Error("a directory was replaced by a record")
	}
	for _, path := range blanksOf(t, s) {
		if info, err := os.Lstat(path); err != nil || !info.Mode().IsRegular() {
			t.Errorf("%s is kept: %v, %v", path, info, err)
		}
	}
}
