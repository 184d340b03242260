package runtime

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Waits of the lock.
const (
	// lockPatience is how long a predecessor that is dying is waited for.
	lockPatience = 2 * time.Second
	lockInterval = 20 * time.Millisecond
)

// LockedError says that another daemon has the directory.
type LockedError struct {
	// Path is the lock file.
	Path string
	// PID is the holder, or zero when the kernel does not say (it sits in
	// another pid namespace).
	PID int
}

func (e *LockedError) Error() string {
	if e.PID == 0 {
		return fmt.Sprintf("%s is locked by another daemon", e.Path)
	}
	return fmt.Sprintf("%s is locked by another daemon, pid %d", e.Path, e.PID)
}

// lock is a POSIX record lock on a file. Unlike flock it is not inherited by a
// child between fork and exec, and the kernel tells who holds it (fcntl(2)).
// The price: it is per process, so whoever closes any descriptor of the file
// in the same process lets go of it.
type lock struct {
	file *os.File
	// kept are further descriptors of what may be the same file: they stay open
	// as long as the lock is held.
	kept []*os.File
}

// acquireLock takes the lock, waiting for a predecessor that is dying. The
// error is a *LockedError when it is held on.
func acquireLock(ctx context.Context, path string) (*lock, error) {
	ctx, cancel := context.WithTimeout(ctx, lockPatience)
	defer cancel()
	ticker := time.NewTicker(lockInterval)
	defer ticker.Stop()
	for {
		held, err := tryLock(path)
		var locked *LockedError
		if !errors.As(err, &locked) {
			return held, err
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-ticker.C:
		}
	}
}

func tryLock(path string) (*lock, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := claim(file, path); err != nil {
		file.Close()
		return nil, err
	}
	return &lock{file: file}, nil
}

// claim locks an open file, which is this user's alone whatever the umask. The
// file stays open, also when it cannot be had.
func claim(file *os.File, path string) error {
	if err := file.Chmod(0o600); err != nil {
		return err
	}
	request := wholeFile()
	err := unix.FcntlFlock(file.Fd(), unix.F_SETLK, &request)
	switch {
	case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EACCES):
		return &LockedError{Path: path, PID: holderOf(file)}
	case err != nil:
		return fmt.Errorf("lock %s: %w", path, err)
	}
	return nil
}

// renew takes the lock on the file that is at the path now. That may be the
// file that is locked already, when it came back or a look at it failed: then
// nothing is closed, for that would let go of the lock.
func (l *lock) renew(path string) error {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	spare, old := file, l.file
	if err = claim(file, path); err == nil {
		l.file, spare = file, old
	}
	if surelyDiffer(file, old) {
		return errors.Join(err, spare.Close())
	}
	l.kept = append(l.kept, spare)
	return err
}

func surelyDiffer(a, b *os.File) bool {
	infoA, errA := a.Stat()
	infoB, errB := b.Stat()
	return errA == nil && errB == nil && !os.SameFile(infoA, infoB)
}

func (l *lock) release() error {
	errs := []error{l.file.Close()}
	for _, file := range l.kept {
		errs = append(errs, file.Close())
	}
	return errors.Join(errs...)
}

// current says whether the lock is still on the file at the path: one that was
// removed keeps nobody off.
func (l *lock) current(path string) bool { return leadsTo(path, l.file) }

// leadsTo says whether a path still leads to what is open. A look that fails
// tells nothing: only what is not there, or is something else, does not.
func leadsTo(path string, open *os.File) bool {
	there, err := os.Stat(path)
	if err != nil {
		return !errors.Is(err, fs.ErrNotExist)
	}
	mine, err := open.Stat()
	return err == nil && os.SameFile(mine, there)
}

// lockHolder is the pid that holds the lock, or zero. It must not be asked by
// a process that holds the lock itself.
func lockHolder(path string) int {
	file, err := os.Open(path)
	if err != nil {
		return 0
	}
	defer file.Close()
	return holderOf(file)
}

func holderOf(file *os.File) int {
	request := wholeFile()
	if err := unix.FcntlFlock(file.Fd(), unix.F_GETLK, &request); err != nil || request.Type == unix.F_UNLCK {
		return 0
	}
	return int(max(request.Pid, 0))
}

func wholeFile() unix.Flock_t {
	return unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart}
}
