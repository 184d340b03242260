package runtime

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/google/renameio/v2"
)

// note is a small JSON file of the state directory that concerns no single task.
// Its value has a field "version". Writes must not overlap.
type note[T any] struct {
	path string
	// version is the latest that this program knows.
	version int
	// latest is what was read or written last; nil when nothing was.
	latest *T
}

// read gives the zero value when nothing was noted. A *NewerError refuses what
// a later version wrote.
func (n *note[T]) read() (T, error) {
	var value, none T
	var head struct{ Version int }
	raw, err := os.ReadFile(n.path)
	if errors.Is(err, fs.ErrNotExist) {
		return none, nil
	}
	if err != nil {
		return none, err
	}
	err = json.Unmarshal(raw, &head)
	if err == nil && head.Version > n.version {
		return none, &NewerError{Path: n.path, Version: head.Version, Known: n.version}
	}
	if err == nil {
		err = json.Unmarshal(raw, &value)
	}
	if err != nil {
		return none, fmt.Errorf("%s makes no sense: %w", n.path, err)
	}
	n.latest = &value
	return value, nil
}

// write replaces the file atomically. It has reached the disk when write
// returns.
func (n *note[T]) write(value T) error {
	raw, err := json.Marshal(value)
	if err != nil {
		return err
	}
	err = renameio.WriteFile(n.path, append(raw, '\n'), 0o600, renameio.WithStaticPermissions(0o600))
	if err != nil {
		return err
	}
	n.latest = &value
	return syncDir(filepath.Dir(n.path), (*os.File).Sync)
}

// rewrite writes anew what a lost file held.
func (n *note[T]) rewrite() error {
	if n.latest == nil {
		return nil
	}
	return n.write(*n.latest)
}
