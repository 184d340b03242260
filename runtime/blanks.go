package runtime

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// blanksKept is how many files are kept that were records and are to be records
// again, each in its turn: whoever has a record open has the time of so many writes
// to read it in.
const blanksKept = 16

// blankPrefix begins their names. What else is in their directory is not ours.
const blankPrefix = "blank-"

// blanks are the files that records are written into before they change places with
// those that they replace, which are the next blanks. A new file for each write
// would cost many times as much:
//
//   - ext4 sends the bytes of a new file that replaces another one to the disk at
//     once (auto_da_alloc), and those of a file that was emptied, too;
//   - before it gives a new file an inode, ext4 looks at all that were deleted within
//     the last minutes, one after another (recently_deleted, fs/ext4/ialloc.c).
//
// So a blank is written over as it is. After a power cut a record may have its old
// bytes, those of another or a mixture; its seal and the durable copy show that, and
// the copy stands in.
type blanks struct {
	dir  string
	kept chan string // the oldest first
	// useless is set where files cannot change places: on a file system that knows
	// of no such thing, or when the directories are on two.
	useless atomic.Bool
}

func newBlanks(dir string) *blanks {
	return &blanks{dir: dir, kept: make(chan string, blanksKept+writesAtOnce)}
}

// replace writes a blank, and has it and a record change places. When it says that it
// did not, the record is as it was: there is none yet, or this is no way to write it.
func (b *blanks) replace(path string, raw []byte) bool {
	info, err := os.Lstat(path)
	if b.useless.Load() || err != nil || !info.Mode().IsRegular() {
		return false
	}
	file, err := b.take(int64(len(raw)))
	if err != nil || fill(file, path, raw, nil) != nil {
		return false
	}
	err = unix.Renameat2(unix.AT_FDCWD, file.Name(), unix.AT_FDCWD, path, unix.RENAME_EXCHANGE)
	if slices.Contains([]error{unix.EINVAL, unix.ENOSYS, unix.EXDEV}, err) {
		b.useless.Store(true)
	}
	if err != nil || !b.keep(file.Name()) {
		os.Remove(file.Name())
	}
	return err == nil
}

// take gives a file of so many bytes at most, to be written over.
func (b *blanks) take(length int64) (*os.File, error) {
	if len(b.kept) >= blanksKept {
		path := <-b.kept
		if file := reopen(path, length); file != nil {
			return file, nil
		}
		os.Remove(path)
	}
	return os.CreateTemp(b.dir, blankPrefix+"*")
}

// reopen opens a file that was a record, and cuts it to a length; nil when it is none,
// or has another name as well.
func reopen(path string, length int64) *os.File {
	file, err := os.OpenFile(path, os.O_WRONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil
	}
	info, err := file.Stat()
	sound := err == nil && info.Mode().IsRegular() && info.Sys().(*syscall.Stat_t).Nlink == 1
	if sound && info.Size() > length {
		sound = file.Truncate(length) == nil
	}
	if !sound {
		file.Close()
		return nil
	}
	return file
}

// keep makes a file a blank, unless there are enough.
func (b *blanks) keep(path string) bool {
	select {
	case b.kept <- path:
		return true
	default:
		return false
	}
}

// find takes over the blanks of an earlier daemon and gives the highest number of
// what they hold. Later writes have higher ones, lest a power cut make that the
// latest word on a task of the same name. Where there is no directory for blanks,
// records are new files.
func (b *blanks) find() (highest uint64) {
	for len(b.kept) > 0 {
		<-b.kept
	}
	entries, _ := os.ReadDir(b.dir)
	for _, entry := range entries {
		if !strings.HasPrefix(entry.Name(), blankPrefix) || !entry.Type().IsRegular() {
			continue
		}
		path := filepath.Join(b.dir, entry.Name())
		if b.keep(path) {
			highest = max(highest, numberIn(path))
		} else {
			os.Remove(path)
		}
	}
	return highest
}
