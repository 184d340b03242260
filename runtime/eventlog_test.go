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
