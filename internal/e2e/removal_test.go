package e2e

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/qemu-reconciler/qemu-reconciler/internal/guest"
)

// A task that is in no file any more is stopped after half a second, and its
// port and its record are free; its disk and its logs stay.
func TestRemovalWaitsHalfASecond(t *testing.T) {
	t.Parallel()
	h := Start(t)
	h.Write("web.hcl", h.Task("web", guest.Button, graceful, "port_map = { http = 80 }"))
	h.AwaitRunning("web")
	removed := time.Now()
	h.Remove("web.hcl")
	h.AwaitGone("web")
	h.AwaitNoQEMU()
	if after := h.AwaitEvent("stopping", "web").Time.Sub(removed); after < 500*time.Millisecond {
		t.Errorf("it was stopped %s after its file went", after)
	}
	h.AwaitConsole("web", guest.SaysButton)
	h.AwaitEvent("removed", "web")
	if _, err := os.Stat(filepath.Join(h.Disks, "web.img")); err != nil {
		t.Error(err)
	}
	for _, gone := range []string{filepath.Join(h.State, "tasks", "web.json"), filepath.Join(h.Run, "vms", "web")} {
		if _, err := os.Stat(gone); !os.IsNotExist(err) {
			t.Errorf("%s is still there (%v)", gone, err)
		}
	}
}

// While anything happens in the directory no removal is believed, however long the
// task has been in no file: half a second without an event must have gone by. What
// happens means nothing: first so densely that it is so on a busy host as well,
// then as seldom as it may be.
func TestRemovalWaitsForAQuietDirectory(t *testing.T) {
	t.Parallel()
	h := Start(t)
	h.Write("web.hcl", h.Task("web", guest.Button))
	h.AwaitRunning("web")
	other := filepath.Join(h.VMs, "other.hcl")
	happenings := []func(){
		func() { h.Write("other.hcl", "# renamed into place\n") },
		func() { h.WritePlain("other.hcl", "# written in place\n") },
		func() { h.must(os.Chtimes(other, time.Now(), time.Now())) },
		func() { h.WritePlain(".other.hcl.swp", "of an editor") },
		func() { h.Remove(".other.hcl.swp") },
	}
	var began, ended []time.Time
	happen := func(what func(), pause time.Duration) {
		began = append(began, time.Now())
		what()
		ended = append(ended, time.Now())
		<-time.After(pause)
	}
	happen(func() { h.Remove("web.hcl") }, 0)
	for i := range 60 {
		pause := 30 * time.Millisecond
		if i >= 50 {
			pause = 200 * time.Millisecond
		}
		happen(happenings[i%len(happenings)], pause)
	}
	h.AwaitGone("web")
	stopping := h.AwaitEvent("stopping", "web").Time
	for i := range began { // half a second may have been quiet where this test was held up
		if after := stopping.Sub(began[i]); ended[i].Before(stopping) && after < 500*time.Millisecond {
			t.Errorf("it was stopped %s after event %d of %d", after, i, len(began))
		}
	}
}

// Of two tasks of a file one is taken out.
func TestTaskRemovedFromItsFile(t *testing.T) {
	t.Parallel()
	h := Start(t)
	stays, goes := h.Task("stays", guest.Button), h.Task("goes", guest.Button, graceful)
	h.Write("both.hcl", stays+goes)
	before := h.AwaitRunning("stays")
	h.AwaitRunning("goes")
	h.Write("both.hcl", stays)
	h.AwaitGone("goes")
	h.AwaitConsole("goes", guest.SaysButton)
	h.ExpectUntouched(before)
}

// A task moves to another file, in both orders of the two writes and by a new
// name of the file.
func TestTaskMovesBetweenFiles(t *testing.T) {
	t.Parallel()
	h := Start(t)
	moves, stays := h.Task("moves", guest.Button), h.Task("stays", guest.Button)
	h.Write("a.hcl", moves+stays)
	before := []TaskStatus{h.AwaitRunning("moves"), h.AwaitRunning("stays")}
	for _, step := range []struct {
		name, in string
		do       func()
	}{
		{"out and in", "b.hcl", func() { h.Write("a.hcl", stays); h.Write("b.hcl", moves) }},
		{"in and out", "c.hcl", func() { h.Write("c.hcl", moves); h.Remove("b.hcl") }},
		{"both at once", "c.hcl", func() {
			h.Write("c.hcl", stays+"#\n")
			h.Write("a.hcl", moves)
			h.must(os.Rename(filepath.Join(h.VMs, "a.hcl"), filepath.Join(h.VMs, "d.hcl")))
			h.must(os.Rename(filepath.Join(h.VMs, "c.hcl"), filepath.Join(h.VMs, "a.hcl")))
			h.must(os.Rename(filepath.Join(h.VMs, "d.hcl"), filepath.Join(h.VMs, "c.hcl")))
		}},
	} {
		step.do()
		h.AwaitTask("moves", "file "+step.in, func(task TaskStatus) bool { return task.File == step.in })
		h.AwaitConverged()
		h.ProveRemovals()
		for _, task := range before {
			h.ExpectUntouched(task)
		}
		if t.Failed() {
			t.Fatalf("by %s", step.name)
		}
	}
}

// A task for other hosts is not wanted here; when it is again, it starts.
func TestHostsEdit(t *testing.T) {
	t.Parallel()
	h := Start(t, Config(`host_name = "node7.example.org"`))
	text := h.Task("web", guest.Button, graceful)
	h.Write("web.hcl", with(text, `hosts = ["node*"]`))
	before := h.AwaitRunning("web")
	h.Write("web.hcl", with(text, `hosts = ["other", "node7"]`))
	h.ProvePass()
	h.ExpectUntouched(before)
	h.Write("web.hcl", with(text, `hosts = ["other"]`))
	h.AwaitGone("web")
	h.AwaitConsole("web", guest.SaysButton)
	if st := h.AwaitConverged(); st.Host != "node7.example.org" {
		t.Errorf("the host is %q", st.Host)
	}
	h.Write("web.hcl", text)
	h.AwaitPhase("web", "running")
}

// on_remove = "keep": the VM runs on, is no business of the status, and is the
// same when its file returns, also to another daemon.
func TestKeptVMReturns(t *testing.T) {
	t.Parallel()
	h := Start(t)
	text := with(h.Task("web", guest.Button), `on_remove = "keep"`)
	h.Write("web.hcl", text)
	before := h.AwaitRunning("web")
	for _, restart := range []bool{false, true} {
		h.Remove("web.hcl")
		h.AwaitGone("web")
		h.AwaitConverged()
		if pid := h.OnlyQEMU("web"); pid != before.PID {
			t.Fatalf("the QEMU was %d and is %d", before.PID, pid)
		}
		if restart {
			h.Kill()
			h.StartDaemon()
			h.ProveRemovals()
		}
		h.Write("web.hcl", text)
		h.AwaitPhase("web", "running")
		h.AwaitConverged()
		h.ExpectUntouched(before)
	}
}

// A file that turns into something useless keeps its VMs, and every removal
// waits until it is mended: the task may be in there.
func TestBrokenFileKeepsAndHolds(t *testing.T) {
	t.Parallel()
	h := Start(t, AsNobody())
	text := h.Task("keeps", guest.Button)
	h.Write("keeps.hcl", text)
	h.Write("goes.hcl", h.Task("goes", guest.Button, graceful))
	keeps, goes := h.AwaitRunning("keeps"), h.AwaitRunning("goes")
	path := filepath.Join(h.VMs, "keeps.hcl")
	for _, step := range []struct {
		name string
		do   func()
	}{
		{"broken", func() { h.Write("keeps.hcl", strings.Replace(text, "memory = 128", "memory = \"much\"", 1)) }},
		{"empty", func() { h.Write("keeps.hcl", "") }},
		{"truncated in place", func() { h.must(os.Truncate(path, 0)) }},
		{"half-written", func() { h.Write("keeps.hcl", text[:len(text)/2]) }},
		{"blank", func() { h.Write("keeps.hcl", " \n\t\n") }},
		{"unreadable", func() { h.Write("keeps.hcl", text); h.must(os.Chmod(path, 0)) }},
		{"a dangling link", func() { h.must(os.Remove(path)); h.must(os.Symlink("nowhere", path)) }},
		{"of another driver", func() { h.must(os.Remove(path)); h.Write("keeps.hcl", with(text, `driver = "docker"`)) }},
	} {
		step.do()
		st := h.AwaitStatus("mistake: "+step.name, func(st Status) bool {
			return len(st.Files) == 1 && st.Files[0].Path == "keeps.hcl" && len(st.Files[0].Errors) > 0
		})
		if task, _ := st.Task("keeps"); st.Converged || task.Phase != "running" || !strings.Contains(task.Reason, "keeps.hcl") {
			t.Errorf("%s: converged %v, %+v", step.name, st.Converged, task)
		}
		h.ExpectUntouched(keeps)
	}
	h.Remove("goes.hcl")
	st := h.AwaitStatus("held removal", func(st Status) bool { return slices.Equal(st.HeldRemovals, []string{"goes"}) })
	if task, _ := st.Task("goes"); task.Phase != "held" || task.Desired != "absent" || !strings.Contains(task.Reason, "keeps.hcl") || task.PID != goes.PID {
		t.Errorf("held: %+v", task)
	}
	if result := h.Do("plan", "--json"); result.Code != 1 || !strings.Contains(result.Stdout, `"held"`) {
		t.Errorf("plan: %+v", result)
	}
	h.Kill() // the next daemon never saw the mistake come
	h.StartDaemon()
	if task := h.AwaitPhase("goes", "held"); task.PID != goes.PID {
		t.Errorf("held by the next daemon: %+v", task)
	}
	h.ProvePass()
	h.ExpectUntouched(keeps)
	h.Write("keeps.hcl", text)
	h.AwaitGone("goes")
	h.AwaitConsole("goes", guest.SaysButton)
	h.AwaitConverged()
	h.ExpectUntouched(keeps)
	if h.Status().HeldRemovals == nil {
		t.Error("held_removals is null")
	}
}

// The last good definition of a broken file also restarts its VM, after a crash
// and under another daemon.
func TestLastGoodDefinitionStarts(t *testing.T) {
	t.Parallel()
	h := Start(t)
	h.Write("web.hcl", h.Task("web", guest.Button))
	before := h.AwaitRunning("web")
	h.Write("web.hcl", "task \"web\" {")
	h.AwaitStatus("the mistake", func(st Status) bool { return len(st.Files) == 1 })
	h.SignalQEMU("web", 9)
	restarted := h.AwaitTask("web", "restart", func(task TaskStatus) bool {
		return task.Phase == "running" && task.PID != before.PID
	})
	h.Terminate()
	h.SignalQEMU("web", 9)
	h.AwaitNoQEMU()
	h.StartDaemon()
	h.AwaitTask("web", "start by the next daemon", func(task TaskStatus) bool {
		return task.Phase == "running" && task.PID != restarted.PID
	})
}

// What a file said before it broke counts: a VM that is being stopped since the file
// wants it on another host, where it may have been started by now, stays down, also
// under the next daemon. Mended, the file decides.
func TestBrokenFileDuringARemoval(t *testing.T) {
	t.Parallel()
	h := Start(t)
	text := h.Task("web", guest.Slow, graceful)
	h.Write("web.hcl", text)
	before := h.AwaitRunning("web")
	h.AwaitConsole("web", guest.SaysReady)
	h.Write("web.hcl", with(text, `hosts = ["other"]`))
	h.AwaitConsole("web", guest.SaysButton)
	h.Write("web.hcl", "task \"web\" {")
	h.AwaitEvent("stopped", "web")
	expectDown := func(who string) {
		t.Helper()
		h.ProvePass()
		if task := h.AwaitPhase("web", "stopped"); task.Desired != "absent" || task.Converged || !strings.Contains(task.Reason, "until web.hcl is mended") {
			t.Errorf("%s: %+v", who, task)
		}
		h.AwaitNoQEMU()
	}
	expectDown("the daemon that stopped it")
	h.Kill()
	h.StartDaemon()
	expectDown("the next one")
	if result := h.Do("start", "web"); result.Code == 0 || !strings.Contains(result.Stderr, "until web.hcl is mended") {
		t.Errorf("start: %+v", result)
	}
	h.Write("web.hcl", text)
	if after := h.AwaitRunning("web"); after.UUID != before.UUID || h.Count("started", "web") != 2 {
		t.Errorf("before %+v, after %+v; started %d times", before, after, h.Count("started", "web"))
	}
}
