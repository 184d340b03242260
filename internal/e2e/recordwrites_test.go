package e2e

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qemu-reconciler/qemu-reconciler/internal/guest"
)

// How often a deed writes the record of its task, and how often a copy is brought
// to the disk, be it waited for or a moment later. Each write makes a file and
// replaces another one, which is most of what the daemon does for a start; each
// sync takes as long as the disk likes. More of either is to be a decision, not an
// accident. All else that it asks the file system for is counted beside it, where
// the kernel lets us.
func TestRecordWritesOfADeed(t *testing.T) {
	t.Parallel()
	calls := CountCalls(t)
	h := Start(t, calls.Option())
	text := h.Task("web", guest.Button, "graceful_shutdown = true")
	writes := h.watchWrites("web")
	h.ProvePass() // what there is to learn of the emulator is asked by now, and perhaps not written yet
	// What is brought to the disk by and by has its rounds a second apart, and of one
	// the copies of the records come first. A slow disk makes a round longer.
	rounds := func() {
		t.Helper()
		h.Await("the end of the rounds", func() bool {
			return !h.waitsForDisk(h.DaemonPID()) && time.Since(calls.LastSync(h.DaemonPID())) > 3*time.Second/2
		})
	}
	rounds()
	calls.Take(h.DaemonPID())
	for _, deed := range []struct {
		what                        string
		do                          func()
		most, copies                int
		opens, renames, gone, syncs int
	}{
		{"start", func() { h.Write("web.hcl", text); h.AwaitRunning("web") }, 3, 1, 38, 8, 10, 9},
		{"comment", func() { h.Write("web.hcl", text+"# nobody minds\n"); h.AwaitConverged() }, 0, 0, 12, 0, 0, 0},
		{"policy", func() { h.Write("web.hcl", "# labelled\n"+withMeta(text)); h.AwaitEvent("changed", "web") }, 1, 1, 14, 3, 0, 4},
		{"crash and restart", func() {
			started := h.Count("running", "web")
			h.SignalQEMU("web", syscall.SIGKILL)
			h.Await("restart", func() bool { return h.Count("running", "web") > started })
		}, 4, 2, 36, 7, 7, 6},
		{"stop", func() { h.Act("stop", "web", true) }, 3, 2, 18, 7, 2, 6},
		{"start again", func() { h.Act("start", "web", true) }, 4, 1, 30, 7, 7, 8},
	} {
		began := time.Now()
		deed.do()
		late := int(time.Since(began) / time.Second) // on a busy host it has a round each second
		h.AwaitSecured()
		rounds()
		records, copies := writes()
		called := calls.Take(h.DaemonPID())
		t.Logf("%s: %d writes, %d of them synced; all in all %v, %d rounds late", deed.what, records, copies, called, late)
		atMost(t, "records written for: "+deed.what, records, deed.most)
		atMost(t, "records synced for: "+deed.what, copies, deed.copies+late)
		for call, most := range map[string]int{
			"open": deed.opens + 4*late, "rename": deed.renames + late, "remove": deed.gone, "sync": deed.syncs + 3*late,
		} {
			atMost(t, fmt.Sprintf("calls to %s for: %s", call, deed.what), called[call], most)
		}
	}
}

// waitsForDisk says whether any thread of a process is in a sleep that nothing
// interrupts.
func (h *Host) waitsForDisk(pid int) bool {
	h.t.Helper()
	return slices.ContainsFunc(h.threads(pid), func(tid int) bool {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/stat", pid, tid))
		return err == nil && bytes.HasPrefix(stat[bytes.LastIndexByte(stat, ')')+1:], []byte(" D"))
	})
}

// withMeta adds a label to a text that Task made.
func withMeta(text string) string {
	return strings.Replace(text, "{\n", "{\n  meta = { seen = \"yes\" }\n", 1)
}

// watchWrites gives a function that counts the records of a task that were put in
// place since it was last called, and the copies of them that a sync leaves. Both ends
// of a renaming are watched: of events that are alike the kernel keeps one.
func (h *Host) watchWrites(task string) func() (records, copies int) {
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
			case binary.NativeEndian.Uint32(rest[4:])&unix.IN_MOVED_TO == 0 || !strings.HasPrefix(name, task+"."):
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
