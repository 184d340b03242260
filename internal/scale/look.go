package scale

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Look is what the daemon's log says of a pass that looked at the task directory.
type Look struct {
	At            time.Time     `json:"@timestamp"` // the end
	Files, Parsed int           // how many there are, and how many were parsed
	Took          time.Duration // the whole pass
}

// Looks are those of which a log tells that is written as JSON at level debug. A
// line that is being written is not among them yet.
func Looks(log string) (looks []Look, err error) {
	for line := range strings.Lines(log) {
		if !strings.Contains(line, `"@message":"looked"`) || !strings.HasSuffix(line, "\n") {
			continue
		}
		var look Look
		if err := json.Unmarshal([]byte(line), &look); err != nil {
			return nil, fmt.Errorf("%w in %s", err, line)
		}
		looks = append(looks, look)
	}
	return looks, nil
}

// fill brings the files of the tasks that are wanted off, and lets the daemon say
// of each pass how long it took.
func (m *measurement) fill(ctx context.Context) error {
	if err := m.configure("debug"); err != nil {
		return err
	}
	later, err := filepath.Glob(m.path("later", "*.hcl"))
	if err != nil {
		return err
	}
	for _, path := range later {
		if err := os.Rename(path, m.path("vms.d", filepath.Base(path))); err != nil {
			return err
		}
	}
	m.off = len(later)
	seen, err := m.logSize()
	if err != nil {
		return err
	}
	if err := m.daemon.Process.Signal(syscall.SIGHUP); err != nil { // which brings the level into force
		return err
	}
	_, err = m.looked(ctx, seen, 0)
	return err
}

// look makes the daemon look at everything, as nothing and as one file has
// changed, each time beside the least that a look can be.
func (m *measurement) look(ctx context.Context) error {
	var bare []float64
	for _, what := range []struct {
		id, name string
		changed  int
		change   func(i int) error
	}{
		{"", "nothing changed", 0, func(int) error { return m.daemon.Process.Signal(syscall.SIGHUP) }},
		{"-changed", "one file changed", 1, func(i int) error { return m.world.edit(0, 128, fmt.Sprint("look ", i)) }},
	} {
		var took, parsed []float64
		for i := range looks {
			one, files, err := m.pass(ctx, what.changed, func() error { return what.change(i) })
			if err != nil {
				return err
			}
			least, err := m.bare()
			if err != nil {
				return err
			}
			took, parsed, bare = append(took, milliseconds(one)), append(parsed, float64(files)), append(bare, milliseconds(least))
		}
		m.add("look"+what.id, "pass over everything, "+what.name, "ms", m.tasks+m.off, took...)
		m.add("parsed"+what.id, "files parsed, "+what.name, "", 0, parsed...)
	}
	m.add("bare", "readdir and stat, for comparison", "ms", m.tasks+m.off, bare...)
	return errors.Join(m.configure("warn"), m.daemon.Process.Signal(syscall.SIGHUP))
}

// pass times the first pass after a change that parses so many files at least, and
// counts the files that are parsed until the daemon rests again.
func (m *measurement) pass(ctx context.Context, changed int, change func() error) (took time.Duration, parsed int, err error) {
	if _, err := m.rested(ctx); err != nil {
		return 0, 0, err
	}
	seen, err := m.logSize()
	if err != nil {
		return 0, 0, err
	}
	if err := change(); err != nil {
		return 0, 0, err
	}
	first, err := m.looked(ctx, seen, changed)
	if err != nil {
		return 0, 0, err
	}
	if _, err := m.rested(ctx); err != nil {
		return 0, 0, err
	}
	all, err := m.looksSince(seen)
	for _, look := range all {
		parsed += look.Parsed
	}
	return first.Took, parsed, err
}

// looked waits for a look at all files of which so many are parsed at least, and
// which the log tells of beyond a place.
func (m *measurement) looked(ctx context.Context, from int64, parsed int) (found Look, err error) {
	files := m.tasks + m.off
	err = m.await(ctx, fmt.Sprintf("look at %d files that parses %d", files, parsed), func() (bool, error) {
		all, err := m.looksSince(from)
		for _, look := range all {
			if look.Files == files && look.Parsed >= parsed {
				found = look
				return true, err
			}
		}
		return false, err
	})
	return found, err
}

func (m *measurement) logSize() (int64, error) {
	info, err := os.Stat(m.log.Name())
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

func (m *measurement) looksSince(from int64) ([]Look, error) {
	text, err := os.ReadFile(m.log.Name())
	if err != nil {
		return nil, err
	}
	return Looks(string(text[from:]))
}

// bare is the least that a look can be: the names in the directory, and a stat of
// each.
func (m *measurement) bare() (time.Duration, error) {
	began := time.Now()
	entries, err := os.ReadDir(m.path("vms.d"))
	if err != nil {
		return 0, err
	}
	for _, entry := range entries {
		if _, err := os.Stat(m.path("vms.d", entry.Name())); err != nil {
			return 0, err
		}
	}
	return time.Since(began), nil
}
