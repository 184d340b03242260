package runtime

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	goruntime "runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/qemu-reconciler/qemu-reconciler/spec"
)

// launchSleep starts a program that does nothing, with its output in a file.
func launchSleep(t *testing.T, files map[int]*os.File) (*Process, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "output")
	output := openLog(t, path)
	defer output.Close()
	p, err := Launch(LaunchRequest{Argv: []string{"/bin/sleep", "1000"}, Env: []string{"A=1"}, Files: files, Output: output})
	must(t, err)
	return endWithTest(t, p), path
}

// TestLaunchGivesNothingElse looks at a new process from outside.
func TestLaunchGivesNothingElse(t *testing.T) {
	// What this process's own parent might have left open for its children.
	leaky, err := unix.Open(os.DevNull, unix.O_RDONLY, 0)
	must(t, err)
	defer unix.Close(leaky)
	given := openLog(t, filepath.Join(t.TempDir(), "given"))
	defer given.Close()

	p, output := launchSleep(t, map[int]*os.File{6: given})
	proc := filepath.Join("/proc", itoa(p.PID()))
	want := map[string]string{"0": os.DevNull, "1": output, "2": output, "6": given.Name()}
	// A new program opens its libraries first. What leaks into it stays.
	eventually(t, "no other descriptors", func() error {
		if diff := cmp.Diff(want, openFiles(t, p.PID())); diff != "" {
			return fmt.Errorf("descriptors (-want +got):\n%s", diff)
		}
		return nil
	})
	if cwd, err := os.Readlink(filepath.Join(proc, "cwd")); cwd != "/" {
		t.Errorf("it is at %q, %v", cwd, err)
	}
	if session, err := unix.Getsid(p.PID()); session != p.PID() {
		t.Errorf("its session is %d, %v", session, err)
	}
	env, err := splitNul(p.PID(), "environ")
	if diff := cmp.Diff([]string{"A=1"}, env); err != nil || diff != "" {
		t.Errorf("environment:\n%s", diff)
	}
}

// openFiles gives the descriptors of a process and where they lead.
func openFiles(t *testing.T, pid int) map[string]string {
	t.Helper()
	dir := filepath.Join("/proc", itoa(pid), "fd")
	entries, err := os.ReadDir(dir)
	must(t, err)
	files := map[string]string{}
	for _, entry := range entries {
		if target, err := os.Readlink(filepath.Join(dir, entry.Name())); err == nil { // not closed meanwhile
			files[entry.Name()] = target
		}
	}
	return files
}

// TestLaunchOOMScore: what the daemon is given against the OOM killer, which
// may be no less than nothing where a test has no privilege, is not for guests.
func TestLaunchOOMScore(t *testing.T) {
	const own = "/proc/self/oom_score_adj"
	before, err := os.ReadFile(own)
	must(t, err)
	must(t, os.WriteFile(own, []byte("100"), 0))
	defer func() { must(t, os.WriteFile(own, before, 0)) }()
	p, _ := launchSleep(t, nil)
	if got, err := os.ReadFile(filepath.Join("/proc", itoa(p.PID()), "oom_score_adj")); string(got) != "0\n" {
		t.Errorf("oom_score_adj %q, %v", got, err)
	}
}

// TestLaunchParallel: each of many processes that start at once gets its own
// files and no other's.
func TestLaunchParallel(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var group sync.WaitGroup
	for i := range 24 {
		group.Go(func() {
			output, err := os.Create(filepath.Join(dir, itoa(i)))
			if err != nil {
				t.Error(err)
				return
			}
			defer output.Close()
			// Its second file is 3, so nothing else may be there.
			p, err := Launch(LaunchRequest{
				Argv:   []string{"/bin/sh", "-c", `echo $0 >&3; for n in 4 5 6 7 8 9; do [ -e /proc/$$/fd/$n ] && echo $n; done; exit 0`, itoa(i)},
				Files:  map[int]*os.File{3: output},
				Output: output,
			})
			if err != nil {
				t.Error(err)
				return
			}
			<-p.Done()
			if p.Status() != (WaitStatus{Known: true}) {
				t.Errorf("%d ended with %+v", i, p.Status())
			}
		})
	}
	group.Wait()
	for i := range 24 {
		if got, err := os.ReadFile(filepath.Join(dir, itoa(i))); string(got) != itoa(i)+"\n" {
			t.Errorf("%d wrote %q, %v", i, got, err)
		}
	}
}

func TestLaunchErrors(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	output := openLog(t, filepath.Join(dir, "output"))
	defer output.Close()
	plain, text := filepath.Join(dir, "plain"), filepath.Join(dir, "text")
	must(t, os.WriteFile(plain, []byte("#!/bin/sh\n"), 0o600))
	must(t, os.WriteFile(text, []byte("no program"), 0o700))
	for _, c := range []struct {
		argv []string
		want error
		says string
	}{
		{[]string{filepath.Join(dir, "missing")}, unix.ENOENT, "does not exist"},
		{[]string{plain}, unix.EACCES, "may not be executed"},
		{[]string{dir}, unix.EACCES, "may not be executed"},
		{[]string{text}, unix.ENOEXEC, "may not be executed"},
		{[]string{"/bin/true", strings.Repeat("x", 1<<20)}, unix.E2BIG, "too long"},
	} {
		_, err := Launch(LaunchRequest{Argv: c.argv, Output: output})
		if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), c.argv[0]) {
			t.Errorf("%s: %v", c.argv[0], err)
		}
	}
}

func TestCleanEnv(t *testing.T) {
	t.Parallel()
	parent := []string{
		"PATH=/usr/bin", "NOTIFY_SOCKET=/run/notify", "WATCHDOG_PID=1", "WATCHDOG_USEC=2", "LISTEN_FDS=1", "LISTEN_PID=1",
		"LISTEN_FDNAMES=x", "INVOCATION_ID=abc", "JOURNAL_STREAM=1:2", "LISTENER=stays", "EMPTY=", "broken", "=odd",
		"LANG=C", "LANG=de_DE.UTF-8", "QEMU_RECONCILER_TASK=outer", "QEMU_RECONCILER_PORTS={}",
		"QEMU_RECONCILER_CONFIG=/c", "QEMU_RECONCILER_VMS_DIR=/v", "QEMU_RECONCILER_STATE_DIR=/s", "QEMU_RECONCILER_RUN_DIR=/r",
	}
	task := &spec.Task{Name: "web", Env: map[string]string{
		"PATH": "/opt/bin", "QEMU_AUDIO_DRV": "none", "QEMU_RECONCILER_STATE": "/elsewhere", "QEMU_RECONCILER_PORTS": "x", "WITH": "a=b", "NOTIFY_SOCKET": "/mine",
	}}
	want := []string{
		"EMPTY=", "LANG=de_DE.UTF-8", "LISTENER=stays", "PATH=/opt/bin", "QEMU_AUDIO_DRV=none",
		"QEMU_RECONCILER_STATE=/state", "QEMU_RECONCILER_TASK=web", "WITH=a=b",
	}
	layout := Layout{State: "/state", Run: "/run"}
	if diff := cmp.Diff(want, CleanEnv(parent, task, layout, nil)); diff != "" {
		t.Errorf("environment (-want +got):\n%s", diff)
	}
	marked := CleanEnv(nil, &spec.Task{Name: "web"}, layout, map[string]int{"ssh": 20022, "a b": 1})
	if !slices.Contains(marked, `QEMU_RECONCILER_PORTS={"a b":1,"ssh":20022}`) {
		t.Errorf("ports are not marked: %q", marked)
	}
}

// TestLaunchOutlivesItsThread: a process is not tied to the thread that started
// it, which Go may end at any time.
func TestLaunchOutlivesItsThread(t *testing.T) {
	t.Parallel()
	tid, p := launchOnThread(t)
	if tid == os.Getpid() { // the first thread never ends, and is taken now
		tid, p = launchOnThread(t)
	}
	eventually(t, "the thread ends", func() error {
		if _, err := os.Stat("/proc/self/task/" + itoa(tid)); err == nil {
			return errors.New("it is still there")
		}
		return nil
	})
	select {
	case <-p.Done():
		t.Error("the process ended with its thread")
	default:
	}
}

// launchOnThread starts a process on a thread that ends afterwards.
func launchOnThread(t *testing.T) (tid int, p *Process) {
	t.Helper()
	output := openLog(t, filepath.Join(t.TempDir(), "output"))
	defer output.Close()
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		goruntime.LockOSThread() // and never unlocked
		tid = unix.Gettid()
		p, err = Launch(LaunchRequest{Argv: []string{"/bin/sleep", "1000"}, Output: output})
	}()
	await(t, done, "start")
	must(t, err)
	return tid, endWithTest(t, p)
}
