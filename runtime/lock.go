package runtime

import (
	"context"
	"errors"
	"fmt"
	"io"
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
type lock struct{ file *os.File }

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
	file, err := openPrivate(path, os.O_RDWR|os.O_CREATE)
	if err != nil {
		return nil, err
	}
	request := wholeFile()
	err = unix.FcntlFlock(file.Fd(), unix.F_SETLK, &request)
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
		pid := holderOf(file)
		file.Close()
		return nil, &LockedError{Path: path, PID: pid}
	}
	if err != nil {
		file.Close()
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return &lock{file: file}, nil
}

func (l *lock) release() error { return l.file.Close() }

// current says whether the lock is still on the file at the path: one that was
// removed keeps nobody off.
func (l *lock) current(path string) bool {
	mine, errMine := l.file.Stat()
	there, errThere := os.Stat(path)
	return errMine == nil && errThere == nil && os.SameFile(mine, there)
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
