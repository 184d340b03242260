package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// StatusAfterLook asks the daemon for its status after a look at the directory
// that begins after the question, as the commands do.
func (h *Host) StatusAfterLook() (Status, error) { return h.askStatus("?look=true") }

// After waits for an event of that type that is later than a moment, and gives
// its time. It costs the daemon nothing.
func (h *Host) After(moment time.Time, kind string) time.Time {
	h.t.Helper()
	return h.AfterAll(moment, kind, 1)
}

// AfterAll waits for so many of them, and gives the time of the last.
func (h *Host) AfterAll(moment time.Time, kind string, count int) time.Time {
	h.t.Helper()
	var at time.Time
	h.Await(fmt.Sprintf("%d events %s", count, kind), func() bool {
		left := count
		for _, e := range h.Events() {
			if left > 0 && e.Type == kind && e.Time.After(moment) {
				at = e.Time
				left--
			}
		}
		return left == 0
	})
	return at
}

// NoteEnds gives the moments at which processes end, in the order of the pids,
// when all have. Those that have not within Patience have the moment at which
// that was over.
func (h *Host) NoteEnds(pids ...int) <-chan []time.Time {
	h.t.Helper()
	polls := make([]unix.PollFd, len(pids))
	for i, pid := range pids {
		fd, err := unix.PidfdOpen(pid, 0)
		h.must(err)
		polls[i] = unix.PollFd{Fd: int32(fd), Events: unix.POLLIN}
	}
	ended := make(chan []time.Time, 1)
	go func() { ended <- pollEnds(polls) }()
	return ended
}

// pollEnds closes the descriptors.
func pollEnds(polls []unix.PollFd) []time.Time {
	at := make([]time.Time, len(polls))
	deadline := time.Now().Add(Patience)
	for left := len(polls); left > 0; {
		_, err := unix.Poll(polls, max(0, int(time.Until(deadline)/time.Millisecond)))
		now := time.Now()
		late := err != nil && !errors.Is(err, unix.EINTR) || now.After(deadline)
		for i := range polls {
			if polls[i].Fd >= 0 && (late || polls[i].Revents != 0) {
				at[i] = now
				unix.Close(int(polls[i].Fd))
				polls[i].Fd, polls[i].Revents = -1, 0 // poll passes over it
				left--
			}
		}
	}
	return at
}

// Usage is what /proc says of a process, since its start where it adds up.
// Threads that end take their share with them, which those of a Go program
// hardly ever do.
type Usage struct {
	Threads, Descriptors int
	Calls                int           // of read and write, in all their forms (proc_pid_io(5))
	Waits                int           // voluntary context switches
	Switches             int           // all context switches
	CPU                  time.Duration // to the nanosecond
}

// Usage looks at the daemon from outside.
func (h *Host) Usage() Usage { return h.UsageOf(h.DaemonPID()) }

// UsageOf looks at another process.
func (h *Host) UsageOf(pid int) Usage {
	h.t.Helper()
	dir := proc(pid)
	descriptors, err := os.ReadDir(filepath.Join(dir, "fd"))
	h.must(err)
	u := Usage{Descriptors: len(descriptors)}
	u.Calls = h.number(filepath.Join(dir, "io"), "syscr: ") + h.number(filepath.Join(dir, "io"), "syscw: ")
	threads, err := filepath.Glob(filepath.Join(dir, "task", "*"))
	h.must(err)
	u.Threads = len(threads)
	for _, thread := range threads {
		status := filepath.Join(thread, "status")
		waits := h.number(status, "voluntary_ctxt_switches:\t")
		u.Waits += waits
		u.Switches += waits + h.number(status, "nonvoluntary_ctxt_switches:\t")
		u.CPU += time.Duration(h.number(filepath.Join(thread, "schedstat"), ""))
	}
	return u
}

// PSS is the daemon's share of the host's memory, in bytes.
func (h *Host) PSS() int { return h.PSSOf(h.DaemonPID()) }

// PSSOf is that of another process.
func (h *Host) PSSOf(pid int) int {
	h.t.Helper()
	return 1024 * h.number(filepath.Join(proc(pid), "smaps_rollup"), "Pss:")
}

// Helpers counts the daemon's children that are no QEMU of a task.
func (h *Host) Helpers() int {
	h.t.Helper()
	vms := map[int]bool{}
	for _, q := range h.QEMUs() {
		vms[q.PID] = true
	}
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	h.must(err)
	n := 0
	for _, stat := range stats {
		raw, err := os.ReadFile(stat)
		if err != nil { // gone
			continue
		}
		var pid, parent int
		var state string
		_, err = fmt.Sscan(string(raw), &pid)
		h.must(err)
		_, err = fmt.Sscan(string(raw[bytes.LastIndexByte(raw, ')')+1:]), &state, &parent)
		h.must(err)
		if parent == h.DaemonPID() && !vms[pid] {
			n++
		}
	}
	return n
}

// Program is the path of the program that the host runs.
func (h *Host) Program() string { return h.binary }

func proc(pid int) string { return fmt.Sprintf("/proc/%d", pid) }

// number reads a number that follows a label at the beginning of a line.
func (h *Host) number(path, label string) int {
	h.t.Helper()
	raw, err := os.ReadFile(path)
	h.must(err)
	for line := range strings.Lines(string(raw)) {
		if value, is := strings.CutPrefix(line, label); is {
			var n int
			_, err := fmt.Sscan(value, &n)
			h.must(err)
			return n
		}
	}
	h.t.Fatalf("%s has no %q", path, label)
	return 0
}
