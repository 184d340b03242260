package scale

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"syscall"
	"time"
)

// look makes the daemon look at everything, as nothing and as one file has
// changed. How long its passes take stands in its log.
func (m *measurement) look(ctx context.Context) error {
	if err := m.configure("debug"); err != nil {
		return err
	}
	err := m.passes(ctx, "look", "pass over everything, nothing changed", 0, func(int) error { return nil })
	if err != nil {
		return err
	}
	err = m.passes(ctx, "look-changed", "pass over everything, one file changed", 1, func(i int) error {
		return m.world.edit(0, 128, fmt.Sprint("look ", i))
	})
	if err != nil {
		return err
	}
	return errors.Join(m.bare(), m.configure("warn"), m.daemon.Process.Signal(syscall.SIGHUP))
}

// lookedLine is what the log says of a pass that looked at the directory.
var lookedLine = regexp.MustCompile(`looked: files=(\d+) parsed=(\d+) took=(\S+)`)

// passes times some of those that parse so many files.
func (m *measurement) passes(ctx context.Context, id, name string, parsed int, change func(int) error) error {
	var took []time.Duration
	want := []string{strconv.Itoa(m.tasks), strconv.Itoa(parsed)}
	for i := range looks {
		if _, err := m.rested(ctx); err != nil {
			return err
		}
		seen, err := os.Stat(m.log.Name())
		if err != nil {
			return err
		}
		if err := errors.Join(change(i), m.daemon.Process.Signal(syscall.SIGHUP)); err != nil {
			return err
		}
		err = m.await(ctx, fmt.Sprintf("pass over %s files that parses %s", want[0], want[1]), func() (bool, error) {
			text, err := os.ReadFile(m.log.Name())
			if err != nil {
				return false, err
			}
			for _, line := range lookedLine.FindAllStringSubmatch(string(text[seen.Size():]), -1) {
				if !slices.Equal(line[1:3], want) {
					continue
				}
				text := line[3]
				if plain, err := strconv.Unquote(text); err == nil { // as µs is
					text = plain
				}
				one, err := time.ParseDuration(text)
				took = append(took, one)
				return true, err
			}
			return false, nil
		})
		if err != nil {
			return err
		}
	}
	slices.Sort(took)
	m.add(id, name, "ms", milliseconds(took[len(took)/2]), true)
	return nil
}

// bare is the least that a look can be: the names in the directory, and a stat of
// each.
func (m *measurement) bare() error {
	var took []time.Duration
	for range looks {
		began := time.Now()
		entries, err := os.ReadDir(m.path("vms.d"))
		if err != nil {
			return err
		}
		for _, entry := range entries {
			if _, err := os.Stat(m.path("vms.d", entry.Name())); err != nil {
				return err
			}
		}
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	m.add("bare", "readdir and stat, for comparison", "ms", milliseconds(took[len(took)/2]), true)
	return nil
}
