package runtime

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"time"
)

// removalsVersion is the version of the file that is written here.
const removalsVersion = 1

// Removals is what the brake on mass removals remembers from one life of the
// daemon to the next. It is a value: who changes it makes another.
type Removals struct {
	Version int `json:"version"`
	// Held are the removals that wait to be approved, and those that were and
	// have not begun yet.
	Held map[string]HeldRemoval `json:"held,omitempty"`
	// Begun are the removals that began lately or are still under way.
	Begun map[string]BegunRemoval `json:"begun,omitempty"`
}

// HeldRemoval is a removal that the brake holds.
type HeldRemoval struct {
	// Since is when the task was missed, and Ran how many VMs ran then.
	Since time.Time `json:"since"`
	Ran   int       `json:"ran"`
	// Approved is an operator's word that it may go.
	Approved bool `json:"approved,omitempty"`
}

// BegunRemoval is a removal whose stop has begun.
type BegunRemoval struct {
	At time.Time `json:"at"`
	// Ran is how many VMs ran when the task was missed.
	Ran int `json:"ran"`
}

// removalsFile keeps Removals in the state directory.
type removalsFile struct {
	*note[Removals]
	mu sync.Mutex
}

func newRemovalsNote(path string) *note[Removals] {
	return &note[Removals]{path: path, version: removalsVersion}
}

// Removals gives what was remembered last. A file that makes no sense is set
// aside and told, and nothing is remembered; what is held is missed again soon
// enough. Any other error means that it is not known what is held.
func (r *Runtime) Removals() (Removals, error) {
	r.removals.mu.Lock()
	defer r.removals.mu.Unlock()
	known, err := r.removals.read()
	var newer *NewerError
	var unreadable *os.PathError
	if err == nil || errors.As(err, &newer) || errors.As(err, &unreadable) {
		return known, err
	}
	aside := r.removals.path + ".corrupt-" + time.Now().UTC().Format(asideStamp)
	if renamed := os.Rename(r.removals.path, aside); renamed != nil {
		return Removals{}, fmt.Errorf("%w, and it cannot be set aside: %w", err, renamed)
	}
	r.Event(EventRecordCorrupt, "", fmt.Sprintf("%v; set aside as %s", err, aside), nil)
	return Removals{}, nil
}

// RememberRemovals notes durably what the brake has to know.
func (r *Runtime) RememberRemovals(removals Removals) error {
	done, err := r.enter()
	if err != nil {
		return err
	}
	defer done()
	r.removals.mu.Lock()
	defer r.removals.mu.Unlock()
	removals.Version = removalsVersion
	return r.removals.write(removals)
}
