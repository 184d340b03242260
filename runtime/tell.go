package runtime

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"

	"github.com/hashicorp/go-hclog"
)

// worrying are the types of events that an operator may have to act upon, the
// reconciler's among them.
var worrying = map[string]bool{
	EventStartFailed: true, EventRecordCorrupt: true, EventPaused: true,
	"backoff": true, "gave-up": true, "removal-held": true, "dir-missing": true, "file-broken": true, "file-warning": true,
}

// because adds a reason to what happened; there may be none.
func because(what, reason string) string {
	if reason == "" {
		return what
	}
	return what + ": " + reason
}

// tell writes the event as one line of the daemon's log, with those of its
// facts that say something, sorted.
func (e LogEvent) tell(log hclog.Logger) {
	level := hclog.Info
	if worrying[e.Type] {
		level = hclog.Warn
	}
	args := []any{"event", e.Type}
	if e.Task != "" {
		args = append(args, "task", e.Task)
	}
	facts := plainFacts(e.Facts)
	for _, key := range slices.Sorted(maps.Keys(facts)) {
		if value := facts[key]; value != nil && value != "" {
			args = append(args, key, value)
		}
	}
	log.Log(level, e.Message, args...)
}

// plainFacts gives the facts as events.jsonl has them: a logger would print
// where a pointer points to. Facts that cannot be written there are nobody's.
func plainFacts(facts map[string]any) map[string]any {
	raw, err := json.Marshal(facts)
	if err != nil {
		return nil
	}
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber() // a pid is not 1e+06
	var out map[string]any
	if err := decoder.Decode(&out); err != nil {
		return nil
	}
	return out
}
