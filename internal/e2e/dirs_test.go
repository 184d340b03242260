package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/qemu-reconciler/qemu-reconciler/internal/guest"
)

// The directory goes and comes back: nothing is stopped, and what is in it then
// is found. It goes by rename, by unreadability, and by deletion.
func TestDirectoryMissingAndBack(t *testing.T) {
	t.Parallel()
	h := Start(t, AsNobody())
	h.Write("web.hcl", h.Task("web", guest.Button))
	before := h.AwaitRunning("web")
	text := h.Task("new", guest.Button)
	for i, step := range []struct {
		name     string
		go_, put func()
	}{
		{"renamed", func() { h.must(os.Rename(h.VMs, h.VMs+".away")) }, func() { h.must(os.Rename(h.VMs+".away", h.VMs)) }},
		{"unreadable", func() { h.must(os.Chmod(h.VMs, 0)) }, func() { h.must(os.Chmod(h.VMs, 0o755)) }},
		{"deleted", func() { h.must(os.RemoveAll(h.VMs)) }, func() {
			h.must(os.Mkdir(h.VMs, 0o755))
			h.Write("again.hcl", h.Task("web", guest.Button))
		}},
	} {
		step.go_()
		h.Await("event dir-missing, "+step.name, func() bool { return h.Count("dir-missing", "") == i+1 })
		st := h.AwaitStatus("no convergence", func(st Status) bool { return !st.Converged })
		if task, _ := st.Task("web"); task.PID != before.PID || task.Phase != "running" || !strings.Contains(task.Reason, "task directory") {
			t.Errorf("%s: %+v", step.name, task)
		}
		if result := h.Do("plan"); result.Code != 1 {
			t.Errorf("%s: plan %+v", step.name, result)
		}
		step.put()
		h.Await("event dir-back, "+step.name, func() bool { return h.Count("dir-back", "") == i+1 })
		name := fmt.Sprintf("new%d", i)
		h.Write(name+".hcl", strings.ReplaceAll(text, `task "new"`, fmt.Sprintf("task %q", name))) // events arrive again
		h.AwaitPhase(name, "running")
		h.Remove(name + ".hcl")
		h.AwaitGone(name)
		h.AwaitConverged()
		h.ExpectUntouched(before)
	}
}

// A daemon that never saw the directory removes nothing.
func TestDirectoryMissingAtStart(t *testing.T) {
	t.Parallel()
	h := Start(t)
	text := h.Task("web", guest.Button)
	h.Write("web.hcl", text)
	before := h.AwaitRunning("web")
	h.Terminate()
	h.must(os.RemoveAll(h.VMs))
	h.StartDaemon()
	h.AwaitEvent("dir-missing", "")
	h.ExpectUntouched(before)
	h.must(os.Mkdir(h.VMs, 0o755))
	h.Write("web.hcl", text)
	h.AwaitConverged()
	h.ExpectUntouched(before)
}

// git-sync: the directory is a symlink that is swapped for another.
func TestWholeDirectorySwap(t *testing.T) {
	t.Parallel()
	h := Start(t, Stopped())
	stays, goes, comes := h.Task("stays", guest.Button), h.Task("goes", guest.Button, graceful), h.Task("comes", guest.Button)
	top := filepath.Dir(h.VMs)
	tree := func(name string, files map[string]string) {
		h.must(os.Mkdir(filepath.Join(top, name), 0o755))
		for file, text := range files {
			h.must(os.WriteFile(filepath.Join(top, name, file), []byte(text), 0o644))
		}
		h.must(os.Symlink(name, filepath.Join(top, "link")))
		h.must(os.Rename(filepath.Join(top, "link"), h.VMs))
	}
	h.must(os.Remove(h.VMs))
	tree("rev1", map[string]string{"stays.hcl": stays, "goes.hcl": goes})
	h.StartDaemon()
	before := h.AwaitRunning("stays")
	h.AwaitRunning("goes")
	tree("rev2", map[string]string{"elsewhere.hcl": "# moved\n" + stays, "comes.hcl": comes})
	h.must(os.RemoveAll(filepath.Join(top, "rev1")))
	h.AwaitRunning("comes")
	h.AwaitGone("goes")
	h.AwaitConverged()
	h.ExpectUntouched(before)
	h.Write("more.hcl", h.Task("more", guest.Button)) // the new directory is watched
	h.AwaitRunning("more")
	h.ExpectUntouched(before)
}

// A ConfigMap volume: the files are symlinks through ..data, which is swapped.
func TestConfigMapSwap(t *testing.T) {
	t.Parallel()
	h := Start(t)
	one, two := h.Task("one", guest.Button), h.Task("two", guest.Button, graceful)
	revision := func(name string, files map[string]string) {
		h.must(os.Mkdir(filepath.Join(h.VMs, name), 0o755))
		for file, text := range files {
			h.must(os.WriteFile(filepath.Join(h.VMs, name, file), []byte(text), 0o644))
		}
		h.must(os.Symlink(name, filepath.Join(h.VMs, "..data_tmp")))
		h.must(os.Rename(filepath.Join(h.VMs, "..data_tmp"), filepath.Join(h.VMs, "..data")))
	}
	revision("..rev1", map[string]string{"one.hcl": one, "two.hcl": two})
	for _, name := range []string{"one.hcl", "two.hcl"} {
		h.must(os.Symlink(filepath.Join("..data", name), filepath.Join(h.VMs, name)))
	}
	first, second := h.AwaitRunning("one"), h.AwaitRunning("two")
	revision("..rev2", map[string]string{"one.hcl": "# as before\n" + one, "two.hcl": moreMemory(two)})
	h.must(os.RemoveAll(filepath.Join(h.VMs, "..rev1")))
	h.AwaitTask("two", "another process", func(task TaskStatus) bool {
		return task.Phase == "running" && task.PID != second.PID
	})
	h.AwaitConverged()
	h.ExpectUntouched(first)
}

// What editors do on save, and sed and git on their way: one meaningless change
// each, no VM is stopped; then one that means something.
func TestEditorsAndTools(t *testing.T) {
	t.Parallel()
	h := Start(t)
	text := h.Task("web", guest.Button, graceful)
	h.Write("web.hcl", text)
	before := h.AwaitRunning("web")
	path := filepath.Join(h.VMs, "web.hcl")
	vim := func(text string) {
		probe := filepath.Join(h.VMs, "4913")
		h.must(os.WriteFile(probe, nil, 0o644))
		h.must(os.Remove(probe))
		h.must(os.WriteFile(filepath.Join(h.VMs, ".web.hcl.swp"), []byte("b0VIM"), 0o600))
		h.must(os.Rename(path, path+"~"))
		h.must(os.WriteFile(path, []byte(text), 0o644))
		h.must(os.Remove(path + "~"))
		h.must(os.Remove(filepath.Join(h.VMs, ".web.hcl.swp")))
	}
	for name, save := range map[string]func(){
		"vim": func() { vim(text + "# vim\n") },
		"sed": func() { h.must(exec.Command("sed", "-i", "1i # sed", path).Run()) },
		"git": func() { h.must(os.Remove(path)); h.WritePlain("web.hcl", text+"# git\n") },
		"emacs": func() {
			h.must(os.Symlink("me@host:1", filepath.Join(h.VMs, ".#web.hcl")))
			h.WritePlain("web.hcl", text)
		},
	} {
		save()
		h.ProvePass()
		h.AwaitConverged()
		h.ExpectUntouched(before)
		if t.Failed() {
			t.Fatalf("by %s", name)
		}
	}
	h.ProveRemovals()
	h.ExpectUntouched(before)
	vim(strings.Replace(text, "memory = 128", "memory = 160", 1))
	h.AwaitTask("web", "another process", func(task TaskStatus) bool {
		return task.Phase == "running" && task.PID != before.PID
	})
	h.AwaitConverged()
}
