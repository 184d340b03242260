package runtime

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qemu-reconciler/qemu-reconciler/internal/crash"
)

// listenBacklog is how many clients may wait in a socket. QEMU serves one at a
// time and the others queue here.
const listenBacklog = 64

// ListenUnix binds a unix stream socket at path, listens on it, and gives its
// descriptor, which is closed on exec, for handing over to QEMU. What was at
// path before is removed; only the owner may connect. inode is the socket's own
// number, as /proc/PID/fd shows it ("socket:[N]"), not the path's: it tells who
// holds the socket. The path may be longer than sun_path's 107 bytes.
func ListenUnix(path string) (listener *os.File, inode uint64, err error) {
	short, dir, err := shorten(path)
	if err != nil {
		return nil, 0, err
	}
	defer dir.Close()
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, 0, err
	}
	crash.Point("socket.removed")
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, 0, fmt.Errorf("socket for %s: %w", path, err)
	}
	listener = os.NewFile(uintptr(fd), path)
	if inode, err = bindPrivate(fd, short); err != nil {
		listener.Close()
		return nil, 0, fmt.Errorf("listen on %s: %w", path, err)
	}
	return listener, inode, nil
}

// bindPrivate binds fd to an address that fits, and listens.
func bindPrivate(fd int, address string) (inode uint64, err error) {
	// The path gets the socket's own mode less the umask, so there is no
	// moment at which others could connect; the chmod afterwards gives back
	// what a strange umask took from the owner.
	if err := unix.Fchmod(fd, 0o600); err != nil {
		return 0, err
	}
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: address}); err != nil {
		return 0, err
	}
	crash.Point("socket.bound")
	if err := os.Chmod(address, 0o600); err != nil {
		return 0, err
	}
	if err := unix.Listen(fd, listenBacklog); err != nil {
		return 0, err
	}
	crash.Point("socket.listening")
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return 0, err
	}
	return stat.Ino, nil
}

// ListenControl listens at path for the daemon itself. A socket that a dead
// daemon left there is removed: the caller holds the lock that says it is dead.
// Close removes the path again.
func ListenControl(path string) (net.Listener, error) {
	file, _, err := ListenUnix(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	listener, err := net.FileListener(file)
	if err != nil {
		return nil, errors.Join(err, os.Remove(path))
	}
	return &controlListener{Listener: listener, path: path}, nil
}

// controlListener removes its path when it is closed: the address that net
// knows goes through a directory descriptor that is closed by then. It does so
// once: servers close a listener again when they are done with it, and by then
// the path may be its successor's.
type controlListener struct {
	net.Listener
	path   string
	remove sync.Once
}

func (l *controlListener) Close() error {
	err := l.Listener.Close()
	l.remove.Do(func() {
		if removed := os.Remove(l.path); removed != nil && !errors.Is(removed, fs.ErrNotExist) && err == nil {
			err = removed
		}
	})
	return err
}

// controlPatience is for a daemon whose queue of connections is full.
const controlPatience = 2 * time.Second

// ControlDialer gives connections to a daemon that listens at path, whatever the
// network and address: it is what http.Transport asks for.
func ControlDialer(path string) func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(ctx context.Context, _, _ string) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, controlPatience)
		defer cancel()
		return DialUnix(ctx, path)
	}
}

// DialUnix connects to the unix stream socket at path, which may be longer than
// sun_path. It succeeds as soon as somebody holds the listening socket, also
// before they accept.
func DialUnix(ctx context.Context, path string) (net.Conn, error) {
	short, dir, err := shorten(path)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "unix", short)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", path, plainDialError(err))
	}
	return conn, nil
}

// plainDialError drops the address through the directory descriptor, which
// tells an operator nothing.
func plainDialError(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Err
	}
	return err
}

// shorten gives an address for path that fits into sun_path, through a
// descriptor of its directory, which must stay open while the address is used.
func shorten(path string) (address string, dir *os.File, err error) {
	fd, err := unix.Open(filepath.Dir(path), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", nil, &fs.PathError{Op: "open", Path: filepath.Dir(path), Err: err}
	}
	dir = os.NewFile(uintptr(fd), filepath.Dir(path))
	return filepath.Join("/proc/self/fd", strconv.Itoa(fd), filepath.Base(path)), dir, nil
}
