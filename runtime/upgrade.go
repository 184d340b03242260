package runtime

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/qemu-reconciler/qemu-reconciler/spec"
)

// An upgrade turns a record as JSON of one version into the next version.
type upgrade func(document map[string]json.RawMessage) error

// upgrades has at index i the step from version i+1 to version i+2. Whoever
// raises RecordVersion adds one, and a golden file of the version before.
var upgrades []upgrade

// errAnothers is what is wrong with a record that names another task.
var errAnothers = errors.New("it is the record of another task")

// readRecord reads one record file, and what seals it. The error is a *fs.PathError
// when it cannot be read, a *NewerError when it is not ours to read, and any other
// when it makes no sense.
func readRecord(path, task string) (*Record, seal, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, seal{}, err
	}
	record, seal, err := decodeRecord(raw, upgrades)
	var newer *NewerError
	if errors.As(err, &newer) {
		newer.Path = path
		return nil, seal, newer
	}
	if err == nil {
		err = seal.broken(raw)
	}
	if err == nil && record.Task != task {
		err = fmt.Errorf("%w: %q", errAnothers, record.Task)
	}
	if err != nil {
		return nil, seal, fmt.Errorf("record of %s is corrupt: %w", task, err)
	}
	return record, seal, nil
}

// decodeRecord makes a Record of the current version, which is the one that
// the chain ends at. The seal is as it stands there.
func decodeRecord(raw []byte, chain []upgrade) (*Record, seal, error) {
	var head struct {
		Version int  `json:"version"`
		Seal    seal `json:"seal"`
	}
	if err := json.Unmarshal(raw, &head); err != nil {
		return nil, seal{}, err
	}
	current := len(chain) + 1
	if head.Version > current {
		return nil, head.Seal, &NewerError{Version: head.Version, Known: current}
	}
	if head.Version < 1 {
		return nil, head.Seal, fmt.Errorf("version %d does not exist", head.Version)
	}
	if head.Version < current {
		upgraded, err := upgradeRecord(raw, chain[head.Version-1:])
		if err != nil {
			return nil, head.Seal, fmt.Errorf("upgrade from version %d: %w", head.Version, err)
		}
		raw = upgraded
	}
	record := &Record{}
	if err := json.Unmarshal(raw, record); err != nil {
		return nil, head.Seal, err
	}
	record.Version = current
	return record, head.Seal, checkRecord(record)
}

func upgradeRecord(raw []byte, steps []upgrade) ([]byte, error) {
	document := map[string]json.RawMessage{}
	if err := json.Unmarshal(raw, &document); err != nil {
		return nil, err
	}
	for _, step := range steps {
		if err := step(document); err != nil {
			return nil, err
		}
	}
	return json.Marshal(document)
}

// checkRecord refuses what no version of this program wrote, before anybody
// acts on it.
func checkRecord(r *Record) error {
	if r.Task == "" {
		return errors.New("it names no task")
	}
	for label, port := range r.Ports {
		if port < 1 || port > 65535 {
			return fmt.Errorf("port %q is %d", label, port)
		}
	}
	if p := r.Process; p != nil && (p.PID <= 0 || p.BootID == "" || len(p.Argv) == 0) {
		return errors.New("its process has no identity")
	}
	if i := r.Intent; i != nil && i.Kind != IntentStart && i.Kind != IntentStop {
		return fmt.Errorf("intent %q does not exist", i.Kind)
	}
	for _, definition := range []*spec.Task{r.Wanted, r.Applied} {
		if definition != nil && definition.Name != r.Task {
			return fmt.Errorf("it has a definition of task %q", definition.Name)
		}
	}
	return nil
}
