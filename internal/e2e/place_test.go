package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/qemu-reconciler/qemu-reconciler/internal/guest"
)

// awaitUnbelieved waits until the directory is empty and not believed to be, and
// for longer than a removal takes.
func (h *Host) awaitUnbelieved() {
	h.t.Helper()
	h.AwaitStatus("an empty directory that is not believed", func(st Status) bool {
		return strings.Contains(st.DirError, "it is empty") && strings.Contains(st.DirError, "only a comment") && !st.Converged
	})
	<-time.After(pause)
}

// Where a directory of the same file system was mounted is an empty one: nothing
// is stopped for it, by this daemon or the next, whatever that one remembers.
func TestUnmountedFromTheSameFileSystem(t *testing.T) {
	t.Parallel()
	needsRoot(t, "a directory of the same file system mounted and unmounted")
	h := Start(t, Stopped(), Config(seldom))
	repository := filepath.Join(filepath.Dir(h.VMs), "repository")
	h.must(os.Mkdir(repository, 0o755))
	h.mount(repository, h.VMs, "", syscall.MS_BIND)
	h.StartDaemon()
	h.Write("web.hcl", h.Task("web", guest.Button))
	before := h.AwaitRunning("web")
	h.AwaitConverged()

	h.must(syscall.Unmount(h.VMs, 0))
	h.awaitUnbelieved()
	h.ExpectUntouched(before)

	note := filepath.Join(h.State, "vms_dir.json")
	for _, spoil := range []func(){
		func() {},
		func() { h.must(os.WriteFile(note, []byte("{"), 0o600)) },
		func() { h.must(os.Remove(note)) },
		func() { h.must(os.WriteFile(note, []byte(`{"version": 9}`), 0o600)) },
	} {
		h.Kill()
		spoil()
		if result := h.Do("plan"); result.Code != 1 || !strings.Contains(result.Stdout+result.Stderr, "it is empty") {
			t.Errorf("a plan without a daemon: %+v", result)
		}
		h.StartDaemon()
		h.awaitUnbelieved()
		h.ExpectUntouched(before)
	}
	h.mount(repository, h.VMs, "", syscall.MS_BIND)
	h.AwaitConverged()
	h.ProveRemovals()
	h.ExpectUntouched(before)
}

// The directory is removed and made anew, and stays empty for long, as by
// `git clone` of a large repository: it counts once there is a file in it.
func TestDirectoryMadeAnewStaysEmpty(t *testing.T) {
	t.Parallel()
	h := Start(t)
	text := h.Task("web", guest.Button)
	h.Write("web.hcl", text)
	before := h.AwaitRunning("web")
	h.must(os.RemoveAll(h.VMs))
	h.must(os.Mkdir(h.VMs, 0o755))
	h.awaitUnbelieved()
	h.Kill()
	h.StartDaemon()
	h.awaitUnbelieved()
	h.ExpectUntouched(before)
	h.WritePlain("again.hcl", text)
	h.AwaitConverged()
	h.ExpectUntouched(before)

	h.must(os.Rename(h.VMs, h.VMs+".old"))
	h.must(os.Mkdir(h.VMs, 0o755))
	h.awaitUnbelieved()
	h.ExpectUntouched(before)
	// The way out that the status names.
	h.Write("none.hcl", "# no VM here\n")
	h.AwaitGone("web")
	h.Remove("none.hcl")
	h.AwaitConverged()
}

// git-sync to a commit without a task: the same.
func TestSwapToAnEmptyDirectory(t *testing.T) {
	t.Parallel()
	h := Start(t, Stopped())
	top := filepath.Dir(h.VMs)
	swap := func(rev string) {
		h.must(os.MkdirAll(filepath.Join(top, rev), 0o755))
		h.must(os.Symlink(rev, h.VMs+".new"))
		h.must(os.Rename(h.VMs+".new", h.VMs))
	}
	h.must(os.Remove(h.VMs))
	swap("rev1")
	h.StartDaemon()
	if st := h.AwaitConverged(); st.DirError != "" {
		t.Errorf("nothing was ever there: %s", st.DirError)
	}
	h.Write("web.hcl", h.Task("web", guest.Button))
	before := h.AwaitRunning("web")
	swap("rev2")
	h.awaitUnbelieved()
	h.ExpectUntouched(before)
	swap("rev1")
	h.AwaitConverged()
	h.ExpectUntouched(before)
	h.Remove("web.hcl") // in the directory itself it is believed
	h.AwaitGone("web")
	h.AwaitConverged()
}

// What a swap of the whole directory does to VMs: one that is in both contents
// stays, one that is in the new one alone starts, and what comes next is seen.
func (h *Host) expectReplaced(replace func(next string)) {
	h.t.Helper()
	stays, goes := h.Task("stays", guest.Button), h.Task("goes", guest.Button)
	h.Write("stays.hcl", stays)
	h.Write("goes.hcl", goes)
	before := h.AwaitRunning("stays")
	h.AwaitRunning("goes")
	next := filepath.Join(filepath.Dir(h.VMs), "next")
	h.must(os.MkdirAll(next, 0o755))
	h.must(os.WriteFile(filepath.Join(next, "other.hcl"), []byte("# moved\n"+stays), 0o644))
	h.must(os.WriteFile(filepath.Join(next, "comes.hcl"), []byte(h.Task("comes", guest.Button)), 0o644))
	replace(next)
	h.AwaitRunning("comes")
	h.AwaitGone("goes")
	h.AwaitConverged()
	h.ExpectUntouched(before)
	h.ProveRemovals()
	h.ExpectUntouched(before)
}

// git-sync: the task directory is inside a tree, and the link to that is swapped.
func TestParentSwap(t *testing.T) {
	t.Parallel()
	h := Start(t, Stopped(), Config(seldom))
	top := filepath.Dir(h.VMs)
	link := filepath.Join(top, "current")
	h.must(os.MkdirAll(filepath.Join(top, "rev1", "hosts", "vms.d"), 0o755))
	h.must(os.MkdirAll(filepath.Join(top, "rev2", "hosts"), 0o755))
	h.must(os.Symlink("rev1", link))
	h.VMs = filepath.Join(link, "hosts", "vms.d")
	h.StartDaemon()
	h.expectReplaced(func(next string) {
		h.must(os.Rename(next, filepath.Join(top, "rev2", "hosts", "vms.d")))
		h.must(os.Symlink("rev2", link+".new"))
		h.must(os.Rename(link+".new", link))
		h.must(os.RemoveAll(filepath.Join(top, "rev1")))
	})
}

// The directory is moved away, and another put in its place.
func TestDirectoryReplaced(t *testing.T) {
	t.Parallel()
	h := Start(t, Config(seldom))
	h.expectReplaced(func(next string) {
		h.must(os.Rename(h.VMs, h.VMs+".old"))
		h.must(os.Rename(next, h.VMs))
	})
}
