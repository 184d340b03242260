package runtime

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/qemu-reconciler/qemu-reconciler/internal/guest"
	"github.com/qemu-reconciler/qemu-reconciler/spec"
)

// eventually looks until what makes no sound has come about.
func eventually(t *testing.T, what string, look func() error) {
	t.Helper()
	deadline := time.After(testPatience)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		err := look()
		if err == nil {
			return
		}
		select {
		case <-deadline:
			t.Fatalf("never came about: %s: %v", what, err)
		case <-tick.C:
		}
	}
}

func TestParseStartTicks(t *testing.T) {
	t.Parallel()
	rest := " S 1 5 5 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 98765 11 12 13"
	for _, name := range []string{"(sh)", "(a b)", "() ) (x)", "(line\nbreak)"} {
		got, err := parseStartTicks([]byte("42 " + name + rest))
		if err != nil || got != 98765 {
			t.Errorf("%q: %d, %v", name, got, err)
		}
	}
	for _, stat := range []string{"", "42 (sh", "42 (sh) S 1 2", "42 (sh)" + " x x x x x x x x x x x x x x x x x x x x"} {
		if got, err := parseStartTicks([]byte(stat)); err == nil {
			t.Errorf("%q: %d", stat, got)
		}
	}
}

func TestStartedAt(t *testing.T) {
	t.Parallel()
	before := time.Now()
	p := launchShell(t, "exec sleep 1000")
	const tick = time.Second / ticksPerSecond // which has begun
	if got := startedAt(p.StartTicks()); got.Before(before.Add(-2*tick)) || got.After(time.Now().Add(tick)) {
		t.Errorf("started at %v, it is %v", got, before)
	}
}

func TestFindHolder(t *testing.T) {
	t.Parallel()
	line := ownImage(t, plainLine(), guest.Button)
	vm := launchLine(t, line)
	inode := socketOf(t, vm.PID())
	pid, ticks, err := FindHolder(t.Context(), inode, "web")
	if err != nil || pid != vm.PID() || ticks != vm.StartTicks() {
		t.Errorf("found %d, %d, %v; it is %d, %d", pid, ticks, err, vm.PID(), vm.StartTicks())
	}
	vm.quit(t)
	if pid, _, err := FindHolder(t.Context(), inode, "web"); !errors.Is(err, ErrGone) {
		t.Errorf("process %d holds the socket of one that is gone (%v)", pid, err)
	}
}

// socketOf gives the inode of the monitor's socket in a QEMU of ours.
func socketOf(t *testing.T, pid int) uint64 {
	t.Helper()
	info, err := os.Stat(filepath.Join("/proc", itoa(pid), "fd", itoa(fdQMP)))
	must(t, err)
	return inodeOf(t, info)
}

// TestFindHolderBeforeExec: who holds the socket and is no QEMU yet is waited
// for.
func TestFindHolderBeforeExec(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "qmp.sock")
	listener, inode, err := ListenUnix(path)
	must(t, err)
	gate, open, err := os.Pipe()
	must(t, err)
	qemu, err := exec.LookPath("qemu-system-x86_64")
	must(t, err)
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	must(t, err)
	defer null.Close()
	p, err := Launch(LaunchRequest{
		Argv: []string{"/bin/sh", "-c", `read name <&4; exec "$@" -name "$name"`, "sh",
			qemu, "-machine", "none", "-nodefaults", "-display", "none"},
		Env:   []string{"PATH=/usr/bin:/bin"},
		Files: map[int]*os.File{3: listener, 4: gate}, Output: null,
	})
	must(t, err)
	endWithTest(t, p)
	gate.Close()
	listener.Close()
	brief, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	var undecided *UndecidedError
	if _, _, err := FindHolder(brief, inode, "web"); !errors.As(err, &undecided) || undecided.PID != p.PID() {
		t.Errorf("before the exec: %v", err)
	}
	found := make(chan int, 1)
	go func() {
		pid, _, _ := FindHolder(t.Context(), inode, "web")
		found <- pid
	}()
	_, err = open.WriteString("web\n")
	must(t, errors.Join(err, open.Close()))
	if got := await(t, found, "the holder"); got != p.PID() {
		t.Errorf("found %d, it is %d", got, p.PID())
	}
}

func TestOurProcesses(t *testing.T) {
	t.Parallel()
	vm := launchLine(t, ownImage(t, plainLine(), guest.Button))
	found := oursOf(t, vm.layout)
	if len(found) != 1 || found[0].PID != vm.PID() || found[0].StartTicks != vm.StartTicks() || found[0].Task != "web" {
		t.Fatalf("found %+v, it is %d", found, vm.PID())
	}
	if found[0].Argv[0] != cmdline(vm.PID())[0] || found[0].info().StartedAt.IsZero() {
		t.Errorf("found %+v", found[0])
	}
	if got := foundOf(t, vm.layout, "web"); len(got) != 1 {
		t.Errorf("by its name: %+v", got)
	}
	if got := foundOf(t, vm.layout, "other"); len(got) != 0 {
		t.Errorf("by another name: %+v", got)
	}
	link := filepath.Join(t.TempDir(), "link")
	must(t, os.Symlink(vm.layout.State, link))
	if got := oursOf(t, Layout{State: link + "/", Run: vm.layout.Run}); len(got) != 1 {
		t.Errorf("through a link: %+v", got)
	}
	if got := oursOf(t, Layout{State: t.TempDir()}); len(got) != 0 {
		t.Errorf("of another daemon: %+v", got)
	}
}

// TestOurProcessesNotHelpers: what inherits a QEMU's environment is no QEMU.
func TestOurProcessesNotHelpers(t *testing.T) {
	t.Parallel()
	layout := Layout{State: t.TempDir()}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	must(t, err)
	defer null.Close()
	p, err := Launch(LaunchRequest{
		Argv: []string{"/bin/sleep", "1000"}, Env: CleanEnv(nil, &spec.Task{Name: "web"}, layout, nil), Output: null,
	})
	must(t, err)
	endWithTest(t, p)
	if got := oursOf(t, layout); len(got) != 0 {
		t.Errorf("found %+v", got)
	}
}

func TestProgram(t *testing.T) {
	t.Parallel()
	p := launchShell(t, "exec sleep 1000")
	eventually(t, "exec", func() error {
		if got := program(p.PID()); got != "sleep" {
			return errors.New(got)
		}
		return nil
	})
	if got := program(2); got != "kthreadd" && got != "" { // a container has none
		t.Errorf("the kernel's own: %q", got)
	}
}

// foundOf are the QEMUs of one task among those that OurProcesses finds.
func foundOf(t *testing.T, layout Layout, task string) []Found {
	t.Helper()
	return slices.DeleteFunc(oursOf(t, layout), func(f Found) bool { return f.Task != task })
}
