package runtime

import (
	"os"
	"path/filepath"
	"testing"
)

// TestEventLogWaits: what a full disk did not take is written, in order, when
// there is room, and what was too much is counted.
func TestEventLogWaits(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "sub", "events.jsonl")
	must(t, os.Mkdir(filepath.Dir(path), 0o700))
	log, err := OpenEventLog(path, 1<<20)
	must(t, err)
	must(t, log.Append(LogEvent{Type: "first"}))
	must(t, os.Rename(filepath.Dir(path), filepath.Join(dir, "away")))
	for range maxWaitingLines + 7 {
		if err := log.Append(LogEvent{Type: "waits"}); err == nil {
			t.Fatal("it was written nowhere")
		}
	}
	must(t, os.Mkdir(filepath.Dir(path), 0o700))
	must(t, log.Flush())
	must(t, log.Append(LogEvent{Type: "last"}))
	must(t, log.Close())
	events := readEvents(t, path)
	if n := len(events); n != maxWaitingLines+2 || events[n-2]["type"] != EventLost || events[n-2]["count"] != 7.0 || events[n-1]["type"] != "last" {
		t.Errorf("%d events, the last: %v", n, events[max(0, n-3):])
	}
	if events := readEvents(t, filepath.Join(dir, "away", "events.jsonl")); len(events) != 1 {
		t.Errorf("moved away: %v", events)
	}
}

// TestEventLogSyncs: what was written is brought to the disk once, also of a file
// that was rotated away meanwhile.
func TestEventLogSyncs(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "events.jsonl")
	log, err := OpenEventLog(path, 100)
	must(t, err)
	disk := newTestDisk()
	log.sync = disk.sync
	for _, step := range []struct {
		appends     int
		files, dirs int
	}{{1, 1, 1}, {0, 0, 0}, {2, 3, 1}, {0, 0, 0}} { // a line fills the file
		for range step.appends {
			must(t, log.Append(LogEvent{Type: "t"}))
		}
		files, dirs := disk.syncs("events"), disk.dirSyncs(dir)
		must(t, log.Sync())
		if files, dirs = disk.syncs("events")-files, disk.dirSyncs(dir)-dirs; files != step.files || dirs != step.dirs || log.lacks() {
			t.Errorf("after %d more events %d files and %d directories were synced, want %d and %d", step.appends, files, dirs, step.files, step.dirs)
		}
	}
	must(t, log.Close())
	disk.cut(t, dir)
	for _, name := range []string{path, path + previousSuffix} {
		if events := readEvents(t, name); len(events) != 1 {
			t.Errorf("%s has %d events, want 1", filepath.Base(name), len(events))
		}
	}
}
