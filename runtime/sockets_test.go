package runtime

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func itoa(n int) string { return strconv.Itoa(n) }

func inodeOf(t *testing.T, info fs.FileInfo) uint64 {
	t.Helper()
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		t.Fatal("no inode")
	}
	return stat.Ino
}

// longDir is a directory whose path alone is longer than a socket's may be.
func longDir(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), strings.Repeat("d", 100), strings.Repeat("e", 100))
	must(t, os.MkdirAll(dir, 0o700))
	return dir
}

func TestListenUnixLongPath(t *testing.T) {
	t.Parallel()
	path := filepath.Join(longDir(t), "qmp.sock")
	listener, inode, err := ListenUnix(path)
	must(t, err)
	info, err := listener.Stat()
	must(t, err)
	if inodeOf(t, info) != inode {
		t.Errorf("inode %d, the descriptor's is %d", inode, inodeOf(t, info))
	}
	// Connecting works before anybody accepts.
	conn, err := DialUnix(t.Context(), path)
	must(t, err)
	must(t, conn.Close())
	must(t, listener.Close())
	if err := nobodyListens(t, path); strings.Contains(err.Error(), "/proc/self") || !strings.Contains(err.Error(), path) {
		t.Errorf("the error does not name the socket: %v", err)
	}
	// What is left of it is in nobody's way.
	again, _, err := ListenUnix(path)
	must(t, err)
	must(t, again.Close())
}

// nobodyListens waits until a socket is nobody's any more, and gives the error
// of connecting to it. A process that is being started by another test may hold
// a copy of it from fork to exec.
func nobodyListens(t *testing.T, path string) (refused error) {
	t.Helper()
	eventually(t, "nobody listens at "+path, func() error {
		conn, err := DialUnix(t.Context(), path)
		if refused = err; err != nil {
			return nil
		}
		return errors.Join(errors.New("somebody does"), conn.Close())
	})
	return refused
}

func TestListenUnixIsPrivate(t *testing.T) {
	for _, mask := range []int{0, 0o777} {
		path := filepath.Join(t.TempDir(), "qmp.sock")
		old := unix.Umask(mask)
		listener, _, err := ListenUnix(path)
		unix.Umask(old)
		must(t, err)
		defer listener.Close()
		info, err := os.Stat(path)
		must(t, err)
		if info.Mode().Perm() != 0o600 || info.Mode()&fs.ModeSocket == 0 {
			t.Errorf("umask %o: mode %v", mask, info.Mode())
		}
		raw, err := listener.SyscallConn()
		must(t, err)
		must(t, raw.Control(func(fd uintptr) {
			if flags, err := unix.FcntlInt(fd, unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
				t.Errorf("the descriptor would be inherited: %v", err)
			}
		}))
	}
}

func TestListenControl(t *testing.T) {
	t.Parallel()
	path := filepath.Join(longDir(t), "control.sock")
	dead, _, err := ListenUnix(path)
	must(t, err)
	must(t, dead.Close())

	listener, err := ListenControl(path)
	must(t, err)
	conn, err := DialUnix(t.Context(), path)
	must(t, err)
	defer conn.Close()
	accepted, err := listener.Accept()
	must(t, err)
	must(t, accepted.Close())
	must(t, listener.Close())
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Errorf("the socket is still there: %v", err)
	}
}

func TestSocketsWithoutDirectory(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "missing", "qmp.sock")
	if _, _, err := ListenUnix(path); !os.IsNotExist(err) {
		t.Errorf("listen: %v", err)
	}
	if _, err := DialUnix(t.Context(), path); !os.IsNotExist(err) {
		t.Errorf("dial: %v", err)
	}
}

// A server closes its listener once more when it is done with it: by then the
// path may be that of the next one.
func TestListenControlRemovesOnlyItsOwnPath(t *testing.T) {
	path := filepath.Join(t.TempDir(), "control.sock")
	old, err := ListenControl(path)
	must(t, err)
	must(t, old.Close())
	next, err := ListenControl(path)
	must(t, err)
	defer next.Close()
	if err := old.Close(); err == nil {
		t.Error("a second close of a listener is an error")
	}
	conn, err := DialUnix(t.Context(), path)
	if err != nil {
		t.Fatalf("the next socket is gone: %v", err)
	}
	must(t, conn.Close())
}
