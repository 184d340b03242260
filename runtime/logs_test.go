package runtime

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/qemu-reconciler/qemu-reconciler/internal/guest"
)

func TestRotateLog(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "console.log")
	writer, err := openAppending(path)
	must(t, err)
	defer writer.Close()
	write := func(from, to int) {
		for i := from; i < to; i++ {
			_, err := fmt.Fprintf(writer, "%07d\n", i)
			must(t, err)
		}
	}
	f := logFile{path: path, most: 800}
	check := func(grew bool, size, previous int) {
		t.Helper()
		got, err := f.check(math.MaxInt64)
		must(t, err)
		now, before := sizeOf(t, path), sizeOf(t, path+previousSuffix)
		if got != grew || now != size || before != previous {
			t.Errorf("grew %v, %d bytes and %d before; want %v, %d, %d", got, now, before, grew, size, previous)
		}
	}
	write(0, 100)
	check(true, 800, -1)
	check(false, 800, -1)
	write(100, 150)
	check(true, 0, 800)
	if raw, err := os.ReadFile(path + previousSuffix); err != nil || !bytes.HasPrefix(raw, []byte("0000050\n")) || !bytes.HasSuffix(raw, []byte("0000149\n")) {
		t.Errorf("the predecessor is not the newest part: %q, %v", raw, err)
	}
	write(150, 160) // the writer appends where the file now ends
	check(true, 80, 800)
	write(160, 400)
	check(true, 0, 800)
	must(t, os.Remove(path))
	check2, err := f.check(math.MaxInt64)
	if check2 || err != nil {
		t.Errorf("a log that is not there: %v, %v", check2, err)
	}
}

func sizeOf(t *testing.T, path string) int {
	t.Helper()
	info, err := os.Stat(path)
	if os.IsNotExist(err) {
		return -1
	}
	must(t, err)
	return int(info.Size())
}

// TestRotateLogWithoutRoom: a log is limited also when there is no room for its
// predecessor.
func TestRotateLogWithoutRoom(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "qemu.log")
	must(t, os.WriteFile(path, make([]byte, 1000), 0o600))
	must(t, os.Mkdir(path+previousSuffix+".tmp", 0o700)) // nothing can be created there
	if err := rotateLog(path, 100); err == nil {
		t.Error("the copy failed silently")
	}
	if got := sizeOf(t, path); got != 0 {
		t.Errorf("the log has %d bytes", got)
	}
}

// TestLogWatchIsCheap: silent logs are looked at ever less often, growing ones
// at once again.
func TestLogWatchIsCheap(t *testing.T) {
	t.Parallel()
	layout := Layout{State: t.TempDir(), Run: t.TempDir()}
	must(t, layout.PrepareTask("vm"))
	w := newLogWatch(layout, "vm", func() int64 { return 1000 })
	now, looks := time.Unix(0, 0), 0
	for second := range 60 {
		due := !now.Before(w.next)
		_, err := w.check(now)
		must(t, err)
		if due {
			looks++
		}
		if second == 30 {
			must(t, os.WriteFile(layout.ConsoleLog("vm"), []byte("x"), 0o600))
		}
		now = now.Add(time.Second)
	}
	// At 0, 2, 6, 14, 30 and 55 seconds, and three times after it has grown.
	if looks < 7 || looks > 10 {
		t.Errorf("looked %d times within a minute", looks)
	}
}

// TestLogLimitChanges: log_max_size may be another one when the configuration is
// read again, and counts for the logs of VMs that run.
func TestLogLimitChanges(t *testing.T) {
	t.Parallel()
	layout := Layout{State: t.TempDir(), Run: t.TempDir()}
	must(t, layout.PrepareTask("vm"))
	limit := int64(1000)
	w := newLogWatch(layout, "vm", func() int64 { return limit })
	path := layout.ConsoleLog("vm")
	must(t, os.WriteFile(path, make([]byte, 500), 0o600))
	for i, want := range []struct{ limit, size, previous int }{{1000, 500, -1}, {100, 0, 100}} {
		limit = int64(want.limit)
		_, err := w.check(time.Unix(int64(i)*60, 0))
		must(t, err)
		if now, before := sizeOf(t, path), sizeOf(t, path+previousSuffix); now != want.size || before != want.previous {
			t.Errorf("limit %d: %d bytes and %d before", limit, now, before)
		}
	}
}

// TestConsoleLogIsLimited: a guest that talks without end fills no disk, and
// its log does not become sparse.
func TestConsoleLogIsLimited(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	must(t, l.Close())
	const limit = 16 << 10
	options := l.options()
	options.LogMaxSize = limit
	r, err := Open(t.Context(), options)
	must(t, err)
	defer r.Close()
	must(t, r.Start(t.Context(), startOf(l.task("vm", guest.Chatty))))
	path := l.layout.ConsoleLog("vm")
	eventually(t, "two rotations", func() error {
		raw, err := os.ReadFile(path + previousSuffix)
		if err == nil && strings.Contains(string(raw), guest.SaysReady) || err != nil {
			return fmt.Errorf("the first part is still there, or nothing: %v", err)
		}
		return nil
	})
	if got := sizeOf(t, path+previousSuffix); got <= 0 || got > 2*limit {
		t.Errorf("the predecessor has %d bytes", got)
	}
	eventually(t, "the guest goes on", func() error {
		raw, err := os.ReadFile(path)
		if err == nil && (len(raw) == 0 || bytes.IndexByte(raw, 0) >= 0) {
			err = fmt.Errorf("%d bytes, the first zero at %d", len(raw), bytes.IndexByte(raw, 0))
		}
		return err
	})
}
