package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/qemu-reconciler/qemu-reconciler/internal/guest"
)

// graceful is a config line; tests whose VMs are to be stopped by themselves
// have it.
const graceful = "graceful_shutdown = true"

// with puts lines at the top of a task.
func with(task string, lines ...string) string {
	return strings.Replace(task, "{", "{\n  "+strings.Join(lines, "\n  "), 1)
}

func TestPlainWriteStarts(t *testing.T) {
	t.Parallel()
	h := Start(t)
	h.WritePlain("web.hcl", h.Task("web", guest.Button))
	h.AwaitRunning("web")
	if n := h.Count("file-broken", ""); n != 0 {
		t.Errorf("the file was read half-written: %d events", n)
	}
}

// Two VMs run; their file is written anew in place by somebody who takes longer
// than a removal does, and for all of that time only the first task is in it.
func TestSlowWriterLosesNothing(t *testing.T) {
	for name, opts := range map[string][]Option{"leases": nil, "no leases": {AsNobody()}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := Start(t, opts...)
			first, second := h.Task("first", guest.Button), h.Task("second", guest.Button)
			h.Write("both.hcl", first+second)
			before := []TaskStatus{h.AwaitRunning("first"), h.AwaitRunning("second")}
			file, err := os.Create(filepath.Join(h.VMs, "both.hcl"))
			h.must(err)
			// The pauses are what is tested: shorter than the 100 ms after which
			// a file counts as finished where nobody can say who writes.
			pace := time.NewTicker(40 * time.Millisecond)
			defer pace.Stop()
			for chunk := range slices.Chunk([]byte(first+"# that was the first\n"+second), 16) {
				_, err := file.Write(chunk)
				h.must(err)
				<-pace.C
			}
			h.must(file.Close())
			h.ProveRemovals()
			for _, task := range before {
				h.ExpectUntouched(task)
			}
			if n := h.Count("file-broken", ""); n != 0 {
				t.Errorf("the file was read half-written: %d events", n)
			}
		})
	}
}

// What changes no meaning changes nothing: each edit is followed by proof that
// a pass has read it.
func TestWhatMeansNothingKeepsThePid(t *testing.T) {
	t.Parallel()
	h := Start(t)
	text := h.Task("web", guest.Button)
	h.Write("web.hcl", text)
	before := h.AwaitRunning("web")
	path := filepath.Join(h.VMs, "web.hcl")
	image := fmt.Sprintf("image_path = %q", filepath.Join(h.Disks, "web.img"))
	steps := []struct {
		name string
		do   func()
	}{
		{"comment", func() { h.Write("web.hcl", "# why it is here\n"+text+"// and\n/* so on */\n") }},
		{"blanks", func() { h.Write("web.hcl", strings.ReplaceAll(text, "\n", "\n\n\t")) }},
		{"order", func() {
			h.Write("web.hcl", "task \"web\" {\n resources {\n memory = 128\n }\n config {\n emulator = \"x86_64\"\n "+image+"\n }\n}\n")
		}},
		{"defaults spelt out", func() {
			h.Write("web.hcl", with(strings.Replace(text, "memory = 128", "memory = \"128\"\n cores = 1", 1), `driver = "qemu"`, `kill_timeout = "1m"`))
		}},
		{"touch", func() { now := time.Now(); h.must(os.Chtimes(path, now, now)) }},
		{"mode", func() { h.must(os.Chmod(path, 0o600)) }},
		{"another file name", func() { h.must(os.Rename(path, filepath.Join(h.VMs, "other.hcl"))) }},
		{"the image replaced", func() {
			h.must(guest.Write(filepath.Join(h.Disks, "new.img"), guest.Deaf))
			h.must(os.Rename(filepath.Join(h.Disks, "new.img"), filepath.Join(h.Disks, "web.img")))
		}},
	}
	for _, step := range steps {
		step.do()
		h.ProvePass()
		h.ExpectUntouched(before)
		if t.Failed() {
			t.Fatalf("by %s", step.name)
		}
	}
	h.AwaitTask("web", "file name", func(task TaskStatus) bool { return task.File == "other.hcl" })
	h.ProveRemovals()
	h.ExpectUntouched(before)
	if result := h.Do("plan"); result.Code != 0 {
		t.Errorf("the plan has changes: %+v", result)
	}
}

// A policy is written down and touches no QEMU; it holds from then on.
func TestPolicyChangesLive(t *testing.T) {
	t.Parallel()
	h := Start(t)
	text := h.Task("web", guest.Button)
	h.Write("web.hcl", text)
	before := h.AwaitRunning("web")
	h.Write("web.hcl", with(strings.Replace(text, "config {", "config {\n    "+graceful, 1),
		`kill_timeout = "50s"`, `on_remove = "keep"`, `meta = { owner = "ops" }`, "restart {\n on = \"never\"\n }"))
	h.AwaitEvent("changed", "web")
	h.AwaitConverged()
	h.ExpectUntouched(before)
	h.SignalQEMU("web", 9)
	h.AwaitTask("web", "rest after a kill", func(task TaskStatus) bool { return task.Phase == "stopped" && task.Restarts == 0 })
}

// Any other change is a graceful restart on the new definition.
func TestEditRestartsGracefully(t *testing.T) {
	t.Parallel()
	h := Start(t)
	text := h.Task("web", guest.Button, graceful)
	h.Write("web.hcl", text)
	before := h.AwaitRunning("web")
	h.Write("web.hcl", strings.Replace(text, "memory = 128", "memory = 160", 1))
	after := h.AwaitTask("web", "another process", func(task TaskStatus) bool {
		return task.Phase == "running" && task.PID != before.PID
	})
	h.AwaitConsole("web", guest.SaysButton)
	argv, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", h.OnlyQEMU("web")))
	if err != nil || !strings.Contains(string(argv), "-m\x00160M\x00") {
		t.Errorf("%v: the command line is %q", err, argv)
	}
	if after.LastExit == nil || after.LastExit.Rung != "acpi" || after.Restarts != 0 || after.UUID != before.UUID {
		t.Errorf("before %+v, after %+v", before, after)
	}
	if h.Count("started", "web") != 2 {
		t.Error("it was not started exactly twice")
	}
}

// A file appears whose image does not exist; the image arrives. Nobody touches
// the file again.
func TestImageArrivesLater(t *testing.T) {
	t.Parallel()
	h := Start(t, Config(`resync_interval = "1s"`))
	text := h.Task("web", guest.Button)
	image := filepath.Join(h.Disks, "web.img")
	h.must(os.Rename(image, image+".later"))
	h.Write("web.hcl", text)
	task := h.AwaitPhase("web", "failed")
	if !strings.Contains(task.Reason, "image_path") && !strings.Contains(task.Reason, "Image") {
		t.Errorf("the reason does not speak of the image: %s", task.Reason)
	}
	st := h.Status()
	if st.Converged || len(st.Files) != 1 || len(st.Files[0].Errors) != 1 || st.Files[0].Errors[0].Line != 3 {
		t.Errorf("the mistake is not shown with its place: %+v", st.Files)
	}
	h.must(os.Rename(image+".later", image))
	h.AwaitRunning("web")
	h.AwaitConverged()
}

// One broken task in a file, one broken file beside it: the others run.
func TestOneMistakeHurtsNobodyElse(t *testing.T) {
	t.Parallel()
	h := Start(t)
	h.Write("a.hcl", h.Task("good", guest.Button)+with(h.Task("bad", guest.Button), "kill_timout = \"3s\""))
	h.Write("b.hcl", "task \"worse\" {\n")
	h.Write("c.hcl", h.Task("fine", guest.Button))
	h.AwaitRunning("good")
	h.AwaitRunning("fine")
	st := h.AwaitStatus("both mistakes", func(st Status) bool { return len(st.Files) == 2 })
	if st.Files[0].Path != "a.hcl" || st.Files[0].Errors[0].Line != 12 || !strings.Contains(st.Files[0].Errors[0].Detail+st.Files[0].Errors[0].Summary, "kill_timeout") {
		t.Errorf("a.hcl: %+v", st.Files[0])
	}
	if st.Files[1].Path != "b.hcl" || st.Files[1].Errors[0].Line == 0 {
		t.Errorf("b.hcl: %+v", st.Files[1])
	}
	if bad, _ := st.Task("bad"); bad.Phase != "failed" || st.Converged {
		t.Errorf("bad is %+v", bad)
	}
}

// Two tasks with one name, then with one port, then with one image: both places
// are named, and the VM that runs stays.
func TestClashesNameBothPlaces(t *testing.T) {
	t.Parallel()
	h := Start(t)
	h.Write("a.hcl", h.Task("web", guest.Button))
	before := h.AwaitRunning("web")
	for name, text := range map[string]string{
		"name":  h.Task("web", guest.Button),
		"image": strings.Replace(h.Task("other", guest.Button), "other.img", "web.img", 1),
	} {
		h.Write("b.hcl", text)
		st := h.AwaitStatus("the clash of "+name, func(st Status) bool { return len(st.Files) == 2 })
		for i, other := range []string{"b.hcl", "a.hcl"} {
			if e := st.Files[i].Errors[0]; !strings.Contains(e.Summary+e.Detail, other) {
				t.Errorf("%s: %s does not name %s: %+v", name, st.Files[i].Path, other, e)
			}
		}
		h.ExpectUntouched(before)
		h.Remove("b.hcl")
		h.AwaitStatus("the end of the clash", func(st Status) bool { return len(st.Files) == 0 })
	}
	h.ExpectUntouched(before)
}
