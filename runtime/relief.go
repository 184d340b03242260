package runtime

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// stateIOError is the run state (qapi/run-state.json) of a guest that QEMU has
// stopped because an image could not be written or read: with werror=enospc, the
// default, because there was no room for it. What the guest wanted is not lost:
// it is done again when the guest is told to go on.
const stateIOError = "io-error"

// The pace at which a guest that an I/O error stopped is told to go on.
const (
	// reliefFirst is the wait after the first attempt; it doubles up to
	// reliefLast. A guest that ran for that long has a fresh start.
	reliefFirst = time.Second
	reliefLast  = time.Minute
	// reliefRoom is how much more room, in bytes, is worth an attempt at once.
	reliefRoom = 1 << 20
)

// relief paces the attempts to let a guest go on.
type relief struct {
	tried time.Time
	wait  time.Duration
	// room is what there was at the last attempt or since, the least of both.
	room uint64
}

// due says whether to try now. room is what the full file system has, in bytes;
// known is false where nobody can tell.
func (r *relief) due(now time.Time, room uint64, known bool) bool {
	more := known && room >= r.room+reliefRoom
	r.room = min(r.room, room)
	if known && room == 0 || now.Sub(r.tried) < r.wait && !more {
		return false
	}
	r.tried, r.wait, r.room = now, min(max(2*r.wait, reliefFirst), reliefLast), room
	return true
}

// ran notes that the guest runs.
func (r *relief) ran(now time.Time) {
	if now.Sub(r.tried) > reliefLast {
		*r = relief{}
	}
}

// relieve lets a guest go on that an I/O error stopped, when there may be room
// for it again, and says why it was stopped. Whether it runs is seen at the next
// look, so that an attempt in vain is not told as an end and a new beginning. A
// guest that is being stopped is woken by the ladder.
func (m *machine) relieve(ctx context.Context, l *life, monitor *Monitor) (reason string) {
	var drives []blockDrive
	if err := monitor.Execute(ctx, "query-block", nil, &drives); err != nil {
		m.log.Debug("drives are not known", "error", err)
	}
	reason, room, known := judgeDrives(drives)
	if m.current().Stopping() {
		return reason
	}
	if l.relief.due(time.Now(), room, known) {
		err := monitor.Execute(ctx, "cont", nil, nil)
		m.log.Info("the guest is told to go on after an I/O error", "room", room, "error", err)
	}
	return reason
}

// blockDrive is a drive in the answer to query-block (qapi/block-core.json).
type blockDrive struct {
	Device string `json:"device"`
	// IOStatus is "ok", "failed" or "nospace"; it is reset when the guest goes on.
	IOStatus string `json:"io-status"`
	Inserted struct {
		File string `json:"file"`
	} `json:"inserted"`
}

// judgeDrives says which drives stopped the guest and how much room there is for
// the one that has the least.
func judgeDrives(drives []blockDrive) (reason string, room uint64, known bool) {
	var causes []string
	for _, d := range drives {
		switch d.IOStatus {
		case "nospace":
			cause := "no room for " + d.Inserted.File
			if free, mount, ok := roomFor(d.Inserted.File); ok {
				cause += fmt.Sprintf(", the file system %s is full", mount)
				if !known || free < room {
					room, known = free, true
				}
			}
			causes = append(causes, cause)
		case "failed":
			causes = append(causes, d.Inserted.File+" cannot be read or written")
		}
	}
	if len(causes) == 0 {
		return stateIOError, 0, false
	}
	return stateIOError + ": " + strings.Join(causes, "; ") + "; it goes on by itself when it can", room, known
}

// roomFor gives the free bytes of the file system that an image file is on, and
// where that is mounted. ok is false for what is not a file.
func roomFor(path string) (free uint64, mount string, ok bool) {
	path, err := filepath.EvalSymlinks(path)
	if err != nil {
		return 0, "", false
	}
	var stat unix.Stat_t
	var system unix.Statfs_t
	if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() {
		return 0, "", false
	}
	if unix.Stat(path, &stat) != nil || unix.Statfs(path, &system) != nil {
		return 0, "", false
	}
	mount = filepath.Dir(path)
	for parent := filepath.Dir(mount); mount != parent; parent = filepath.Dir(mount) {
		var above unix.Stat_t
		if unix.Stat(parent, &above) != nil || above.Dev != stat.Dev {
			break
		}
		mount = parent
	}
	return system.Bfree * uint64(system.Bsize), mount, true
}
