package runtime

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// troubleUnreachable is the trouble of a VM whose sockets are gone: a session
// that is open goes on, but a later daemon cannot begin one.
const troubleUnreachable = "its sockets were removed with the run directory: its console is out of reach, and after a restart of the daemon its QMP is, too, until it is started anew"

// dialPatience is how long somebody behind a socket may take to be noticed. The
// kernel answers a connect by itself.
const dialPatience = time.Second

// runDirectory is the directory of the sockets as it was made or found.
type runDirectory struct{ device, inode uint64 }

func openRunDirectory(layout Layout) (runDirectory, error) {
	var stat unix.Stat_t
	if err := unix.Stat(layout.VMsDir(), &stat); err != nil {
		return runDirectory{}, fmt.Errorf("run directory: %w", err)
	}
	return runDirectory{device: stat.Dev, inode: stat.Ino}, nil
}

// sweepRunDirectory removes what a Forget that was killed left behind. What
// somebody still listens in belongs to a VM of another state directory.
func (r *Runtime) sweepRunDirectory(ctx context.Context) {
	entries, err := os.ReadDir(r.layout.VMsDir())
	if err != nil {
		r.log.Warn("run directory is not swept", "error", err)
		return
	}
	for _, entry := range entries {
		name := entry.Name()
		if r.find(name) != nil || r.inhabited(ctx, name) {
			continue
		}
		if err := os.RemoveAll(r.layout.VMDir(name)); err != nil {
			r.log.Warn("sockets of a forgotten task stay", "task", name, "error", err)
		}
	}
}

// inhabited says whether a process holds the monitor's socket of a task, or it
// cannot be said that none does.
func (r *Runtime) inhabited(ctx context.Context, task string) bool {
	ctx, cancel := context.WithTimeout(ctx, dialPatience)
	defer cancel()
	conn, err := DialUnix(ctx, r.layout.QMPSocket(task))
	if err == nil {
		conn.Close()
		return true
	}
	return !errors.Is(err, unix.ECONNREFUSED) && !errors.Is(err, unix.ENOENT)
}

// keepRunDirectory makes the directory of the sockets anew when somebody
// removed it. The sockets of VMs that run are lost with it, which is said once.
func (r *Runtime) keepRunDirectory() {
	now, err := openRunDirectory(r.layout)
	if err == nil && now == r.run {
		return
	}
	if err := r.layout.Prepare(); err != nil {
		r.complainOnce(err)
		return
	}
	if err := r.lockRunDirectory(); err != nil {
		r.complainOnce(err)
		return
	}
	if now, err = openRunDirectory(r.layout); err != nil {
		r.complainOnce(err)
		return
	}
	r.run = now
	r.runFault = ""
	r.log.Warn("run directory was removed and is made anew", "path", r.layout.Run)
	for _, m := range r.list() {
		m.loseSockets()
	}
	r.poke()
}

// complainOnce tells a fault that every round of the keeper meets again.
func (r *Runtime) complainOnce(err error) {
	if text := err.Error(); text != r.runFault {
		r.runFault = text
		r.log.Error("run directory was removed and cannot be made anew", "error", err)
	}
}

// lockRunDirectory takes the lock that went away with the directory.
func (r *Runtime) lockRunDirectory() error {
	if r.runLock.current(r.layout.RunLock()) {
		return nil
	}
	held, err := tryLock(r.layout.RunLock())
	if err != nil {
		return err
	}
	old := r.runLock
	r.runLock = held
	return old.release()
}

// loseSockets notes that the sockets of a process are gone.
func (m *machine) loseSockets() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.life != nil {
		m.facts.unreachable = true
	}
}
