package e2e

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/qemu-reconciler/qemu-reconciler/internal/guest"
)

// How often a deed writes the record of its task, and how often a copy is brought
// to the disk, be it waited for or a moment later. Each write makes a file and
// replaces another one, which is most of what the daemon does for a start; each
// sync takes as long as the disk likes. More of either is to be a decision, not an
// accident.
func TestRecordWritesOfADeed(t *testing.T) {
	t.Parallel()
	h := Start(t)
	text := h.Task("web", guest.Button, "graceful_shutdown = true")
	writes := h.watchWrites()
	h.AwaitConverged()
	for _, deed := range []struct {
		what        string
		do          func()
		most, syncs int
	}{
		{"start", func() { h.Write("web.hcl", text); h.AwaitRunning("web") }, 3, 1},
		{"comment", func() { h.Write("web.hcl", text+"# nobody minds\n"); h.AwaitConverged() }, 0, 0},
		{"policy", func() { h.Write("web.hcl", "# labelled\n"+withMeta(text)); h.AwaitEvent("changed", "web") }, 1, 1},
		{"crash and restart", func() {
			started := h.Count("running", "web")
			h.SignalQEMU("web", syscall.SIGKILL)
			h.Await("restart", func() bool { return h.Count("running", "web") > started })
		}, 4, 2},
		{"stop", func() { h.Act("stop", "web", true) }, 3, 2},
		{"start again", func() { h.Act("start", "web", true) }, 4, 1},
	} {
		deed.do()
		h.AwaitSecured()
		records, copies := writes()
		t.Logf("%s: %d writes, %d of them synced", deed.what, records, copies)
		atMost(t, "records written for: "+deed.what, records, deed.most)
		atMost(t, "records synced for: "+deed.what, copies, deed.syncs)
	}
}

// withMeta adds a label to a text that Task made.
func withMeta(text string) string {
	return strings.Replace(text, "{\n", "{\n  meta = { seen = \"yes\" }\n", 1)
}

// watchWrites gives a function that counts the records that were put in place
// since it was last called, and the copies of them that a sync leaves. Both ends
// of a renaming are watched: of events that are alike the kernel keeps one.
func (h *Host) watchWrites() func() (records, copies int) {
	h.t.Helper()
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	h.must(err)
	h.t.Cleanup(func() { unix.Close(fd) })
	_, err = unix.InotifyAddWatch(fd, filepath.Join(h.State, "tasks"), unix.IN_MOVED_FROM|unix.IN_MOVED_TO)
	h.must(err)
	return func() (records, copies int) {
		h.t.Helper()
		buffer := make([]byte, 1<<16)
		n, err := unix.Read(fd, buffer)
		if err == unix.EAGAIN {
			return 0, 0
		}
		h.must(os.NewSyscallError("read of inotify", err))
		for rest := buffer[:n]; len(rest) >= unix.SizeofInotifyEvent; {
			end := unix.SizeofInotifyEvent + int(binary.NativeEndian.Uint32(rest[12:]))
			name := string(bytes.TrimRight(rest[unix.SizeofInotifyEvent:end], "\x00"))
			switch {
			case binary.NativeEndian.Uint32(rest[4:])&unix.IN_MOVED_TO == 0:
			case strings.HasSuffix(name, ".durable"):
				copies++
			default:
				records++
			}
			rest = rest[end:]
		}
		return records, copies
	}
}
