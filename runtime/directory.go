package runtime

import (
	"errors"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/qemu-reconciler/qemu-reconciler/spec"
)

// directoryVersion is the version of the file that is written here.
const directoryVersion = 1

// directoryFile remembers across daemons which directory held the task files: an
// unmounted mount point looks like a directory that was emptied.
type directoryFile struct {
	note[rememberedDirectory]
	mu sync.Mutex
}

// rememberedDirectory is a spec.DirectoryID. Dir is the path that led there.
// Inode and Born are missing in early files: such a one tells nothing.
type rememberedDirectory struct {
	Version int    `json:"version"`
	Dir     string `json:"dir"`
	Device  uint64 `json:"device"`
	Inode   uint64 `json:"inode"`
	Born    int64  `json:"born"`
}

func newDirectoryNote(path string) note[rememberedDirectory] {
	return note[rememberedDirectory]{path: path, version: directoryVersion}
}

// held is what spec.LoaderOptions.Held shall be. While no task is recorded an
// empty directory costs no VM, and any may be believed.
func (d rememberedDirectory) held(recorded int) *spec.DirectoryID {
	if recorded == 0 {
		return nil
	}
	return &spec.DirectoryID{Device: d.Device, Inode: d.Inode, Born: d.Born}
}

// HeldDirectory gives the directory that held the task files last, as
// spec.LoaderOptions has it.
func (r *Runtime) HeldDirectory() *spec.DirectoryID {
	r.directory.mu.Lock()
	defer r.directory.mu.Unlock()
	known, err := r.directory.read()
	if err != nil {
		r.log.Warn("it is not known which directory held the task files: an empty one stops nothing", "error", err)
	}
	return known.held(len(r.Observe()))
}

// RememberDirectory notes durably which directory holds the task files, and the
// path to it. Nothing is written when nothing changed.
func (r *Runtime) RememberDirectory(dir string, held spec.DirectoryID) error {
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
	wanted := rememberedDirectory{Version: directoryVersion, Dir: dir, Device: held.Device, Inode: held.Inode, Born: held.Born}
	if err == nil && known == wanted {
		return nil
	}
	return r.directory.write(wanted)
}

// Born gives the time at which an open file was made, in nanoseconds since 1970,
// and zero where the kernel or the file system does not know.
func Born(f *os.File) (nanoseconds int64) {
	raw, err := f.SyscallConn()
	if err != nil {
		return 0
	}
	_ = raw.Control(func(fd uintptr) {
		var stat unix.Statx_t
		err := unix.Statx(int(fd), "", unix.AT_EMPTY_PATH, unix.STATX_BTIME, &stat)
		if err == nil && stat.Mask&unix.STATX_BTIME != 0 {
			nanoseconds = stat.Btime.Sec*1e9 + int64(stat.Btime.Nsec)
		}
	}) // fails on a closed file, of which nothing is known
	return nanoseconds
}
