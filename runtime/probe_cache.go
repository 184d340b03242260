package runtime

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/google/renameio/v2"
)

// probeCacheVersion changes with the questions that are asked of a binary: an
// answer to other questions is worth nothing.
const probeCacheVersion = 1

// probeCache is the file in which answers are kept.
type probeCache struct {
	Version int           `json:"version"`
	Entries []cachedProbe `json:"emulators"`
}

type cachedProbe struct {
	stamp
	answer
}

// load takes over the answers of an earlier life. All in the file can be asked
// again, so a file that cannot be used is no error.
func (f *Fingerprint) load() {
	if f.cacheFile == "" {
		return
	}
	raw, err := os.ReadFile(f.cacheFile)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			f.log.Debug("emulator cache not read", "error", err)
		}
		return
	}
	var cache probeCache
	if err := json.Unmarshal(raw, &cache); err != nil || cache.Version != probeCacheVersion {
		f.log.Debug("emulator cache not used", "path", f.cacheFile, "version", cache.Version, "error", err)
		return
	}
	for _, entry := range cache.Entries {
		q := &inquiry{done: make(chan struct{}), answer: entry.answer, at: time.Now(), known: true}
		close(q.done)
		f.probes[entry.stamp] = q
	}
}

// save keeps all answers so far. It makes no directory: a command that only
// looks must leave nothing behind where no daemon has been.
func (f *Fingerprint) save() {
	if f.cacheFile == "" {
		return
	}
	f.saving.Lock()
	defer f.saving.Unlock()
	raw, err := json.Marshal(probeCache{Version: probeCacheVersion, Entries: f.answers()})
	if err == nil {
		err = renameio.WriteFile(f.cacheFile, raw, 0o600)
	}
	if err != nil {
		f.log.Debug("emulator cache not written", "error", err)
	}
}

// answers lists what is known, by path.
func (f *Fingerprint) answers() []cachedProbe {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []cachedProbe
	for stamp, q := range f.probes {
		if q.known {
			out = append(out, cachedProbe{stamp, q.answer})
		}
	}
	slices.SortFunc(out, func(a, b cachedProbe) int { return strings.Compare(a.Path, b.Path) })
	return out
}
