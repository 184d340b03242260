package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/qemu-reconciler/qemu-reconciler/internal/guest"
)

const (
	// maxZooDelay is how long ordinary tasks may take to run when hostile files
	// come with them. A host that is busy with something else slows down both:
	// there it is maxZooRatio times what they take alone.
	maxZooDelay = 2 * time.Second
	maxZooRatio = 5
	// maxZooMemory is the most that the daemon may ever have had resident, in
	// KiB. The soft limit of its heap is 192 MiB.
	maxZooMemory = 300 << 10
	// maxZooLook is the CPU time for looking at hostile files again that have
	// not changed, in milliseconds for each look.
	maxZooLook = 150
)

// Hostile files hold up nobody: tasks that come with them, edits while they are
// being judged and edits afterwards are as quick as ever, but for a bounded
// time; no file is judged twice; memory stays bounded. The daemon is one without the race detector, and its times
// are taken against those of the same host without the zoo.
func TestHostileFilesHoldUpNobody(t *testing.T) {
	h := Start(t, Plain())
	alone := h.drop("aa")
	with := map[string]time.Duration{}
	hostile := h.Zoo()
	with["new tasks"] = h.drop("zz") // behind all others by name
	with["an edit meanwhile"] = h.edit("zz0")
	h.AwaitStatus("verdict on every file", func(st Status) bool {
		return len(st.Unsettled) == 0 && len(st.Files) == len(hostile)-len(harmless)
	})
	with["an edit afterwards"] = h.edit("zz1")
	with["a hostile file that is mended"] = h.mend("words.hcl")
	for what, took := range with {
		t.Logf("%s: %v, new tasks alone: %v", what, took.Round(time.Millisecond), alone.Round(time.Millisecond))
		if took > max(maxZooDelay, maxZooRatio*alone) {
			t.Errorf("%s took %v; new tasks took %v without hostile files", what, took, alone)
		}
	}
	h.idleAmong(hostile)
	peak := h.number(fmt.Sprintf("/proc/%d/status", h.DaemonPID()), "VmHWM:\t")
	t.Logf("%d hostile files; the daemon had %d MiB at most", len(hostile), peak>>10)
	atMost(t, "memory in KiB", peak, maxZooMemory)
}

// A daemon that starts among hostile files runs the others' tasks, and ends
// when it is told to, whatever it is at.
func TestStartAndEndAmongHostileFiles(t *testing.T) {
	h := Start(t, Plain(), Stopped())
	h.Zoo()
	h.Write("zz.hcl", h.Task("zz", guest.Quiet))
	began := time.Now()
	h.StartDaemon()
	h.After(began, "running")
	t.Logf("running after %v", time.Since(began))
	began = time.Now()
	if code := h.Terminate(); code != 0 {
		t.Errorf("the daemon ended with %d", code)
	}
	if took := time.Since(began); took > maxZooDelay {
		t.Errorf("the daemon took %v to end", took)
	}
}

// drop writes three new tasks and gives the time until all of them run.
func (h *Host) drop(prefix string) time.Duration {
	h.t.Helper()
	var names []string
	texts := map[string]string{}
	for i := range 3 {
		name := fmt.Sprintf("%s%d", prefix, i)
		names = append(names, name)
		texts[name] = h.Task(name, guest.Quiet)
	}
	began := time.Now()
	for name, text := range texts {
		h.Write(name+".hcl", text)
	}
	h.Await("answers of "+prefix, func() bool {
		events := h.read("events.jsonl")
		return !slices.ContainsFunc(names, func(name string) bool {
			return !strings.Contains(events, `"type":"running","task":"`+name+`"`)
		})
	})
	return time.Since(began)
}

// edit changes the memory of a task and gives the time until it runs again.
func (h *Host) edit(name string) time.Duration {
	h.t.Helper()
	began := time.Now()
	h.Write(name+".hcl", moreMemory(h.Task(name, guest.Quiet)))
	return h.After(began, "running").Sub(began)
}

// mend makes an ordinary file of a hostile one and gives the time until its
// task runs.
func (h *Host) mend(name string) time.Duration {
	h.t.Helper()
	text := h.Task("mended", guest.Quiet)
	began := time.Now()
	h.Write(name, text)
	return h.After(began, "running").Sub(began)
}

// idleAmong has the daemon look at the directory again and again, and fails the
// test if that costs more than looks.
func (h *Host) idleAmong(hostile []string) {
	h.t.Helper()
	const looks = 10
	before := h.Usage()
	for i := range looks {
		name := fmt.Sprintf("later%d", i)
		began := time.Now()
		h.Write(name+".hcl", "# nothing\ntask \""+name+"\" {\n state = \"stopped\"\n config {\n image_path = \"/nowhere\"\n }\n}\n")
		h.After(began, "file-broken")
	}
	took := h.Usage().CPU - before.CPU
	h.t.Logf("%d looks at %d hostile files that did not change: %s of CPU", looks, len(hostile), took)
	atMost(h.t, "milliseconds for a look", int(took.Milliseconds())/looks, maxZooLook)
}
