package runtime

import (
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// blanksOf are the blanks of a store.
func blanksOf(t *testing.T, s *Store) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(s.layout.BlanksDir(), blankPrefix+"*"))
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
	files := func() []uint64 {
		var inodes []uint64
		for _, path := range append(blanksOf(t, s), s.layout.Record("web")) {
			info, err := os.Stat(path)
			must(t, err)
			inodes = append(inodes, inode(info))
		}
		slices.Sort(inodes)
		return inodes
	}
	put(0)
	for i := range blanksKept {
		put(i)
	}
	all := files()
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
	if diff := cmp.Diff(all, files()); diff != "" || len(all) != blanksKept+1 {
		t.Errorf("%d files, and then others: %s", len(all), diff)
	}
}

// TestBlanksOutliveADaemon: the next one writes over those of the last one and over
// nothing else that it finds there, and its writes have higher numbers than what they
// hold.
func TestBlanksOutliveADaemon(t *testing.T) {
	t.Parallel()
	s := testStore(t)
	for range 2 * blanksKept {
		must(t, s.Put(&Record{Version: 1, Task: "gone"}, false))
	}
	must(t, s.Delete("gone"))
	before := blanksOf(t, s)
	oldest := slices.MinFunc(before, func(a, b string) int { return int(numberIn(a)) - int(numberIn(b)) })
	must(t, os.WriteFile(oldest, []byte("never finished"), 0o600))
	pipe, foreign := filepath.Join(s.layout.BlanksDir(), blankPrefix+"pipe"), filepath.Join(s.layout.BlanksDir(), "notes.txt")
	must(t, unix.Mkfifo(pipe, 0o600))
	must(t, os.WriteFile(foreign, []byte("of somebody"), 0o600))
	highest := uint64(0)
	for _, path := range before {
		highest = max(highest, numberIn(path))
	}
	if highest != 2*blanksKept-1 {
		t.Errorf("the highest number is %d", highest)
	}
	s = OpenStore(s.layout)
	for range 2 {
		_, err := s.Load()
		must(t, err)
	}
	for range 2 * blanksKept {
		must(t, s.Put(&Record{Version: 1, Task: "web"}, false))
	}
	if _, seal, err := readRecord(s.layout.Record("web"), "web"); err != nil || seal.Number <= highest {
		t.Errorf("a write after number %d: %+v, %v", highest, seal, err)
	}
	if diff := cmp.Diff(append(before, pipe), blanksOf(t, s)); diff != "" {
		t.Error(diff)
	}
	if text, err := os.ReadFile(foreign); err != nil || string(text) != "of somebody" {
		t.Errorf("a file of somebody is now %q, %v", text, err)
	}
}

// TestWithoutBlanks: a record is a new file each time where there is no directory for
// blanks, and where it is on another file system.
func TestWithoutBlanks(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(dir string){
		"in the way": func(dir string) { must(t, os.WriteFile(dir, nil, 0o600)) },
		"elsewhere":  func(dir string) { must(t, os.Symlink("/dev/shm", dir)) },
	} {
		s := testStore(t)
		must(t, os.Remove(s.layout.BlanksDir()))
		spoil(s.layout.BlanksDir())
		must(t, s.layout.Prepare())
		for i := range 2 * blanksKept {
			must(t, s.Put(&Record{Version: 1, Task: "web", Restarts: i}, false))
		}
		record, _, err := readRecord(s.layout.Record("web"), "web")
		if err != nil || record.Restarts != 2*blanksKept-1 {
			t.Errorf("%s: %+v, %v", name, record, err)
		}
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
