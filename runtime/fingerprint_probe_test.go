package runtime

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/qemu-reconciler/qemu-reconciler/internal/guest"
)

// failing is an emulator that never works and notes each of its runs.
func failing(t *testing.T) (script string, runs func() int) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "runs")
	return "echo x >> " + path + "\nexit 1\n", func() int {
		raw, err := os.ReadFile(path)
		must(t, err)
		return strings.Count(string(raw), "x")
	}
}

// age lets the time since the last answer pass.
func (f *Fingerprint) age(by time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, q := range f.probes {
		q.at = q.at.Add(-by)
	}
}

// TestFingerprintRetries: a binary that fails is asked again ever less often,
// and at once when it changed.
func TestFingerprintRetries(t *testing.T) {
	script, runs := failing(t)
	dir := onPath(t, map[string]string{"qemu-system-x86_64": script})
	f := newTestFingerprint("")
	want := 1
	ask := func(what string) {
		t.Helper()
		if _, err := f.Emulator("qemu-system-x86_64"); err == nil {
			t.Error("it works")
		}
		if got := runs(); got != want {
			t.Fatalf("%s: %d runs, want %d", what, got, want)
		}
	}
	ask("first")
	for _, wait := range []time.Duration{30 * time.Second, time.Minute, 2 * time.Minute, 4 * time.Minute, 8 * time.Minute, 10 * time.Minute, 10 * time.Minute} {
		f.age(wait - time.Second)
		ask("before " + wait.String())
		f.age(2 * time.Second)
		want++
		ask("after " + wait.String())
	}
	must(t, os.WriteFile(filepath.Join(dir, "qemu-system-x86_64"), []byte("#!/bin/sh\n# another\n"+script), 0o755))
	want++
	ask("changed")
	f.age(31 * time.Second)
	want++
	ask("the new one from the beginning")
}

// TestFingerprintHangs: a binary that hangs costs a few seconds.
func TestFingerprintHangs(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "qemu-system-hangs")
	must(t, os.WriteFile(path, []byte("#!/bin/sh\nexec sleep 1000\n"), 0o755))
	began := time.Now()
	_, err := probe(t.Context(), path)
	if took := time.Since(began); err == nil || took < 4*time.Second || took > 10*time.Second {
		t.Errorf("%v after %v", err, took)
	}
}

// TestFingerprintClose: the end of the daemon waits for no emulator, and what
// was known is still known.
func TestFingerprintClose(t *testing.T) {
	script, _ := counted(t)
	began := filepath.Join(t.TempDir(), "began")
	onPath(t, map[string]string{"qemu-system-x86_64": script, "qemu-system-hangs": "echo $$ > " + began + "\nexec sleep 1000\n"})
	t.Setenv("PATH", os.Getenv("PATH")+":/usr/bin:/bin")
	f := newTestFingerprint("")
	known, err := f.Emulator("qemu-system-x86_64")
	must(t, err)
	asked := make(chan error, 1)
	go func() {
		_, err := f.Emulator("qemu-system-hangs")
		asked <- err
	}()
	eventually(t, "the probe runs", func() error {
		raw, err := os.ReadFile(began)
		if err == nil && len(raw) == 0 {
			err = errors.New("not yet")
		}
		return err
	})
	closing := time.Now()
	f.Close()
	if err := await(t, asked, "answer"); !errors.Is(err, ErrClosed) {
		t.Errorf("asked: %v", err)
	}
	if took := time.Since(closing); took > 3*time.Second {
		t.Errorf("closed after %v", took)
	}
	raw, err := os.ReadFile(began)
	must(t, err)
	pid, err := strconv.Atoi(strings.TrimSpace(string(raw)))
	must(t, err)
	if got := program(pid); got == "sleep" {
		t.Error("the probe still runs")
	}
	if again, err := f.Emulator("qemu-system-x86_64"); err != nil || again.Version != known.Version {
		t.Errorf("what was known: %v, %v", again, err)
	}
	if _, err := f.Emulator("qemu-system-hangs"); !errors.Is(err, ErrClosed) {
		t.Errorf("asked after the end: %v", err)
	}
}

// TestStartNotWaitingForProbe: a start that hangs on an emulator ends with the
// runtime, and is no failure of the task.
func TestStartNotWaitingForProbe(t *testing.T) {
	began := filepath.Join(t.TempDir(), "began")
	onPath(t, map[string]string{"qemu-system-x86_64": "echo $$ > " + began + "\nexec sleep 1000\n"})
	t.Setenv("PATH", os.Getenv("PATH")+":/usr/bin:/bin")
	l := newLab(t)
	must(t, l.Close())
	options := l.options()
	options.Fingerprint = nil
	r, err := Open(t.Context(), options)
	must(t, err)
	started := make(chan error, 1)
	task := l.task("vm", guest.Deaf)
	go func() { started <- r.Start(t.Context(), startOf(task)) }()
	eventually(t, "the probe runs", func() error {
		_, err := os.Stat(began)
		return err
	})
	closing := time.Now()
	must(t, r.Close())
	if err := await(t, started, "start"); err == nil {
		t.Error("it started")
	}
	if took := time.Since(closing); took > 3*time.Second {
		t.Errorf("closed after %v", took)
	}
	if record := l.onDisk("vm"); record.Failure != "" || record.LastExit != nil {
		t.Errorf("record: %s", asJSON(record))
	}
}

// TestStartOfAnEmulatorThatHangs: the patience with an emulator is not that with the
// start, whose failure the restart policy is to know.
func TestStartOfAnEmulatorThatHangs(t *testing.T) {
	onPath(t, map[string]string{"qemu-system-x86_64": "exec sleep 1000\n"})
	t.Setenv("PATH", os.Getenv("PATH")+":/usr/bin:/bin")
	l := newLab(t)
	must(t, l.Close())
	options := l.options()
	options.Fingerprint = nil
	r, err := Open(t.Context(), options)
	must(t, err)
	defer r.Close()
	if err := r.Start(t.Context(), startOf(l.task("vm", guest.Deaf))); err == nil {
		t.Error("it started")
	}
	record := r.Observe()["vm"].Record
	if record == nil || record.LastExit == nil || record.LastExit.Cause != CauseLaunchFailed || record.Failure == "" {
		t.Errorf("record: %s", asJSON(record))
	}
}
