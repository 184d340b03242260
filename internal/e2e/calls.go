package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The system calls that Calls counts, by what they do. Of reads and writes the
// kernel keeps count by itself (see Usage), and those of memory, threads and time
// are the Go runtime's.
var counted = map[int32]string{
	unix.SYS_OPENAT: "open", unix.SYS_OPENAT2: "open", unix.SYS_NEWFSTATAT: "stat", unix.SYS_UNLINKAT: "remove",
	unix.SYS_RENAMEAT: "rename", unix.SYS_RENAMEAT2: "rename", unix.SYS_FSYNC: "sync", unix.SYS_FDATASYNC: "sync",
}

// callsSocket is the variable that makes a test binary a launcher: it says where
// somebody counts, and the arguments are the program to be counted.
const callsSocket = "E2E_CALLS"

// Calls counts system calls of a daemon. The daemon runs under a filter of
// seccomp(2) that stops it at each of them until this process has taken note and
// lets it go on. That takes no tracer, no rights and no tool, and is exact; the
// time of a daemon under it is worth nothing.
type Calls struct {
	t      testing.TB
	path   string
	socket *net.UnixListener

	mu     sync.Mutex
	counts map[uint32]map[string]int // by process
	of     map[uint32]uint32         // the process of each thread
	synced map[uint32]time.Time      // by process
}

// CountCalls prepares it for a host that is made with Option.
func CountCalls(t testing.TB) *Calls {
	t.Helper()
	dir, err := os.MkdirTemp("", "calls")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) }) //nolint:errcheck // best effort: the system cleans its temporary directory
	c := &Calls{t: t, path: filepath.Join(dir, "s"), counts: map[uint32]map[string]int{}, of: map[uint32]uint32{}, synced: map[uint32]time.Time{}}
	c.socket, err = net.ListenUnix("unix", &net.UnixAddr{Name: c.path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	stopRead, stop, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	var work sync.WaitGroup
	work.Go(func() { c.serve(&work, stopRead) })
	t.Cleanup(func() { // when the daemon and its QEMUs, which have the filter, too, are gone
		c.socket.Close()
		stop.Close()
		work.Wait()
		stopRead.Close()
	})
	return c
}

// Option starts the daemon by the launcher.
func (c *Calls) Option() Option {
	c.t.Helper()
	self, err := os.Executable()
	if err != nil {
		c.t.Fatal(err)
	}
	return func(o *options) { o.under = []string{"env", callsSocket + "=" + c.path, self} }
}

// Take gives what a process has called since it was asked last. It is nil when the
// kernel, or who has put this host into a container, does not allow it.
func (c *Calls) Take(pid int) map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	taken := c.counts[uint32(pid)]
	if taken != nil {
		c.counts[uint32(pid)] = map[string]int{}
	}
	return maps.Clone(taken)
}

// LastSync is when a process synced last; zero when it has not, or when that cannot be
// seen.
func (c *Calls) LastSync(pid int) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.synced[uint32(pid)]
}

// serve takes the filters of launchers.
func (c *Calls) serve(work *sync.WaitGroup, stop *os.File) {
	for {
		conn, err := c.socket.AcceptUnix()
		if err != nil {
			return
		}
		fd, err := receiveDescriptor(conn)
		conn.Close()
		if err != nil {
			c.t.Logf("system calls cannot be counted here: %v", err)
			continue
		}
		work.Go(func() {
			defer unix.Close(fd)
			c.listen(fd, stop)
		})
	}
}

// notification is struct seccomp_notif, permission struct seccomp_notif_resp.
type (
	notification struct {
		id         uint64
		tid, flags uint32
		number     int32
		arch       uint32
		ip         uint64
		args       [6]uint64
	}
	permission struct {
		id    uint64
		val   int64
		error int32
		flags uint32
	}
)

// listen lets everything go on that a filter tells of, until nobody has the filter
// any more.
func (c *Calls) listen(fd int, stop *os.File) {
	polls := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}, {Fd: int32(stop.Fd()), Events: unix.POLLIN}}
	for {
		_, err := unix.Poll(polls, -1)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || polls[0].Revents&unix.POLLIN == 0 {
			return
		}
		var n notification
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SECCOMP_IOCTL_NOTIF_RECV, uintptr(unsafe.Pointer(&n))); errno != 0 {
			continue // killed meanwhile
		}
		c.note(n)
		goOn := permission{id: n.id, flags: unix.SECCOMP_USER_NOTIF_FLAG_CONTINUE}
		unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SECCOMP_IOCTL_NOTIF_SEND, uintptr(unsafe.Pointer(&goOn))) //nolint:errcheck // as above
	}
}

func (c *Calls) note(n notification) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.of[n.tid] == 0 {
		c.of[n.tid] = processOf(n.tid)
	}
	pid := c.of[n.tid]
	if c.counts[pid] == nil {
		c.counts[pid] = map[string]int{}
	}
	c.counts[pid][counted[n.number]]++
	if counted[n.number] == "sync" {
		c.synced[pid] = time.Now()
	}
}

// processOf is the process of a thread, and the thread's own number when it has
// ended.
func processOf(tid uint32) uint32 {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", tid))
	_, rest, found := bytes.Cut(status, []byte("\nTgid:\t"))
	line, _, _ := bytes.Cut(rest, []byte("\n"))
	if pid, wrong := strconv.Atoi(string(line)); err == nil && found && wrong == nil {
		return uint32(pid)
	}
	return tid
}

// launchCounted puts this process under the filter, hands that to whoever counts,
// and becomes the program. Where there can be no filter it becomes it all the same.
func launchCounted(path string, words []string) error {
	runtime.LockOSThread() // the filter is this thread's, and exec makes it the only one
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return err
	}
	raw, err := conn.File() // to be used with nothing of the Go runtime around it
	if err != nil {
		return err
	}
	socket := int(raw.Fd())
	if filter, err := installFilter(); err == nil {
		if err := unix.Sendmsg(socket, []byte{0}, unix.UnixRights(filter), nil, 0); err != nil {
			return err
		}
	}
	if err := os.Unsetenv(callsSocket); err != nil {
		return err
	}
	return syscall.Exec(words[0], words, os.Environ())
}

// installFilter gives the descriptor that tells of the calls.
func installFilter() (fd int, err error) {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return -1, err
	}
	// The number of the call is the first word; of the architecture there is but
	// one here.
	code := []unix.SockFilter{{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS}}
	for number := range counted {
		code = append(code, unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 1, K: uint32(number)},
			unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_USER_NOTIF})
	}
	code = append(code, unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW})
	program := unix.SockFprog{Len: uint16(len(code)), Filter: &code[0]}
	n, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_NEW_LISTENER, uintptr(unsafe.Pointer(&program)))
	if errno != 0 {
		return -1, errno
	}
	return int(n), nil
}

// receiveDescriptor takes the one that launchCounted sends.
func receiveDescriptor(conn *net.UnixConn) (int, error) {
	var data [1]byte
	oob := make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := conn.ReadMsgUnix(data[:], oob)
	if err != nil {
		return -1, err
	}
	messages, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil || len(messages) != 1 {
		return -1, errors.Join(err, errors.New("no filter"))
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil {
		return -1, err
	}
	return fds[0], nil
}
