package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/qemu-reconciler/qemu-reconciler/internal/guest"
)

// seldom keeps the periodic look out of tests of what is seen without it.
const seldom = `resync_interval = "1h"`

// needsRoot skips a test that only root can do, and says what is not tried then.
func needsRoot(t *testing.T, what string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skipf("not tried without root: %s", what)
	}
}

// mount mounts something for the rest of the test.
func (h *Host) mount(source, target, kind string, flags uintptr) {
	h.t.Helper()
	h.must(syscall.Mount(source, target, kind, flags, ""))
	h.t.Cleanup(func() { syscall.Unmount(target, syscall.MNT_DETACH) }) //nolint:errcheck // it may be unmounted
}

// A mount over the task directory hides it, and an unmount brings it back or
// takes it away: each is seen at once, and costs no VM.
func TestMountsAreSeen(t *testing.T) {
	t.Parallel()
	needsRoot(t, "mounts over the task directory and their end")
	h := Start(t, Config(seldom), Stopped())
	volume := filepath.Join(filepath.Dir(h.VMs), "volume")
	h.must(os.Mkdir(volume, 0o755))
	h.mount("none", volume, "tmpfs", 0)
	h.mount(volume, h.VMs, "", syscall.MS_BIND)
	h.StartDaemon()
	h.Write("web.hcl", h.Task("web", guest.Button))
	before := h.AwaitRunning("web")
	h.AwaitConverged()

	h.must(syscall.Unmount(h.VMs, 0))
	gone := h.AwaitStatus("a directory that is not mounted", func(st Status) bool { return st.DirError != "" })
	if !strings.Contains(gone.DirError, "mounted") || gone.Converged {
		t.Errorf("%+v", gone)
	}
	h.ExpectUntouched(before)
	h.mount(volume, h.VMs, "", syscall.MS_BIND)
	h.AwaitConverged()

	h.mount("none", h.VMs, "tmpfs", 0)
	h.AwaitStatus("an empty directory in its place", func(st Status) bool { return st.DirError != "" })
	h.ExpectUntouched(before)
	h.must(syscall.Unmount(h.VMs, 0))
	h.AwaitConverged()
	h.Write("more.hcl", h.Task("more", guest.Button)) // it is watched again
	h.AwaitRunning("more")
	h.ProveRemovals()
	h.ExpectUntouched(before)
}

// On a file system that tells of nothing, changes are found by looking, and a
// removal is believed after five seconds, not before.
func TestFileSystemThatTellsNothing(t *testing.T) {
	t.Parallel()
	needsRoot(t, "a file system that tells of no changes")
	h := Start(t, Config(seldom), Stopped())
	elsewhere := filepath.Join(filepath.Dir(h.VMs), "elsewhere")
	h.must(os.Mkdir(elsewhere, 0o755))
	if out, err := exec.Command("bindfs", elsewhere, h.VMs).CombinedOutput(); err != nil {
		t.Skipf("not tried without FUSE: a file system that tells of no changes: %v\n%s", err, out)
	}
	t.Cleanup(func() { syscall.Unmount(h.VMs, syscall.MNT_DETACH) }) //nolint:errcheck // the test has failed if it did not work
	h.StartDaemon()
	text := h.Task("web", guest.Button)
	path := filepath.Join(elsewhere, "web.hcl")
	h.must(os.WriteFile(path, []byte(text), 0o644))
	before := h.AwaitRunning("web")
	if log := h.DaemonLog(); !strings.Contains(log, "cannot be relied on") || !strings.Contains(log, "fuse") {
		t.Error("the log does not say why it looks every second")
	}
	h.must(os.Remove(path))
	h.AwaitTask("web", "its absence", func(task TaskStatus) bool { return task.Desired == "absent" })
	h.must(os.WriteFile(path, []byte(text+"# back\n"), 0o644))
	h.AwaitConverged()
	h.ExpectUntouched(before)
	removed := time.Now()
	h.must(os.Remove(path))
	h.AwaitGone("web")
	if after := h.AwaitEvent("stopping", "web").Time.Sub(removed); after < 5*time.Second {
		t.Errorf("it was stopped %s after its file went", after)
	}
}

// When the host has no inotify left, the daemon looks by itself and says what
// to do; when there is some again it goes back to events.
func TestWatchesExhausted(t *testing.T) {
	t.Parallel()
	if out, err := exec.Command("unshare", "-Ur", "true").CombinedOutput(); err != nil {
		t.Skipf("not tried without user namespaces: a host without inotify instances or watches: %v\n%s", err, out)
	}
	for limit, hint := range map[string]string{"max_inotify_instances": "max_user_instances", "max_inotify_watches": "max_user_watches"} {
		t.Run(limit, func(t *testing.T) {
			t.Parallel()
			// The limits of a user namespace of its own bind nobody else.
			h := Start(t, Config(seldom), Under(fmt.Sprintf(`exec unshare -Ur sh -c 'echo 0 >/proc/sys/user/%s; exec "$@"' sh "$@"`, limit)))
			h.Write("web.hcl", h.Task("web", guest.Button))
			before := h.AwaitRunning("web")
			if log := h.DaemonLog(); !strings.Contains(log, hint) {
				t.Errorf("the log does not name fs.inotify.%s", hint)
			}
			raise := exec.Command("nsenter", "--user", "--preserve-credentials", "-t", fmt.Sprint(h.DaemonPID()), "sh", "-c", "echo 1000 >/proc/sys/user/"+limit)
			if out, err := raise.CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			h.Await("events", func() bool { return strings.Contains(h.DaemonLog(), "can be relied on again") })
			h.ProveRemovals()
			h.ExpectUntouched(before)
		})
	}
}

// More happens than the kernel's queue of events holds: what was lost is found.
func TestEventsOverflow(t *testing.T) {
	t.Parallel()
	h := Start(t, Config(seldom))
	h.Write("web.hcl", h.Task("web", guest.Button))
	h.Write("gone.hcl", h.Task("gone", guest.Button))
	before := h.AwaitRunning("web")
	h.AwaitRunning("gone")
	h.AwaitConverged()
	limit, err := os.ReadFile("/proc/sys/fs/inotify/max_queued_events")
	h.must(err)
	var events int
	_, err = fmt.Sscan(string(limit), &events)
	h.must(err)
	h.Signal(syscall.SIGSTOP)
	for i := range events/2 + 100 { // each is made and removed
		path := filepath.Join(h.VMs, fmt.Sprintf("flood%d.hcl", i))
		h.must(os.WriteFile(path, nil, 0o644))
		h.must(os.Remove(path))
	}
	h.Write("new.hcl", h.Task("new", guest.Button))
	h.Remove("gone.hcl")
	h.Signal(syscall.SIGCONT)
	h.AwaitRunning("new")
	h.AwaitGone("gone")
	h.ExpectUntouched(before)
	if !strings.Contains(h.DaemonLog(), "events were lost") {
		t.Error("nothing was lost: the test has not done what it is for")
	}
}
