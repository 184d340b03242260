package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/qemu-reconciler/qemu-reconciler/internal/guest"
)

// village is a host whose VMs are named by letters, with the brake on mass
// removals as it is, and what each VM was when all of them ran.
type village struct {
	*Host
	texts  map[string]string
	before map[string]TaskStatus
}

func newVillage(t *testing.T, names string, opts ...Option) *village {
	t.Helper()
	v := &village{Host: Start(t, append(opts, Brake())...), texts: map[string]string{}, before: map[string]TaskStatus{}}
	for _, name := range names {
		v.add(string(name))
	}
	for _, name := range names {
		v.before[string(name)] = v.AwaitRunning(string(name))
	}
	v.AwaitConverged()
	return v
}

func (v *village) add(name string) {
	v.texts[name] = v.Task(name, guest.Button, graceful, "port_map = { web = 80 }")
	v.back(name)
}

// back puts files in place, gone takes them away.
func (v *village) back(names string) {
	for _, name := range names {
		v.Write(string(name)+".hcl", v.texts[string(name)])
	}
}

func (v *village) gone(names string) {
	for _, name := range names {
		v.Remove(string(name) + ".hcl")
	}
}

// awaitHeld waits until exactly these removals are held, and checks that their
// VMs run.
func (v *village) awaitHeld(names string) Status {
	v.t.Helper()
	want := strings.Split(names, "")
	st := v.AwaitStatus("removals held: "+names, func(st Status) bool { return slices.Equal(st.HeldRemovals, want) })
	for _, name := range want {
		task, _ := st.Task(name)
		if task.Phase != "held" || task.Desired != "absent" || task.Converged || task.PID != v.before[name].PID {
			v.t.Errorf("held: %+v, before %+v", task, v.before[name])
		}
	}
	if st.Converged {
		v.t.Error("converged with held removals")
	}
	return st
}

// approve looks at what is held and lets it go, as an operator does.
func (v *village) approve(names ...string) {
	v.t.Helper()
	v.expect(0, "approve", "status") // in which a line may be broken anywhere
	v.expect(0, strings.Join(names, ": removal approved\n")+": removal approved\n", "approve")
}

func (v *village) awaitGone(names string) {
	v.t.Helper()
	for _, name := range names {
		v.AwaitGone(string(name))
	}
}

func (v *village) untouched(names string) {
	v.t.Helper()
	for _, name := range names {
		v.ExpectUntouched(v.before[string(name)])
	}
}

func TestBrakeHoldsMassRemovals(t *testing.T) {
	t.Parallel()
	v := newVillage(t, "abcde")
	v.gone("abc")
	st := v.awaitHeld("abc")
	if task, _ := st.Task("a"); !strings.Contains(task.Reason, "approve") || !strings.Contains(task.Reason, "3 of 5") {
		t.Errorf("the reason is %q", task.Reason)
	}
	v.expect(2, "3 held", "plan")
	var plan struct {
		Changes []struct{ Task, Action, Price string }
	}
	v.must(json.Unmarshal([]byte(v.Do("plan", "--json").Stdout), &plan))
	for i, change := range plan.Changes {
		if len(plan.Changes) != 3 || change.Task != string("abc"[i]) || change.Action != "held" || change.Price != "held" {
			t.Errorf("plan: %+v", plan.Changes)
		}
	}
	v.expect(0, "a, b, c: its removal waits", "status")
	v.expect(3, "", "status", "--check")
	for _, name := range []string{"a", "b", "c"} {
		if v.Count("removal-held", name) != 1 || !strings.Contains(v.DaemonLog(), "event=removal-held task="+name) {
			t.Errorf("the hold of %s was told %d times", name, v.Count("removal-held", name))
		}
	}
	v.expect(0, "a: removal approved\nb: removal approved\nc: removal approved\n", "approve")
	v.awaitGone("abc")
	v.AwaitConverged()
	v.untouched("de")
	v.expect(1, "nothing to approve", "approve")
	v.Terminate()
	v.expect(5, "", "approve")
}

// What is few goes without asking: the last of a small host, and less than half of
// a larger one.
func TestBrakeLetsFewGo(t *testing.T) {
	t.Parallel()
	v := newVillage(t, "abcdefg")
	v.gone("abc")
	v.awaitGone("abc")
	v.AwaitConverged()
	v.untouched("defg")
	small := newVillage(t, "ab")
	small.gone("ab")
	small.awaitGone("ab")
	single := newVillage(t, "a")
	single.gone("a")
	single.awaitGone("a")
	for _, e := range slices.Concat(v.Events(), small.Events(), single.Events()) {
		if e.Type == "removal-held" {
			t.Error(e.Line)
		}
	}
}

func TestBrakeIsReleasedByTheFiles(t *testing.T) {
	t.Parallel()
	v := newVillage(t, "abcd")
	// All tasks are of one file, and others start in their place.
	v.gone("abcd")
	v.Write("new.hcl", v.Task("x", guest.Button))
	v.awaitHeld("abcd")
	v.AwaitRunning("x")
	v.back("abc")
	v.awaitHeld("d") // it may come back, too
	late := v.ProvePass()
	v.Remove(late + ".hcl") // and what goes now waits with it
	v.AwaitStatus("one more that waits", func(st Status) bool { return slices.Equal(st.HeldRemovals, []string{"d", late}) })
	v.back("d")
	v.AwaitStatus("the other alone", func(st Status) bool { return slices.Equal(st.HeldRemovals, []string{late}) })
	v.approve(late)
	v.AwaitGone(late)
	v.AwaitConverged()
	v.untouched("abcd")
}

// The daemon dies with removals held, with one half of a mass removal under
// way, and with approved ones under way: the next one knows.
func TestBrakeOutlivesTheDaemon(t *testing.T) {
	t.Parallel()
	v := newVillage(t, "abcdef")
	v.gone("ab")
	v.awaitGone("ab")
	v.Kill()
	v.gone("cd") // four of the six within a minute
	v.StartDaemon()
	v.awaitHeld("cd")
	v.StatusByCommand() // what it shows is written down
	v.Kill()
	if st := v.StatusByCommand(); !slices.Equal(st.HeldRemovals, []string{"c", "d"}) {
		t.Errorf("without a daemon held: %v", st.HeldRemovals)
	}
	v.StartDaemon()
	v.awaitHeld("cd")
	v.expect(0, "", "approve")
	v.Kill()
	v.StartDaemon()
	v.awaitGone("cd")
	v.AwaitConverged()
	v.untouched("ef")
}

// What is held is remembered by itself: no removal has begun, and the one that is
// left would be too few to be held anew.
func TestBrakeRemembersWhatItHolds(t *testing.T) {
	t.Parallel()
	v := newVillage(t, "abcde")
	v.gone("abcd")
	v.awaitHeld("abcd")
	v.back("abc")
	v.awaitHeld("d")
	for _, end := range []func(){v.Kill, func() { v.Terminate() }} {
		end()
		v.StartDaemon()
		v.awaitHeld("d")
	}
	v.expect(0, "d: removal approved", "approve")
	v.awaitGone("d")
	v.AwaitConverged()
	v.untouched("abce")
}

func TestApprovalOfAChangedSet(t *testing.T) {
	t.Parallel()
	v := newVillage(t, "abcdef")
	v.gone("abcd")
	v.awaitHeld("abcd")
	v.expect(0, "", "status")
	v.gone("e")
	v.AwaitEvent("removal-held", "e")
	refused := v.Do("approve")
	if refused.Code != 1 || !strings.Contains(refused.Stderr, "a, b, c, d, e") {
		t.Errorf("approved what was not shown: %+v", refused)
	}
	v.awaitHeld("abcde")
	v.expect(0, "e: removal approved", "approve")
	v.awaitGone("abcde")
	v.untouched("f")
}

// Only a list of all that is held shows it: what one task's status, a completion or
// another verb has looked at was shown to nobody, and neither was what joins after
// the daemon's death.
func TestApprovalOfWhatNobodySaw(t *testing.T) {
	t.Parallel()
	v := newVillage(t, "abcdefg")
	v.gone("abcd")
	v.awaitHeld("abcd")
	if refused := v.Do("approve"); refused.Code != 1 || !strings.Contains(refused.Stderr, "a, b, c, d") {
		t.Errorf("approved what was not shown: %+v", refused)
	}
	v.gone("e")
	v.awaitHeld("abcde")
	v.expect(0, "", "status", "e")
	v.expect(0, "", "__complete", "stop", "")
	v.expect(0, "", "restart", "g")
	if refused := v.Do("approve"); refused.Code != 1 || !strings.Contains(refused.Stderr, "a, b, c, d, e") {
		t.Errorf("approved what joined unseen: %+v", refused)
	}
	v.Kill()
	v.gone("f")
	v.StartDaemon()
	v.awaitHeld("abcdef")
	if refused := v.Do("approve"); refused.Code != 1 || !strings.Contains(refused.Stderr, "shown (a, b, c, d, e)") {
		t.Errorf("approved what joined without a daemon: %+v", refused)
	}
	v.expect(0, "f: removal approved", "approve")
	v.awaitGone("abcdef")
}

// What was held is remembered by nobody any more: all removals wait, also after one
// more restart, until they are approved.
func TestBrakeThatHasLostItsMemory(t *testing.T) {
	t.Parallel()
	for name, lose := range map[string]func(path string) error{
		"gone":    os.Remove,
		"garbage": func(path string) error { return os.WriteFile(path, []byte("{\"held\":"), 0o600) },
		"empty":   func(path string) error { return os.Truncate(path, 0) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := newVillage(t, "abc")
			v.gone("abc")
			v.awaitHeld("abc")
			v.back("bc")
			v.awaitHeld("a")
			v.Kill()
			v.must(lose(filepath.Join(v.State, "removals.json")))
			v.StartDaemon()
			v.awaitHeld("a")
			v.Kill()
			v.StartDaemon()
			st := v.awaitHeld("a")
			if task, _ := st.Task("a"); !strings.Contains(task.Reason, "not known what was held") || !strings.Contains(task.Reason, "removals.json") {
				t.Errorf("the reason is %q", task.Reason)
			}
			v.approve("a")
			v.awaitGone("a")
			v.gone("b") // the second within the minute, and all is known again
			v.awaitGone("b")
			v.untouched("c")
		})
	}
}

// While a file is broken, removals wait for it, approved or not.
func TestBrakeAndABrokenFile(t *testing.T) {
	t.Parallel()
	v := newVillage(t, "abcd")
	v.Write("bad.hcl", "task {")
	v.gone("abc")
	st := v.awaitHeld("abc")
	if task, _ := st.Task("a"); !strings.Contains(task.Reason, "bad.hcl") {
		t.Errorf("the reason is %q", task.Reason)
	}
	v.expect(1, "bad.hcl", "approve")
	v.Remove("bad.hcl")
	v.AwaitTask("a", "the brake", func(task TaskStatus) bool { return strings.Contains(task.Reason, "approve") })
	v.awaitHeld("abc")
	v.approve("a", "b", "c")
	v.awaitGone("abc")
	v.untouched("d")
}

// An approval that is written down when a file breaks lets nothing go before that
// is mended, and need not be given again.
func TestApprovedRemovalsWaitForABrokenFile(t *testing.T) {
	t.Parallel()
	v := newVillage(t, "abcd", CrashPoints())
	v.gone("abc")
	v.awaitHeld("abc")
	v.expect(0, "", "status")
	v.orderDeath("approve.written", 1)
	v.Do("approve") // of a daemon that dies
	v.awaitDeath("approve.written", "with approved removals")
	v.must(os.Remove(v.orders))
	v.Write("bad.hcl", "task {")
	v.StartDaemon()
	st := v.awaitHeld("abc")
	if task, _ := st.Task("a"); !strings.Contains(task.Reason, "bad.hcl") {
		t.Errorf("the reason is %q", task.Reason)
	}
	v.ProvePass()
	v.awaitHeld("abc")
	v.Remove("bad.hcl")
	v.awaitGone("abc")
	v.untouched("d")
}

// What is no removal is not held: state = "stopped" everywhere, and on_remove =
// "keep". A directory that is missing is none either.
func TestBrakeIsForRemovalsOnly(t *testing.T) {
	t.Parallel()
	v := newVillage(t, "abc")
	v.must(os.Rename(v.VMs, v.VMs+".away"))
	v.AwaitStatus("a directory that is missing", func(st Status) bool { return st.DirError != "" && len(st.HeldRemovals) == 0 })
	v.must(os.Rename(v.VMs+".away", v.VMs))
	v.AwaitConverged()
	v.untouched("abc")
	for name, text := range v.texts {
		v.texts[name] = with(text, `on_remove = "keep"`)
	}
	v.back("abc")
	v.AwaitConverged()
	v.gone("abc")
	v.awaitGone("abc")
	if len(v.QEMUs()) != 3 {
		t.Errorf("%d QEMUs were left running", len(v.QEMUs()))
	}
	v.back("abc")
	v.untouchedSoon("abc")
	for name, text := range v.texts {
		v.texts[name] = with(text, `state = "stopped"`)
	}
	v.back("abc")
	v.AwaitNoQEMU()
	v.AwaitConverged()
}

func (v *village) untouchedSoon(names string) {
	for _, name := range names {
		v.AwaitRunning(string(name))
	}
	v.untouched(names)
}

// The number of max_removals counts, and SIGHUP changes it.
func TestMaxRemovals(t *testing.T) {
	t.Parallel()
	v := newVillage(t, "abcdefgh", Config("max_removals = 2"))
	v.gone("ab")
	v.awaitGone("ab")
	v.gone("c")
	v.awaitHeld("c")
	v.back("c")
	v.AwaitConverged()
	config, err := os.ReadFile(v.config)
	v.must(err)
	v.must(os.WriteFile(v.config, []byte(strings.Replace(string(config), "max_removals = 2", "max_removals = 5", 1)), 0o644))
	v.Signal(syscall.SIGHUP)
	v.Await("the new configuration", func() bool { return strings.Contains(v.DaemonLog(), "looking again at config.hcl") })
	v.gone("cd")
	v.awaitGone("cd")
	v.untouched("efgh")
	none := newVillage(t, "abc", Config("max_removals = 0"))
	none.gone("a")
	none.awaitHeld("a")
	none.untouched("bc")
}

// A held VM crashes, and another is stopped by its name: neither comes back, and
// the rest waits. An approval lets their records go with the others.
func TestHeldVMsThatEnd(t *testing.T) {
	t.Parallel()
	v := newVillage(t, "abcd")
	v.gone("abcd")
	v.awaitHeld("abcd")
	v.SignalQEMU("a", syscall.SIGKILL)
	v.AwaitPhase("a", "stopped")
	v.expect(0, "", "stop", "b")
	v.AwaitStatus("two that end", func(st Status) bool {
		b, _ := st.Task("b")
		return b.PID == 0 && slices.Equal(st.HeldRemovals, []string{"a", "b", "c", "d"})
	})
	v.untouchedHeld("cd")
	v.approve("a", "b", "c", "d")
	v.awaitGone("abcd")
	left, err := filepath.Glob(filepath.Join(v.State, "tasks", "*"))
	v.must(err)
	if len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

func (v *village) untouchedHeld(names string) {
	for _, name := range names {
		if pid := v.OnlyQEMU(string(name)); pid != v.before[string(name)].PID {
			v.t.Errorf("the QEMU of %c was %d and is %d", name, v.before[string(name)].PID, pid)
		}
	}
}

// `run --once` does not converge with removals held, and names them; tasks for
// other hosts are removals, too.
func TestRunOnceWithHeldRemovals(t *testing.T) {
	t.Parallel()
	v := newVillage(t, "abc")
	v.Terminate()
	for name, text := range v.texts {
		v.texts[name] = with(text, `hosts = ["elsewhere"]`)
	}
	v.back("abc")
	once := v.Do("run", "--once")
	if once.Code != 1 || !strings.Contains(once.Stderr, "a is held") || !strings.Contains(once.Stderr, "approve") {
		t.Errorf("%+v", once)
	}
	if n := len(v.QEMUs()); n != 3 {
		t.Errorf("%d QEMUs run", n)
	}
	if said := v.Do("status").Stdout; strings.Count(said, "other hosts") > 3 || !strings.Contains(said, "held") {
		t.Error(said)
	}
	for line := range strings.Lines(v.Do("status").Stdout) {
		if len([]rune(line)) > 81 {
			t.Errorf("a line of %d columns: %s", len([]rune(line)), fmt.Sprintf("%q", line))
		}
	}
}
