package main

import (
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/qemu-reconciler/qemu-reconciler/spec"
)

func TestExitCode(t *testing.T) {
	for _, c := range []struct {
		err  error
		want int
	}{
		{nil, 0},
		{errors.New("x"), 1},
		{usagef(&cobra.Command{}, "x"), 64},
		{silently(3), 3},
		{fmt.Errorf("while: %w", &noDaemonError{"/run/x"}), 5},
		{&silentDaemonError{socket: "/run/x"}, 1},
		{unknownTasks([]string{"x"}, "/d"), 1},
	} {
		if got := exitCode(c.err); got != c.want {
			t.Errorf("%v exits %d, want %d", c.err, got, c.want)
		}
	}
}

func TestReport(t *testing.T) {
	var b strings.Builder
	report(&b, silently(3))
	if b.Len() != 0 {
		t.Errorf("what was said already is said again: %q", b.String())
	}
	report(&b, usagef(&cobra.Command{Use: "status [TASK]"}, "unknown\x1b[2J"))
	if want := "qemu-reconciler: unknown\uFFFD[2J\nUsage: status [TASK]\nSee 'status --help'.\n"; b.String() != want {
		t.Errorf("got %q, want %q", b.String(), want)
	}
}

func TestDescribeBuild(t *testing.T) {
	built := &debug.BuildInfo{GoVersion: "go1.26", Main: debug.Module{Version: "v1.2.3"}, Settings: []debug.BuildSetting{{Key: "vcs.revision", Value: "abc"}}}
	for _, c := range []struct {
		linked string
		info   *debug.BuildInfo
		want   buildInfo
	}{
		{"9.9", built, buildInfo{"9.9", "abc", "go1.26"}},
		{"", built, buildInfo{"v1.2.3", "abc", "go1.26"}},
		{"", &debug.BuildInfo{Main: debug.Module{Version: "(devel)"}}, buildInfo{Version: "dev"}},
	} {
		if got := describeBuild(c.linked, c.info); got != c.want {
			t.Errorf("got %+v, want %+v", got, c.want)
		}
	}
}

// A plain user whose own state is empty is told of the system's, by status and
// by plan.
func TestSystemHint(t *testing.T) {
	s := testSetup(t)
	s.uid, s.system = 1000, spec.Dirs{State: t.TempDir()}
	hint := func() string {
		t.Helper()
		a := newApp(io.Discard, io.Discard)
		_, status, err := a.lookAt(t.Context(), s, false)
		if err != nil {
			t.Fatal(err)
		}
		_, plan, err := a.planNow(t.Context(), s)
		if status != plan || err != nil {
			t.Errorf("status says %q, and plan %q, %v", status, plan, err)
		}
		_, hint, _ := strings.Cut(plan, "\n")
		return hint
	}
	if got := hint(); !strings.Contains(got, s.system.State) || !strings.Contains(got, "sudo") {
		t.Errorf("a plain user is not told: %q", got)
	}
	s.uid = 0
	if got := hint(); got != "" {
		t.Errorf("root is told: %q", got)
	}
	s.uid, s.system.State = 1000, s.system.State+"/missing"
	if got := hint(); got != "" {
		t.Errorf("told of a state that is not there: %q", got)
	}
}
