package main

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/qemu-reconciler/qemu-reconciler/reconcile"
	"github.com/qemu-reconciler/qemu-reconciler/spec"
)

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

func startedAgo(d time.Duration) *reconcile.Moment { return &reconcile.Moment{Time: noon.Add(-d)} }

func sampleTasks() []reconcile.TaskStatus {
	return []reconcile.TaskStatus{
		{Name: "db", Phase: reconcile.PhaseBackoff, Reason: "crashed (SIGSEGV): next restart in 4s"},
		{Name: "web", Phase: reconcile.PhaseRunning, PID: 4242, StartedAt: startedAgo(26*time.Hour + 5*time.Minute), Converged: true,
			Ports: []reconcile.PortStatus{
				{Label: "http", Host: 20001, Guest: 8080, Protocols: []string{"tcp", "udp"}},
				{Label: "ssh", Host: 22022, Guest: 22, Protocols: []string{"tcp"}},
			}},
	}
}

func TestStatusTable(t *testing.T) {
	want := `NAME  PHASE    PID   UPTIME  PORTS          REASON
db    backoff  -     -       -
    crashed (SIGSEGV): next restart in 4s
web   running  4242  1d2h    20001->8080
                             22022->22/tcp
`
	if diff := cmp.Diff(want, statusTable(sampleTasks(), noon, style{})); diff != "" {
		t.Error(diff)
	}
}

func TestStatusTableKeepsAShortReasonInItsRow(t *testing.T) {
	tasks := []reconcile.TaskStatus{{Name: "db", Phase: reconcile.PhaseStopped, Reason: "held by operator"}}
	if got := statusTable(tasks, noon, style{}); !strings.Contains(got, "-      held by operator\n") {
		t.Errorf("the reason has left its row:\n%s", got)
	}
}

// However long everything is, no line is wider than the screen, and the name
// is never cut: it is what the next command is given.
func TestStatusTableFitsTheScreen(t *testing.T) {
	name := strings.Repeat("n", 63)
	tasks := append(sampleTasks(), reconcile.TaskStatus{
		Name: name, Phase: reconcile.PhaseStarting, PID: 4194304, StartedAt: startedAgo(1000 * 24 * time.Hour),
		Reason: "paused: /" + strings.Repeat("very-long/", 30) + " ends\x1b[31m",
		Ports:  []reconcile.PortStatus{{HostIP: "255.255.255.255", Host: 65535, Guest: 65535, Protocols: []string{"udp"}}},
		Pending: []reconcile.FieldChange{{Field: "config.args", From: []string{"-device", "virtio-rng-pci"},
			To: []string{strings.Repeat("x", 100)}, Price: "restart", Reason: "QEMU reads its options once"}},
	})
	got := statusTable(tasks, noon, style{})
	for _, line := range strings.Split(got, "\n") {
		if width(line) > screenWidth {
			t.Errorf("%d characters: %s", width(line), line)
		}
	}
	if !strings.Contains(got, name+"\n") || strings.Contains(got, "\x1b") {
		t.Errorf("name cut or escape let through:\n%s", got)
	}
}

func TestStatusTableColour(t *testing.T) {
	got := statusTable(sampleTasks(), noon, style{colour: true})
	if !strings.Contains(got, "\x1b[32mrunning\x1b[0m") || !strings.Contains(got, "\x1b[31mbackoff\x1b[0m") {
		t.Errorf("phases without their colours: %q", got)
	}
}

func TestAge(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Second: "0s", 59 * time.Second: "59s", 61 * time.Second: "1m1s", 3*time.Hour + 12*time.Minute: "3h12m",
		50 * time.Hour: "2d2h", 1000 * 24 * time.Hour: "1000d0h",
	} {
		if got := age(d); got != want {
			t.Errorf("age(%s) = %s, want %s", d, got, want)
		}
	}
}

func TestWriteStatusShowsFilesAndHeldRemovals(t *testing.T) {
	held := func(name, reason string) reconcile.TaskStatus {
		return reconcile.TaskStatus{Name: name, Phase: reconcile.PhaseHeld, Reason: reason}
	}
	st := reconcile.Status{
		VMsDir: "/etc/vms.d", HeldRemovals: []string{"a", "b", "c"}, Unsettled: []string{"new.hcl"},
		Tasks: append(sampleTasks(), held("a", "waits until z.hcl is mended"), held("b", "waits until z.hcl is mended"), held("c", "something else")),
		Files: []reconcile.FileStatus{{Path: "bad.hcl", Errors: []spec.Diagnostic{{
			Position: spec.Position{Line: 3, Column: 5}, Summary: "Unsupported argument", Detail: `Did you mean "memory"?`, Excerpt: "    memroy = 512",
		}}}},
	}
	var b strings.Builder
	writeStatus(&b, st, noon, style{})
	for _, want := range []string{
		"\nRemovals held:\n    a, b: waits until z.hcl is mended\n    c: something else\n",
		"\nnew.hcl is being written; it is taken when the writer is done.\n",
		"\nbad.hcl:3:5: error: Unsupported argument\n", "memroy = 512\n",
		`Did you mean "memory"?`, "\n5 tasks: 1 backoff, 1 running, 3 held. Not converged.\n",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is missing in:\n%s", want, b.String())
		}
	}
	if n := strings.Count(b.String(), "waits until z.hcl is mended"); n != 1 {
		t.Errorf("the reason of two tasks stands there %d times:\n%s", n, b.String())
	}
	if strings.Contains(b.String(), "approve") {
		t.Errorf("approve is offered for what waits for a file:\n%s", b.String())
	}
}

// One task among others does not fill the screen; alone it is shown in full.
func TestStatusTableStaysCalm(t *testing.T) {
	many := reconcile.TaskStatus{Name: "many", Phase: reconcile.PhaseBackoff, Reason: strings.Repeat("a long story ", 60)}
	for port := range 12 {
		many.Ports = append(many.Ports, reconcile.PortStatus{Host: 20000 + port, Guest: 80 + port, Protocols: []string{"tcp", "udp"}})
	}
	among := statusTable(append(sampleTasks(), many), noon, style{})
	if lines := strings.Count(among, "\n"); lines > 16 || !strings.Contains(among, "and 8 more\n") || !strings.Contains(among, " …\n") {
		t.Errorf("%d lines:\n%s", lines, among)
	}
	alone := statusTable([]reconcile.TaskStatus{many}, noon, style{})
	if !strings.Contains(alone, "20011->91\n") || strings.Count(alone, "story") != 60 {
		t.Errorf("something is left out:\n%s", alone)
	}
}

func TestOnlyJudgesTheTaskAlone(t *testing.T) {
	st := reconcile.Status{Tasks: sampleTasks(), HeldRemovals: []string{"db"},
		Files: []reconcile.FileStatus{{Path: "bad.hcl", Errors: []spec.Diagnostic{{Summary: "x"}}}}}
	web, ok := only(st, "web")
	if !ok || !web.Converged || len(web.Tasks) != 1 || len(web.Files)+len(web.HeldRemovals) != 0 || web.Files == nil {
		t.Errorf("web alone: %+v", web)
	}
	st.Tasks[1].File = "bad.hcl"
	if web, _ := only(st, "web"); web.Converged || len(web.Files) != 1 {
		t.Errorf("its own broken file does not count: %+v", web)
	}
	for what, other := range map[string]reconcile.Status{
		"its file is being written":    {Tasks: st.Tasks, Unsettled: []string{"new.hcl", "bad.hcl"}},
		"the directory cannot be read": {Tasks: st.Tasks, DirError: "no such directory"},
	} {
		if web, _ := only(other, "web"); web.Converged {
			t.Errorf("%s: %+v", what, web)
		}
	}
	if web, _ := only(reconcile.Status{Tasks: st.Tasks, Unsettled: []string{"new.hcl"}}, "web"); !web.Converged {
		t.Errorf("another file is being written: %+v", web)
	}
	if _, ok := only(st, "we"); ok {
		t.Error("a prefix was taken for a name")
	}
}

func TestUnconvergedNamesEach(t *testing.T) {
	st := reconcile.Status{Tasks: sampleTasks(), Unsettled: []string{"new.hcl"},
		Files: []reconcile.FileStatus{{Path: "bad.hcl", Errors: []spec.Diagnostic{{}, {}}}, {Path: "warned.hcl"}}}
	want := []string{"new.hcl is being written", "db is backoff: crashed (SIGSEGV): next restart in 4s", "bad.hcl has 2 errors"}
	if diff := cmp.Diff(want, unconverged(st)); diff != "" {
		t.Error(diff)
	}
}
