package scale

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// Most is how many tasks a daemon can have that is started here, at most as many
// as wanted: where it is not for root to raise the hard limit of open files, that
// limit says it.
func Most(wanted int) (int, error) {
	err := makeRoom(wanted)
	if !errors.Is(err, unix.EPERM) {
		return wanted, err
	}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return 0, err
	}
	return (int(limit.Max) - spare) / descriptors, nil
}

// makeRoom raises the limit of descriptors, which the daemon inherits, as far as
// the tasks need it. Above the hard limit only root can.
func makeRoom(tasks int) error {
	need := uint64(descriptors*tasks + spare)
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	if limit.Max >= need {
		return nil
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: need, Max: need}); err != nil {
		return fmt.Errorf("%d tasks need %d open files, the hard limit is %d (ulimit -Hn): %w", tasks, need, limit.Max, err)
	}
	return nil
}

// cpu is the time that all threads of the daemon have had, to the nanosecond.
// Threads that end take theirs with them, which those of a Go program rarely do.
func (w *world) cpu() (time.Duration, error) {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", w.daemon.Process.Pid))
	if err != nil {
		return 0, err
	}
	var sum time.Duration
	for _, path := range threads {
		text, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return 0, err
		}
		var on int64
		if _, err := fmt.Sscan(string(text), &on); err != nil {
			return 0, err
		}
		sum += time.Duration(on)
	}
	return sum, nil
}

// pss is the daemon's share of the memory, in MiB (proc_pid_smaps_rollup(5)).
func (w *world) pss() (float64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", w.daemon.Process.Pid))
	if err != nil {
		return 0, err
	}
	_, rest, found := bytes.Cut(text, []byte("\nPss:"))
	var kib int
	if _, err := fmt.Sscan(string(rest), &kib); err != nil || !found {
		return 0, fmt.Errorf("no Pss in smaps_rollup: %w", err)
	}
	return float64(kib) / 1024, nil
}

// Answer is what QEMU writes into the log of its monitor when it answers to
// query-status.
var Answer = []byte(`"running": true`)

// Answers tells when QEMUs have answered since it was made, which is when the
// daemon has a session with them.
type Answers struct {
	logs []string
	from map[string]int64
}

// NewAnswers takes the logs that the QEMUs keep of their monitors.
func NewAnswers(logs []string) (*Answers, error) {
	a := &Answers{logs: logs, from: map[string]int64{}}
	for _, path := range logs {
		info, err := os.Stat(path)
		if err != nil {
			return nil, err
		}
		a.from[path] = info.Size()
	}
	return a, nil
}

// All says whether all have answered by now. To leave the host to the daemon, it
// looks no further than to the first that has not.
func (a *Answers) All() (bool, error) {
	for len(a.logs) > 0 {
		text, err := os.ReadFile(a.logs[0])
		if err != nil {
			return false, err
		}
		if from := a.from[a.logs[0]]; !bytes.Contains(text[from:], Answer) {
			return false, nil
		}
		a.logs = a.logs[1:]
	}
	return true, nil
}

// entries counts what is in a directory of the daemon in /proc.
func (w *world) entries(dir string) (int, error) {
	all, err := os.ReadDir(fmt.Sprintf("/proc/%d/%s", w.daemon.Process.Pid, dir))
	return len(all), err
}
