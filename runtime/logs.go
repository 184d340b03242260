package runtime

import (
	"errors"
	"io"
	"io/fs"
	"math"
	"os"
	"time"
)

// previousSuffix marks the one predecessor of a log.
const previousSuffix = ".1"

// Limits and intervals of logs.
const (
	// qmpLogMaxSize limits the QMP log further: it lies on a tmpfs as a rule,
	// and only its latest lines are evidence.
	qmpLogMaxSize = 256 << 10

	// A log that grows is looked at every logIntervalBusy; one that was silent
	// for a while only when the keeper goes round anyway, at every third time: to
	// look at all logs is most of what a daemon at rest does.
	logIntervalBusy = time.Second
	logIntervalIdle = 5 * keeperRest / 2
)

// logFile is a log that QEMU appends to.
type logFile struct {
	path string
	// most limits the file, whatever the limit of all is.
	most int64
	size int64
}

// logWatch keeps the logs of one process below their limits. It has no
// goroutine and no timer of its own: the runtime's keeper asks it.
type logWatch struct {
	files []logFile
	// limit gives the limit that counts now.
	limit    func() int64
	next     time.Time
	interval time.Duration
}

func newLogWatch(layout Layout, task string, limit func() int64) *logWatch {
	return &logWatch{interval: logIntervalBusy, limit: limit, files: []logFile{
		{path: layout.ConsoleLog(task), most: math.MaxInt64},
		{path: layout.QEMULog(task), most: math.MaxInt64},
		{path: layout.QMPLog(task), most: qmpLogMaxSize},
	}}
}

// check looks at the logs when it is time to. It gives the time of the next
// look while that may not wait for the keeper's next round.
func (w *logWatch) check(now time.Time) (due time.Time, err error) {
	if now.Before(w.next) {
		return w.due(), nil
	}
	grew := false
	var errs []error
	for i := range w.files {
		grown, err := w.files[i].check(w.limit())
		grew = grew || grown
		errs = append(errs, err)
	}
	if grew {
		w.interval = logIntervalBusy
	} else {
		w.interval = min(2*w.interval, logIntervalIdle)
	}
	w.next = now.Add(w.interval)
	return w.due(), errors.Join(errs...)
}

func (w *logWatch) due() time.Time {
	if w.interval < logIntervalIdle {
		return w.next
	}
	return time.Time{}
}

func (f *logFile) check(limit int64) (grew bool, err error) {
	info, err := os.Stat(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	grew = info.Size() != f.size
	f.size = info.Size()
	if limit = min(limit, f.most); f.size <= limit {
		return grew, nil
	}
	f.size = 0
	return true, rotateLog(f.path, limit)
}

// rotateLog copies the last limit bytes of a log to its predecessor and
// truncates it: the writer keeps its descriptor, which must be in append mode.
// What is written between the copy's end and the truncation is lost. When the
// copy fails, as on a full disk, the log is truncated all the same: its limit
// is what an operator relies on then.
func rotateLog(path string, limit int64) error {
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer file.Close()
	copied := copyTail(file, path+previousSuffix, limit)
	return errors.Join(copied, file.Truncate(0))
}

func copyTail(file *os.File, target string, limit int64) error {
	info, err := file.Stat()
	if err != nil {
		return err
	}
	if _, err := file.Seek(max(0, info.Size()-limit), io.SeekStart); err != nil {
		return err
	}
	temporary := target + ".tmp"
	out, err := openPrivate(temporary, os.O_WRONLY|os.O_CREATE|os.O_TRUNC)
	if err != nil {
		return err
	}
	// A guest that writes as fast as it is read must not keep the copy going.
	_, err = io.Copy(out, io.LimitReader(file, 2*limit))
	err = errors.Join(err, out.Close())
	if err == nil {
		err = os.Rename(temporary, target)
	}
	if err != nil {
		return errors.Join(err, remove(temporary))
	}
	return nil
}
