package runtime

import (
	"errors"
	"fmt"
	"maps"
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
	// Lost says why it is not known what was held and approved before; empty when
	// it is.
	Lost string `json:"lost,omitempty"`
}

// Equal says whether both are the same but for their versions.
func (r Removals) Equal(other Removals) bool {
	return r.holdsLike(other) && maps.Equal(r.Begun, other.Begun)
}

// holdsLike says whether both hold the same for the same reason.
func (r Removals) holdsLike(other Removals) bool {
	return r.Lost == other.Lost && maps.Equal(r.Held, other.Held)
}

// Supersedes says whether a next daemon would go wrong with what was remembered
// before: others are held, or a removal that had begun is over.
func (r Removals) Supersedes(before Removals) bool {
	for task := range before.Begun {
		if _, still := r.Begun[task]; !still {
			return true
		}
	}
	return !r.holdsLike(before)
}

// HeldRemoval is a removal that the brake holds.
type HeldRemoval struct {
	// Since is when the task was missed, and Ran how many VMs ran then.
	Since time.Time `json:"since"`
	Ran   int       `json:"ran"`
	// Approved is an operator's word that it may go.
	Approved bool `json:"approved,omitempty"`
}

// BegunRemoval is a removal that was decided and is over when its file is back, or
// some time after the task is gone.
type BegunRemoval struct {
	At time.Time `json:"at"`
	// Ran is how many VMs ran when the task was missed.
	Ran int `json:"ran"`
	// StartedAt is that of the process to be stopped, and tells it from all others of
	// its task; zero when there was none.
	StartedAt time.Time `json:"started_at,omitzero"`
	// Approved is an operator's word that it may go.
	Approved bool `json:"approved,omitempty"`
}

// removalsFile keeps Removals in the state directory.
type removalsFile struct {
	*note[Removals]
	mu sync.Mutex
}

func newRemovalsNote(path string) *note[Removals] {
	return &note[Removals]{path: path, version: removalsVersion}
}

// Removals gives what was remembered last. When that is lost (the file makes no
// sense, which is set aside and told, or is gone while there are records), the
// answer says so, and goes on saying so in later lives of the daemon. An error
// means that it cannot be known now what is held.
func (r *Runtime) Removals() (Removals, error) {
	r.removals.mu.Lock()
	defer r.removals.mu.Unlock()
	known, err := readRemovals(r.removals.note, len(r.list()))
	var newer *NewerError
	var unreadable *os.PathError
	switch {
	case errors.As(err, &newer), errors.As(err, &unreadable):
		return known, err
	case err != nil:
		aside := r.removals.path + ".corrupt-" + time.Now().UTC().Format(asideStamp)
		if renamed := os.Rename(r.removals.path, aside); renamed != nil {
			return Removals{}, fmt.Errorf("%w, and it cannot be set aside: %w", err, renamed)
		}
		known = Removals{Lost: err.Error()}
		r.Event(EventRecordCorrupt, "", fmt.Sprintf("%v; set aside as %s", err, aside), nil)
	case r.removals.latest != nil:
		return known, nil
	}
	// From now on there is a file, so that its loss shows. One that cannot be
	// written is written when there is something to remember.
	known.Version = removalsVersion
	if err := r.removals.write(known); err != nil {
		r.log.Warn("it is not written down which removals are held", "error", err)
	}
	return known, nil
}

// readRemovals reads the file of a state directory with so many records.
func readRemovals(n *note[Removals], records int) (Removals, error) {
	known, err := n.read()
	if err == nil && n.latest == nil && records > 0 {
		known.Lost = n.path + " is gone"
	}
	return known, err
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
