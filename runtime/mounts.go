package runtime

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// MountWatch tells when anything is mounted or unmounted: no file event does,
// and a directory may become another by it.
type MountWatch struct {
	file    *os.File
	changed chan struct{}
	done    sync.WaitGroup
}

// WatchMounts begins a watch, which Close ends. It costs nothing while nothing
// is mounted: the kernel reports each change of /proc/self/mountinfo to who polls
// it (proc_pid_mountinfo(5)).
func WatchMounts() (*MountWatch, error) {
	file, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	raw, err := file.SyscallConn()
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	w := &MountWatch{file: file, changed: make(chan struct{}, 1)}
	begun := make(chan struct{})
	w.done.Go(func() { w.run(raw, sync.OnceFunc(func() { close(begun) })) })
	<-begun // a change from here on is told; the poller forgets one from before the Read
	return w, nil
}

// Changed gets a value after changes; those that nobody has taken yet are one.
func (w *MountWatch) Changed() <-chan struct{} { return w.changed }

// Close ends the watch.
func (w *MountWatch) Close() error {
	err := w.file.Close()
	w.done.Wait()
	return err
}

// run is woken by the runtime's poller, whose epoll(7) takes note of a change by
// reporting it: there is nothing more to ask or to read. Within one Read no
// change is lost, as the poller keeps one that comes while nobody waits. begun is
// called when that has begun, or failed.
func (w *MountWatch) run(raw syscall.RawConn, begun func()) {
	defer begun()
	waited := false
	_ = raw.Read(func(uintptr) bool {
		if waited {
			signal(w.changed)
		}
		waited = true
		begun()
		return false
	}) // until Close
}

// silent are the types of file systems whose files change elsewhere, so that
// inotify tells of nothing (statfs(2), linux/magic.h), or not of all.
var silent = map[uint32]string{
	unix.NFS_SUPER_MAGIC:  "nfs",
	unix.SMB_SUPER_MAGIC:  "smb",
	unix.CIFS_SUPER_MAGIC: "cifs",
	unix.SMB2_SUPER_MAGIC: "smb2",
	unix.V9FS_MAGIC:       "9p",
	unix.FUSE_SUPER_MAGIC: "fuse",
	unix.CEPH_SUPER_MAGIC: "ceph",
	unix.AFS_SUPER_MAGIC:  "afs",
	unix.AFS_FS_MAGIC:     "afs",
	unix.CODA_SUPER_MAGIC: "coda",
	unix.NCP_SUPER_MAGIC:  "ncpfs",
	0x7461636f:            "ocfs2",
	0x01161970:            "gfs2",
	0x0bd00bd0:            "lustre",
	0x47504653:            "gpfs",
	0x786f4256:            "vboxsf",
	0xbacbacbc:            "vmhgfs",
}

// SilentFileSystem names the type of a directory's file system when that may
// change without telling inotify; it is empty for any other.
func SilentFileSystem(dir string) string {
	var stat unix.Statfs_t
	if unix.Statfs(dir, &stat) != nil {
		return ""
	}
	return silent[uint32(stat.Type)]
}

// WatchFault says what an error of inotify(7) means. It is nil when that is no
// more than a path which is not there, or not to be seen; the error of a limit
// names the setting that raises it.
func WatchFault(err error) error {
	for _, absent := range []error{nil, unix.ENOENT, unix.ENOTDIR, unix.EACCES, unix.ELOOP} {
		if errors.Is(err, absent) {
			return nil
		}
	}
	switch {
	case errors.Is(err, unix.ENOSPC):
		return fmt.Errorf("%w: all of fs.inotify.max_user_watches are in use; raise it with sysctl", err)
	case errors.Is(err, unix.EMFILE):
		return fmt.Errorf("%w: fs.inotify.max_user_instances or the limit on open files is reached; raise it with sysctl or ulimit -n", err)
	}
	return err
}
