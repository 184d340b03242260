package e2e

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/qemu-reconciler/qemu-reconciler/internal/guest"
)

const (
	// maxZooDelay is how long ordinary tasks may take when hostile files come with
	// them. A host that is busy with something else slows down both: there it is
	// maxZooRatio times what new tasks take alone.
	maxZooDelay = 2 * time.Second
	maxZooRatio = 10
	// maxZooMemory is the most that the daemon may ever have had resident, in
	// KiB. The soft limit of its heap is 192 MiB.
	maxZooMemory = 300 << 10
	// maxZooLook is the CPU time for looking at hostile files again that have
	// not changed, in milliseconds for each look.
	maxZooLook = 150
	// maxZooEnd is the CPU time in which the daemon ends, whatever it is at, in
	// milliseconds. All hostile files take half a minute.
	maxZooEnd = 2000
)

// Hostile files hold up nobody: tasks that come with them, edits and stops while
// they are being judged, and what is done afterwards, are as quick as ever, but for
// a bounded time; no file is judged twice; memory stays bounded. The daemon is one
// without the race detector. Its times are taken against those of the same host
// without the zoo; that others go first is seen by the verdicts that are missing
// still, however slow the host is.
func TestHostileFilesHoldUpNobody(t *testing.T) {
	h := Start(t, Plain())
	alone := h.drop("aa")
	with := map[string]time.Duration{}
	hostile := h.Zoo()
	with["new tasks"] = h.drop("zz") // behind all others by name
	with["an edit meanwhile"] = h.edit("zz0")
	with["a stop meanwhile"] = h.halt("zz2")
	h.expectVerdictsMissing()
	h.awaitVerdicts(hostile)
	with["an edit afterwards"] = h.edit("zz1")
	with["a removal, which waits"] = h.wait("aa0")
	with["a hostile file that is mended"] = h.mend("words.hcl")
	h.idleAmong(hostile)
	peak := h.number(fmt.Sprintf("/proc/%d/status", h.DaemonPID()), "VmHWM:\t")
	t.Logf("%d hostile files; the daemon had %d MiB at most", len(hostile), peak>>10)
	atMost(t, "memory in KiB", peak, maxZooMemory)
	h.Cage(hostile)
	alone = max(alone, h.drop("bb")) // the host may have become busy meanwhile
	for what, took := range with {
		t.Logf("%s: %v, new tasks alone: %v", what, took.Round(time.Millisecond), alone.Round(time.Millisecond))
		if took > max(maxZooDelay, maxZooRatio*alone) {
			t.Errorf("%s took %v; new tasks took %v without hostile files", what, took, alone)
		}
	}
}

// A daemon that starts among hostile files runs the others' tasks first, and ends
// when it is told to, whatever it is at.
func TestStartAndEndAmongHostileFiles(t *testing.T) {
	h := Start(t, Plain(), Stopped())
	h.Zoo()
	h.Write("zz.hcl", h.Task("zz", guest.Quiet))
	began := time.Now()
	h.StartDaemon()
	h.After(began, "running")
	t.Logf("running after %v", time.Since(began))
	h.expectVerdictsMissing()
	began = time.Now()
	before := h.Usage().CPU
	if code := h.Terminate(); code != 0 {
		t.Errorf("the daemon ended with %d", code)
	}
	ended := h.daemon.cmd.ProcessState
	used := ended.UserTime() + ended.SystemTime() - before
	t.Logf("ended after %v, with %v of CPU", time.Since(began), used)
	atMost(t, "milliseconds of CPU for the end", int(used.Milliseconds()), maxZooEnd)
}

// expectVerdictsMissing fails the test unless hostile files are being judged still:
// what was done by now was done before that.
func (h *Host) expectVerdictsMissing() {
	h.t.Helper()
	if st := h.Status(); len(st.Unsettled) == 0 {
		h.t.Errorf("all hostile files were judged first: %d have mistakes", len(st.Files))
	}
}

// awaitVerdicts waits for verdicts on all files, as long as one comes after another.
func (h *Host) awaitVerdicts(hostile []string) {
	h.t.Helper()
	missing := func(st Status) int { return len(st.Unsettled) + len(hostile) - len(harmless) - len(st.Files) }
	for left := len(hostile) + 1; left > 0; {
		left = missing(h.AwaitStatus(fmt.Sprintf("next verdict, less than %d missing", left), func(st Status) bool { return missing(st) < left }))
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

// halt stops a task by its name and gives the time until it is off.
func (h *Host) halt(name string) time.Duration {
	h.t.Helper()
	began := time.Now()
	if code, said := h.Act("stop", name, true); code != http.StatusOK {
		h.t.Errorf("stop %s: %d %s", name, code, said)
	}
	return time.Since(began)
}

// wait removes the file of a task and gives the time until it is told that the
// removal waits for a file that is broken.
func (h *Host) wait(name string) time.Duration {
	h.t.Helper()
	before, _ := h.Status().Task(name)
	began := time.Now()
	h.Remove(name + ".hcl")
	held := h.AwaitPhase(name, "held")
	if !strings.Contains(held.Reason, "until") || held.PID != before.PID {
		h.t.Errorf("before %+v, held: %+v", before, held)
	}
	return time.Since(began)
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
