package runtime

import (
	"context"
	"errors"
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

// heldDirectory is a directory as it was made or found. While its descriptor is
// open no other directory can get its inode, and be taken for it.
type heldDirectory struct{ file *os.File }

// hold takes another directory in place of the one before.
func (d *heldDirectory) hold(path string) error {
	file, err := os.OpenFile(path, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	d.release()
	d.file = file
	return nil
}

// current says whether the directory is still the one at the path.
func (d *heldDirectory) current(path string) bool { return leadsTo(path, d.file) }

func (d *heldDirectory) release() {
	if d.file != nil {
		d.file.Close()
	}
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

// keepRunDirectory makes the directory of the sockets anew, with its lock, when
// somebody removed it. The sockets of VMs that run are lost with it, which is
// said once.
func (r *Runtime) keepRunDirectory() {
	there := r.run.current(r.layout.VMsDir())
	if there && r.runLock.current(r.layout.RunLock()) {
		return
	}
	if err := r.renewRun(); err != nil {
		r.complainOnce(err)
		return
	}
	r.runFault = ""
	if there {
		r.log.Warn("lock of the run directory was removed and is taken anew", "path", r.layout.RunLock())
		return
	}
	r.log.Warn("run directory was removed and is made anew", "path", r.layout.Run)
	for _, m := range r.list() {
		m.loseSockets()
	}
	r.poke()
}

// renewRun makes the directory and takes the lock that went away with it.
func (r *Runtime) renewRun() error {
	if err := r.layout.Prepare(); err != nil {
		return err
	}
	if !r.runLock.current(r.layout.RunLock()) {
		if err := r.runLock.renew(r.layout.RunLock()); err != nil {
			return err
		}
	}
	return r.run.hold(r.layout.VMsDir())
}

// complainOnce tells a fault that every round of the keeper meets again.
func (r *Runtime) complainOnce(err error) {
	if text := err.Error(); text != r.runFault {
		r.runFault = text
		r.log.Error("run directory was removed and cannot be made anew", "error", err)
	}
}

// loseSockets notes that the sockets of a process are gone.
func (m *machine) loseSockets() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.life != nil {
		m.facts.unreachable = true
	}
}
