package runtime

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/hashicorp/go-hclog"

	"github.com/qemu-reconciler/qemu-reconciler/spec"
)

// worrying are the types of events that an operator may have to act upon, the
// reconciler's among them.
var worrying = map[string]bool{
	EventStartFailed: true, EventRecordCorrupt: true, EventPaused: true, EventStateRemoved: true, EventLost: true,
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
		args = append(args, "task", oneLine(e.Task))
	}
	facts := plainFacts(e.Facts)
	for _, key := range slices.Sorted(maps.Keys(facts)) {
		if value := facts[key]; value != nil && value != "" {
			args = append(args, key, harmless(value))
		}
	}
	// A message is written as it is.
	log.Log(level, oneLine(e.Message), args...)
}

// oneLine makes a text one line that steers no terminal.
func oneLine(text string) string {
	return strings.ReplaceAll(spec.Printable(text), "\n", " ")
}

// harmless is a value as the log may have it: the logger quotes texts, but not
// those inside lists and maps.
func harmless(value any) any {
	switch v := value.(type) {
	case []any:
		out := make([]any, len(v))
		for i, element := range v {
			out[i] = inner(element)
		}
		return out
	case map[string]any:
		out := make(map[string]any, len(v))
		for key, element := range v {
			out[oneLine(key)] = inner(element)
		}
		return out
	}
	return value
}

func inner(value any) any {
	if text, ok := value.(string); ok {
		return oneLine(text)
	}
	return harmless(value)
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

// complaint is a fault that lasts and is met again and again: it is told when it
// begins, when it becomes another one, and when it ends.
type complaint struct {
	mu   sync.Mutex
	text string
}

// note takes the latest outcome, and says whether it is another one than before.
func (c *complaint) note(err error) (before string, changed bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	before, c.text = c.text, ""
	if err != nil {
		c.text = err.Error()
	}
	return before, c.text != before
}
