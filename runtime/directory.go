package runtime

import (
	"errors"
	"sync"
)

// directoryVersion is the version of the file that is written here.
const directoryVersion = 1

// directoryFile remembers across daemons which device the task directory was
// on: an unmounted mount point looks like a directory that was emptied.
type directoryFile struct {
	note[rememberedDirectory]
	mu sync.Mutex
}

type rememberedDirectory struct {
	Version int    `json:"version"`
	Dir     string `json:"dir"`
	Device  uint64 `json:"device"`
}

func newDirectoryNote(path string) note[rememberedDirectory] {
	return note[rememberedDirectory]{path: path, version: directoryVersion}
}

// DirectoryDevice gives the device (st_dev) that a task directory was last seen
// on; zero when it is not known.
func (r *Runtime) DirectoryDevice(dir string) uint64 {
	r.directory.mu.Lock()
	defer r.directory.mu.Unlock()
	known, err := r.directory.read()
	if err != nil {
		r.log.Warn("it is not known where the task directory was", "error", err)
		return 0
	}
	if known.Dir != dir {
		return 0
	}
	return known.Device
}

// RememberDirectory notes durably which device a task directory is on. It is
// for one directory: another one takes its place. Nothing is written when
// nothing changed.
func (r *Runtime) RememberDirectory(dir string, device uint64) error {
	done, err := r.enter()
	if err != nil {
		return err
	}
	defer done()
	r.directory.mu.Lock()
	defer r.directory.mu.Unlock()
	known, err := r.directory.read()
	var newer *NewerError
	if errors.As(err, &newer) {
		return err
	}
	wanted := rememberedDirectory{Version: directoryVersion, Dir: dir, Device: device}
	if err == nil && known == wanted {
		return nil
	}
	return r.directory.write(wanted)
}
