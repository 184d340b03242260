package chaos

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/qemu-reconciler/qemu-reconciler/internal/e2e"
)

// world is what is so, seen from outside.
type world struct {
	status e2e.Status
	procs  map[string]process
	// records are the tasks that have a record.
	records  []string
	problems []string // that need no model
}

// hostForward finds the host port that QEMU forwards to the guest's web port.
var hostForward = regexp.MustCompile(`:(\d+)-:80\b`)

// look looks at everything.
func look(h *e2e.Host) (world, error) {
	w := world{procs: map[string]process{}}
	var err error
	if w.status, err = h.TryStatus(); err != nil {
		return w, err
	}
	for _, q := range h.QEMUs() {
		p, alive := processOf(q.PID)
		if !alive {
			continue
		}
		if other, twice := w.procs[q.Task]; twice {
			w.problems = append(w.problems, fmt.Sprintf("%s runs twice: pids %d and %d", q.Task, other.pid, p.pid))
		}
		w.procs[q.Task] = p
	}
	w.readState(h)
	return w, nil
}

// readState looks at the directories of state and sockets.
func (w *world) readState(h *e2e.Host) {
	entries, err := os.ReadDir(filepath.Join(h.State, "tasks"))
	if err != nil {
		w.problems = append(w.problems, err.Error())
	}
	for _, entry := range entries {
		name := entry.Name()
		task, is := strings.CutSuffix(name, ".json")
		switch {
		case strings.HasPrefix(name, "."):
			w.problems = append(w.problems, "left over: "+name)
		case is && task != proof:
			w.records = append(w.records, task)
		}
	}
	for _, entry := range entries {
		if task, is := strings.CutSuffix(entry.Name(), ".json.durable"); is && task != proof && !slices.Contains(w.records, task) {
			w.problems = append(w.problems, "left over: "+entry.Name())
		}
	}
	dirs, err := os.ReadDir(filepath.Join(h.Run, "vms"))
	if err != nil {
		w.problems = append(w.problems, err.Error())
	}
	for _, dir := range dirs {
		if !slices.Contains(w.records, dir.Name()) {
			w.problems = append(w.problems, "left over: sockets of "+dir.Name())
		}
	}
	for task := range w.procs {
		if _, err := os.Stat(filepath.Join(h.State, "logs", task, "console.log")); err != nil {
			w.problems = append(w.problems, err.Error())
		}
	}
}

// processOf reads a QEMU from /proc; false when it is gone, or a zombie.
func processOf(pid int) (process, bool) {
	p := process{pid: pid}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return p, false
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) < 20 || fields[0] == "Z" || fields[0] == "X" {
		return p, false
	}
	if p.start, err = strconv.ParseUint(fields[19], 10, 64); err != nil {
		return p, false
	}
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		return p, false
	}
	args := strings.Split(string(line), "\x00")
	for i, arg := range args {
		switch {
		case arg == "-m" && i+1 < len(args):
			p.memory, _ = strconv.Atoi(strings.TrimSuffix(args[i+1], "M")) //nolint:errcheck // zero matches nothing
		case strings.Contains(arg, "id=image0"):
			p.image = imageIn(arg)
		case arg == "virtio-rng-pci":
			p.rng = true
		}
		if m := hostForward.FindStringSubmatch(arg); m != nil {
			p.port, _ = strconv.Atoi(m[1]) //nolint:errcheck // it is digits
		}
	}
	return p, true
}

// imageIn gives the base name of the image in a -drive.
func imageIn(drive string) string {
	_, after, _ := strings.Cut(drive, "filename=")
	path, _, _ := strings.Cut(after, ",")
	return filepath.Base(path)
}

// holds says whether any QEMU has the image.
func (w *world) holds(image string) bool {
	for _, p := range w.procs {
		if p.image == image {
			return true
		}
	}
	return false
}

// alive says whether the process is still the one that it was.
func (p *process) alive() bool {
	now, there := processOf(p.pid)
	return there && now.start == p.start
}
