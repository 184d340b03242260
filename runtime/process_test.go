package runtime

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	goruntime "runtime"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// launchShell starts a shell script as a child of the test.
func launchShell(t *testing.T, script string, args ...string) *Process {
	t.Helper()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	must(t, err)
	defer null.Close()
	p, err := Launch(LaunchRequest{Argv: append([]string{"/bin/sh", "-c", script}, args...), Output: null})
	must(t, err)
	return endWithTest(t, p)
}

func TestProcessStatusOfChild(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		script string
		want   WaitStatus
	}{
		{"exit 0", WaitStatus{Known: true}},
		{"exit 7", WaitStatus{Known: true, Code: 7}},
		{"kill -SEGV $$", WaitStatus{Known: true, Signal: unix.SIGSEGV}},
	} {
		p := launchShell(t, c.script)
		await(t, p.Done(), "end of "+c.script)
		if got := p.Status(); got != c.want {
			t.Errorf("%s: %+v, want %+v", c.script, got, c.want)
		}
		if err := p.Signal(unix.SIGKILL); err != nil {
			t.Errorf("signal to a process that is gone: %v", err)
		}
		if _, err := OpenProcess(p.PID(), p.StartTicks(), BootID()); !errors.Is(err, ErrGone) {
			t.Errorf("opened again: %v", err)
		}
	}
}

// grandchild starts a process that is not this one's child, as a guest is after
// the daemon was killed. Its parent reaps it as soon as it ends, or never.
func grandchild(t *testing.T, reaped bool) *Process {
	t.Helper()
	return grandchildOf(t, "sleep 1000", reaped)
}

// grandchildOf is grandchild with another command.
func grandchildOf(t *testing.T, command string, reaped bool) *Process {
	t.Helper()
	then := "wait"
	if !reaped {
		then = "exec sleep 1000" // knows of no child
	}
	cmd := exec.Command("/bin/sh", "-c", command+" & echo $!; "+then)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		_ = cmd.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	must(t, err)
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	must(t, err)
	if !reaped {
		eventually(t, "the shell forgets", func() error {
			if got := program(cmd.Process.Pid); got != "sleep" {
				return errors.New(got)
			}
			return nil
		})
	}
	ticks, err := readStartTicks(pid)
	must(t, err)
	p, err := OpenProcess(pid, ticks, BootID())
	must(t, err)
	return endWithTest(t, p)
}

func TestProcessStatusOfOther(t *testing.T) {
	t.Parallel()
	p := grandchild(t, true)
	select {
	case <-p.Done():
		t.Fatal("it has not ended")
	default:
	}
	must(t, p.Signal(unix.SIGTERM))
	await(t, p.Done(), "end of another's child")
	want := WaitStatus{Known: true, Signal: unix.SIGTERM}
	// An older kernel tells it only until the parent has reaped it.
	if got := p.Status(); got != want && (got.Known || kernelTellsExits(t)) {
		t.Errorf("status %+v, want %+v", got, want)
	}
}

// kernelTellsExits says whether this kernel has PIDFD_INFO_EXIT.
func kernelTellsExits(t *testing.T) bool {
	t.Helper()
	cmd := exec.Command("/bin/true")
	must(t, cmd.Start())
	fd, err := unix.PidfdOpen(cmd.Process.Pid, 0)
	must(t, err)
	defer unix.Close(fd)
	must(t, cmd.Wait())
	_, known := exitStatus(fd)
	return known
}

// TestProcessZombieIsGone: a parent that does not reap keeps nobody waiting.
func TestProcessZombieIsGone(t *testing.T) {
	t.Parallel()
	p := grandchild(t, false)
	must(t, p.Signal(unix.SIGKILL))
	await(t, p.Done(), "end of a zombie")
	if got, want := p.Status(), (WaitStatus{Known: true, Signal: unix.SIGKILL}); got != want {
		t.Errorf("status %+v, want %+v", got, want)
	}
	if _, err := readStartTicks(p.PID()); err != nil {
		t.Errorf("it was to be a zombie: %v", err)
	}
	if _, err := OpenProcess(p.PID(), p.StartTicks(), BootID()); !errors.Is(err, ErrGone) {
		t.Errorf("a zombie was opened: %v", err)
	}
}

// TestProcessZombieOfCleanExit: that of one that exited with 0 is known as well,
// which looks like an exit that may not be known.
func TestProcessZombieOfCleanExit(t *testing.T) {
	t.Parallel()
	fifo := filepath.Join(t.TempDir(), "fifo")
	must(t, unix.Mkfifo(fifo, 0o600))
	p := grandchildOf(t, "head -c 1 "+fifo, false)
	gate, err := os.OpenFile(fifo, os.O_WRONLY, 0)
	must(t, err)
	defer gate.Close()
	_, err = gate.WriteString("x")
	must(t, err)
	await(t, p.Done(), "end of a zombie")
	if got, want := p.Status(), (WaitStatus{Known: true}); got != want {
		t.Errorf("status %+v, want %+v", got, want)
	}
}

func TestOpenProcessIdentity(t *testing.T) {
	t.Parallel()
	p := grandchild(t, true)
	for name, c := range map[string]struct {
		pid   int
		ticks uint64
		boot  string
	}{
		"another start":  {p.PID(), p.StartTicks() + 1, BootID()},
		"another boot":   {p.PID(), p.StartTicks(), "00000000-0000-0000-0000-000000000000"},
		"no pid":         {0, p.StartTicks(), BootID()},
		"process group":  {-p.PID(), p.StartTicks(), BootID()},
		"unused pid":     {1 << 30, p.StartTicks(), BootID()},
		"kernel's own":   {2, p.StartTicks(), BootID()},
		"no known boot":  {p.PID(), p.StartTicks(), ""},
		"no start ticks": {p.PID(), 0, BootID()},
	} {
		if _, err := OpenProcess(c.pid, c.ticks, c.boot); !errors.Is(err, ErrGone) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestProcessTwoHolders: two hold the same child; whoever reaps it, both learn
// how it ended.
func TestProcessTwoHolders(t *testing.T) {
	t.Parallel()
	first := launchShell(t, "exec sleep 1000")
	second, err := OpenProcess(first.PID(), first.StartTicks(), BootID())
	must(t, err)
	must(t, second.Signal(unix.SIGKILL))
	await(t, first.Done(), "end for the first")
	await(t, second.Done(), "end for the second")
	want := WaitStatus{Known: true, Signal: unix.SIGKILL}
	if !first.Status().Known && !second.Status().Known {
		t.Errorf("neither knows: %+v, %+v", first.Status(), second.Status())
	}
	if kernelTellsExits(t) && (first.Status() != want || second.Status() != want) {
		t.Errorf("ended with %+v and %+v", first.Status(), second.Status())
	}
}

// TestProcessCosts: a process that is watched costs a goroutine and a
// descriptor, no thread; and all is given back.
func TestProcessCosts(t *testing.T) {
	const count = 100
	goroutines, threads, files := goruntime.NumGoroutine(), threadCount(t), fileCount(t)
	processes := make([]*Process, count)
	for i := range processes {
		processes[i] = launchShell(t, "exec sleep 1000")
	}
	if got := goruntime.NumGoroutine() - goroutines; got > count {
		t.Errorf("%d goroutines for %d processes", got, count)
	}
	if got := threadCount(t) - threads; got > count/10 {
		t.Errorf("%d threads for %d processes", got, count)
	}
	for _, p := range processes {
		must(t, p.Signal(unix.SIGKILL))
	}
	for _, p := range processes {
		await(t, p.Done(), "end of a process")
	}
	// The goroutine closes its descriptor after Done.
	eventually(t, "everything is given back", func() error {
		if g, f := goruntime.NumGoroutine()-goroutines, fileCount(t)-files; g > 0 || f > 0 {
			return fmt.Errorf("%d goroutines and %d descriptors are left", g, f)
		}
		return nil
	})
}

// TestProcessClose: the watch ends, the process does not.
func TestProcessClose(t *testing.T) {
	goroutines := goruntime.NumGoroutine()
	p := launchShell(t, "exec sleep 1000")
	again, err := OpenProcess(p.PID(), p.StartTicks(), BootID())
	must(t, err)
	again.Close()
	again.Close()
	eventually(t, "the watch ends", func() error {
		if got := goruntime.NumGoroutine(); got > goroutines+1 {
			return fmt.Errorf("%d goroutines where %d were", got, goroutines+1)
		}
		return nil
	})
	select {
	case <-again.Done():
		t.Error("Close told an end")
	case <-p.Done():
		t.Error("Close ended the process")
	default:
	}
}

func threadCount(t *testing.T) int { return entryCount(t, "/proc/self/task") }
func fileCount(t *testing.T) int   { return entryCount(t, "/proc/self/fd") }

func entryCount(t *testing.T, dir string) int {
	t.Helper()
	entries, err := os.ReadDir(dir)
	must(t, err)
	return len(entries)
}
