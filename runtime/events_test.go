package runtime

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestEventLine(t *testing.T) {
	t.Parallel()
	e := LogEvent{
		Time: time.Date(2026, 1, 2, 3, 4, 5, 0, time.FixedZone("X", 3600)), Type: EventExited, Task: "web", Message: "line\n\"two\"",
		Facts: map[string]any{"pid": 7, "cause": CauseCrashed},
	}
	raw, err := e.MarshalJSON()
	must(t, err)
	want := `{"time":"2026-01-02T02:04:05Z","type":"exited","task":"web","message":"line\n\"two\"","cause":"crashed","pid":7}`
	if string(raw) != want {
		t.Errorf("%s\nwant\n%s", raw, want)
	}
	for name, facts := range map[string]map[string]any{"fixed field": {"time": 1}, "no JSON": {"f": func() {}}} {
		if raw, err := (LogEvent{Facts: facts}).MarshalJSON(); err == nil {
			t.Errorf("%s: %s", name, raw)
		}
	}
}

func TestEventLogRotates(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "events.jsonl")
	const limit = 4096
	log, err := OpenEventLog(path, limit)
	must(t, err)
	var writers sync.WaitGroup
	for range 4 {
		writers.Go(func() {
			for range 100 {
				if err := log.Append(LogEvent{Time: time.Now(), Type: "t", Message: strings.Repeat("m", 50)}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	writers.Wait()
	must(t, log.Close())
	for _, name := range []string{path, path + previousSuffix} {
		info, err := os.Stat(name)
		must(t, err)
		if info.Size() > limit || info.Size() == 0 || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %d bytes, %v", name, info.Size(), info.Mode())
		}
		if len(readEvents(t, name)) == 0 {
			t.Errorf("%s is empty", name)
		}
	}
	if entries, err := os.ReadDir(filepath.Dir(path)); err != nil || len(entries) != 2 {
		t.Errorf("files: %v, %v", entries, err)
	}
	// One that is larger than the limit alone is written all the same.
	log, err = OpenEventLog(path, 10)
	must(t, err)
	must(t, log.Append(LogEvent{Type: "large"}))
	must(t, log.Close())
	if got := readEvents(t, path); len(got) != 1 || got[0]["type"] != "large" {
		t.Errorf("events: %v", got)
	}
}

// TestEventLogMends: the line of a writer that died spoils no other.
func TestEventLogMends(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "events.jsonl")
	must(t, os.WriteFile(path, []byte(`{"type":"ha`), 0o600))
	log, err := OpenEventLog(path, 4096)
	must(t, err)
	must(t, log.Append(LogEvent{Type: "whole"}))
	must(t, log.Close())
	raw, err := os.ReadFile(path)
	must(t, err)
	lines := strings.Split(strings.TrimSpace(string(raw)), "\n")
	if len(lines) != 2 || !strings.Contains(lines[1], `"whole"`) {
		t.Errorf("lines: %q", lines)
	}
}

// TestEventLogFullDisk: what could not be written is an error, and the log goes
// on when there is room again.
func TestEventLogFullDisk(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	mountFull(t, dir, func() {})
	path := filepath.Join(dir, "events.jsonl")
	log, err := OpenEventLog(path, 1<<20)
	must(t, err)
	defer log.Close()
	filler := filepath.Join(dir, "filler")
	if err := os.WriteFile(filler, make([]byte, 1<<20), 0o600); err == nil {
		t.Fatal("the disk is not full")
	}
	failed := 0
	for range 200 {
		if log.Append(LogEvent{Type: "t", Message: strings.Repeat("m", 50)}) != nil {
			failed++
		}
	}
	if failed == 0 {
		t.Fatal("a full disk takes everything")
	}
	must(t, os.Remove(filler))
	must(t, log.Append(LogEvent{Type: "last"}))
	raw, err := os.ReadFile(path)
	must(t, err)
	lines := strings.Split(strings.TrimSpace(string(raw)), "\n")
	if !strings.HasPrefix(lines[len(lines)-1], "{") || !strings.Contains(lines[len(lines)-1], `"last"`) {
		t.Errorf("last line: %q", lines[len(lines)-1])
	}
}
