package bench

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qemu-reconciler/qemu-reconciler/internal/e2e"
	"github.com/qemu-reconciler/qemu-reconciler/internal/guest"
)

// consoles tell when guests are ready, from their console logs.
type consoles struct {
	t  testing.TB
	fd int

	mu      sync.Mutex
	watched map[int32]*console
}

// console is one log. It is there before QEMU is, as that of a task which ran
// before.
type console struct {
	file *os.File

	mu    sync.Mutex
	tail  []byte // what may be the beginning of READY
	ready []time.Time
	// more is sent to when ready has grown.
	more chan struct{}
}

func watchConsoles(t testing.TB) *consoles {
	t.Helper()
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	c := &consoles{t: t, fd: fd, watched: map[int32]*console{}}
	stop, err := os.CreateTemp(t.TempDir(), "stop")
	if err != nil {
		t.Fatal(err)
	}
	last, err := unix.InotifyAddWatch(fd, stop.Name(), unix.IN_MODIFY)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.read(int32(last))
	}()
	t.Cleanup(func() {
		if _, err := stop.WriteString("stop"); err != nil {
			t.Error(err)
		}
		<-done
		unix.Close(fd)
		stop.Close()
		for _, con := range c.watched {
			con.file.Close()
		}
	})
	return c
}

// open watches the log at path, making it and its directory.
func (c *consoles) open(path string) *console {
	c.t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		c.t.Fatal(err)
	}
	file, err := os.OpenFile(path, os.O_RDONLY|os.O_CREATE, 0o600)
	if err != nil {
		c.t.Fatal(err)
	}
	con := &console{file: file, more: make(chan struct{}, 1)}
	c.mu.Lock()
	defer c.mu.Unlock()
	wd, err := unix.InotifyAddWatch(c.fd, path, unix.IN_MODIFY)
	if err != nil {
		c.t.Fatal(err)
	}
	c.watched[int32(wd)] = con
	return con
}

// read reads events until one is of the last watch.
func (c *consoles) read(last int32) {
	buffer := make([]byte, 1<<16)
	for {
		n, err := unix.Read(c.fd, buffer)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			c.t.Errorf("inotify: %v", err)
			return
		}
		now := time.Now()
		for rest := buffer[:n]; len(rest) >= unix.SizeofInotifyEvent; {
			wd := int32(binary.NativeEndian.Uint32(rest))
			if wd == last {
				return
			}
			c.mu.Lock()
			con := c.watched[wd]
			c.mu.Unlock()
			if con != nil {
				con.look(now)
			}
			rest = rest[unix.SizeofInotifyEvent+binary.NativeEndian.Uint32(rest[12:]):]
		}
	}
}

// look reads what is new and notes when READY was in it.
func (con *console) look(now time.Time) {
	con.mu.Lock()
	defer con.mu.Unlock()
	var buffer [4096]byte
	for {
		n, err := con.file.Read(buffer[:])
		con.tail = append(con.tail, buffer[:n]...)
		if err != nil || n == 0 {
			break
		}
	}
	word := []byte(guest.SaysReady)
	for at := bytes.Index(con.tail, word); at >= 0; at = bytes.Index(con.tail, word) {
		con.tail = con.tail[at+len(word):]
		con.ready = append(con.ready, now)
	}
	con.tail = bytes.Clone(con.tail[max(0, len(con.tail)-len(word)):])
	select {
	case con.more <- struct{}{}:
	default:
	}
}

// count is how many times the guest was ready.
func (con *console) count() int {
	con.mu.Lock()
	defer con.mu.Unlock()
	return len(con.ready)
}

// await waits until the guest was ready for the nth time, and says when. It may
// be called from any goroutine: the test fails, and goes on.
func (con *console) await(t testing.TB, nth int) time.Time {
	t.Helper()
	deadline := time.After(e2e.Patience)
	for con.count() < nth {
		select {
		case <-con.more:
		case <-deadline:
			t.Errorf("%s: not ready in %s", con.file.Name(), e2e.Patience)
			return time.Now()
		}
	}
	con.mu.Lock()
	defer con.mu.Unlock()
	return con.ready[nth-1]
}
