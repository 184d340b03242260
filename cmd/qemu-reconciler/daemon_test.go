package main

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/qemu-reconciler/qemu-reconciler/reconcile"
	"github.com/qemu-reconciler/qemu-reconciler/spec"
)

// logBuffer is written by the daemon's goroutines and read by the test.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func testSetup(t *testing.T) *setup {
	t.Helper()
	dir := t.TempDir()
	s := &setup{
		configPath: filepath.Join(dir, "config.hcl"), config: spec.DefaultConfig(), hostName: "test",
		dirs: spec.Dirs{VMs: filepath.Join(dir, "vms.d"), State: filepath.Join(dir, "state"), Run: filepath.Join(dir, "run")},
	}
	if err := os.Mkdir(s.dirs.VMs, 0o755); err != nil {
		t.Fatal(err)
	}
	return s
}

// A whole life without a VM: open, serve, answer, read config.hcl again, end.
func TestDaemonLife(t *testing.T) {
	s, logged := testSetup(t), &logBuffer{}
	d, err := openDaemon(t.Context(), s, newLogger(logged, "", s.config, style{}))
	if err != nil {
		t.Fatal(err)
	}
	d.serve()
	if err := d.converge(t.Context(), time.Minute); err != nil {
		t.Error(err)
	}
	st, err := newClient(s.controlSocket()).Status(t.Context(), false)
	if err != nil || !st.Daemon.Running || st.Daemon.PID != os.Getpid() || !st.Converged || st.Host != "test" || st.VMsDir != s.dirs.VMs {
		t.Errorf("status %+v, %v", st, err)
	}
	write(t, s.configPath, "max_parallel = 3\nhost_name = \"other\"\nlog_level = \"debug\"\n")
	d.lookAgain()
	if !d.log.IsDebug() {
		t.Error("the new log level is not in force")
	}
	write(t, s.configPath, "max_parallel = -3\n")
	d.lookAgain()
	for _, want := range []string{"the daemon is ready", "keys=[\"host_name\"]", "broken: what it said before stays in force"} {
		if !strings.Contains(logged.String(), want) {
			t.Errorf("%q is missing in the log:\n%s", want, logged.String())
		}
	}
	if err := d.close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(s.controlSocket()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the control socket is left: %v", err)
	}
	for _, dir := range []string{s.dirs.State, s.dirs.Run} {
		if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
			t.Errorf("%s: %v, %v", dir, info.Mode(), err)
		}
	}
}

// --once names what is wrong.
func TestConvergeNamesABrokenFile(t *testing.T) {
	s := testSetup(t)
	write(t, filepath.Join(s.dirs.VMs, "bad.hcl"), "task \"x\" {}\n")
	d, err := openDaemon(t.Context(), s, newLogger(&logBuffer{}, "off", s.config, style{}))
	if err != nil {
		t.Fatal(err)
	}
	defer d.close()
	d.serve()
	if err := d.converge(t.Context(), time.Minute); exitCode(err) != exitFailed || !strings.Contains(err.Error(), "bad.hcl has ") {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(s.layout().Record("x")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a broken task has a record: %v", err)
	}
}

func TestOnceResult(t *testing.T) {
	st := reconcile.Status{Tasks: sampleTasks()}
	for _, c := range []struct {
		ended error
		want  string
	}{
		{nil, "not converged: db is backoff: crashed (SIGSEGV): next restart in 4s"},
		{context.DeadlineExceeded, "not converged within 2s: db is backoff: crashed (SIGSEGV): next restart in 4s"},
		{context.Canceled, "not converged when it was interrupted: db is backoff: crashed (SIGSEGV): next restart in 4s"},
	} {
		if got := onceResult(st, c.ended, 2*time.Second); got == nil || got.Error() != c.want {
			t.Errorf("got %v, want %s", got, c.want)
		}
	}
	if err := onceResult(reconcile.Status{Converged: true}, context.DeadlineExceeded, 1); err != nil {
		t.Errorf("converged at the last moment: %v", err)
	}
}

func TestChangedKeys(t *testing.T) {
	now := spec.DefaultConfig()
	now.Dirs.Run, now.HostName, now.LogFormat = "/r", "h", "json"
	now.LogLevel, now.Sandbox, now.LogMaxSize, now.DynamicPorts = "debug", false, 1, spec.PortRange{First: 1, Last: 2} // applied at once
	want := []string{"run_dir", "host_name", "log_format"}
	if diff := cmp.Diff(want, changedKeys(spec.DefaultConfig(), now)); diff != "" {
		t.Error(diff)
	}
}

// Whoever cleans the run directory does not part the daemon from its commands.
func TestDaemonMakesItsControlSocketAnew(t *testing.T) {
	s, logged := testSetup(t), &logBuffer{}
	d, err := openDaemon(t.Context(), s, newLogger(logged, "", s.config, style{}))
	if err != nil {
		t.Fatal(err)
	}
	d.serve()
	for _, remove := range []func(string) error{os.Remove, func(socket string) error { return os.RemoveAll(filepath.Dir(socket)) }} {
		if err := remove(s.controlSocket()); err != nil {
			t.Fatal(err)
		}
		d.lookAgain()
		deadline := time.After(time.Minute)
		for answered := false; !answered; {
			st, err := s.client().Status(t.Context(), false)
			answered = err == nil && st.Daemon.PID == os.Getpid()
			select {
			case <-deadline:
				t.Fatalf("no socket anew: %v\n%s", err, logged)
			default:
			}
		}
		if info, err := os.Stat(s.controlSocket()); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("the new socket: %v, %v", info.Mode(), err)
		}
	}
	if err := d.close(); err != nil {
		t.Error(err)
	}
	if n := strings.Count(logged.String(), "has been made anew"); n != 2 {
		t.Errorf("the socket was made anew %d times, want 2:\n%s", n, logged)
	}
	if strings.Contains(logged.String(), "the control socket failed") {
		t.Errorf("it is called a failure:\n%s", logged)
	}
	if _, err := os.Lstat(s.controlSocket()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the control socket is left: %v", err)
	}
}

// What a reload changes counts for the next start.
func TestReloadTunesTheRuntime(t *testing.T) {
	s := testSetup(t)
	d, err := openDaemon(t.Context(), s, newLogger(&logBuffer{}, "off", s.config, style{}))
	if err != nil {
		t.Fatal(err)
	}
	defer d.close()
	disk := filepath.Join(s.dirs.VMs, "disk.img")
	write(t, disk, "a disk")
	web := &spec.Task{Name: "web", Config: spec.Config{
		ImagePath: disk, ImageFormat: "raw", Emulator: "qemu-system-x86_64", MachineType: "pc", Accelerator: "tcg", DriveInterface: "ide", PortMap: map[string]int{"ssh": 22},
	}, Resources: spec.Resources{MemoryMiB: 128, Cores: 1, Ports: []spec.Port{{Label: "ssh", Protocols: []string{"tcp"}}}}}
	line := func() string {
		argv, err := d.runtime.Preview(web, nil)
		if err != nil {
			t.Fatal(err)
		}
		return strings.Join(argv, " ")
	}
	if before := line(); !strings.Contains(before, "-sandbox") || strings.Contains(before, ":47000-") {
		t.Fatal(before)
	}
	write(t, s.configPath, "sandbox = false\ndynamic_ports = \"47000-47000\"\n")
	d.lookAgain()
	if after := line(); strings.Contains(after, "-sandbox") || !strings.Contains(after, ":47000-") {
		t.Errorf("the new config is not in force: %s", after)
	}
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}
