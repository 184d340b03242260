package runtime

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sys/unix"

	"github.com/qemu-reconciler/qemu-reconciler/internal/guest"
	"github.com/qemu-reconciler/qemu-reconciler/spec"
)

// labFingerprint asks the emulator once for all tests.
var labFingerprint = sync.OnceValue(func() *Fingerprint {
	return NewFingerprint("", hclog.NewNullLogger())
})

// lab is a Runtime on directories of its own, with real QEMUs that end with
// the test.
type lab struct {
	*Runtime
	t      *testing.T
	layout Layout
	images string
	poked  chan struct{}
	onPoke atomic.Pointer[func()] // nil for nothing
	log    logBuffer
	sync   func(*os.File) error
}

// logBuffer keeps what was logged.
type logBuffer struct {
	mu   sync.Mutex
	text strings.Builder
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

func newLab(t *testing.T) *lab {
	t.Helper()
	return newLabWith(t, nil)
}

// newLabWith is a lab with a sync of its own; nil is the usual one.
func newLabWith(t *testing.T, sync func(*os.File) error) *lab {
	t.Helper()
	dir := t.TempDir()
	l := &lab{t: t, sync: sync, layout: Layout{State: filepath.Join(dir, "state"), Run: filepath.Join(dir, "run")}, images: dir, poked: make(chan struct{}, 1)}
	t.Cleanup(func() { killAll(t, l.layout) })
	l.open()
	return l
}

func (l *lab) options() Options {
	return Options{
		Layout: l.layout, Fingerprint: labFingerprint(), Sandbox: true, sync: l.sync,
		Log: hclog.New(&hclog.LoggerOptions{Output: &l.log}),
		Poke: func() {
			if do := l.onPoke.Load(); do != nil {
				(*do)()
			}
			select {
			case l.poked <- struct{}{}:
			default:
			}
		},
	}
}

func (l *lab) open() {
	l.t.Helper()
	r, err := Open(l.t.Context(), l.options())
	must(l.t, err)
	l.Runtime = r
	l.t.Cleanup(func() {
		if err := r.Close(); err != nil {
			l.t.Error(err)
		}
	})
}

// reopen is the daemon's restart, with something done while there is none.
func (l *lab) reopen(meanwhile func()) {
	l.t.Helper()
	must(l.t, l.Close())
	meanwhile()
	l.open()
}

// killAll ends every process that a state directory's daemon started, each by
// its own pidfd.
func killAll(t *testing.T, layout Layout) {
	for _, found := range oursOf(t, layout) {
		p, err := OpenProcess(found.PID, found.StartTicks, BootID())
		if errors.Is(err, ErrGone) {
			continue
		}
		if err != nil {
			t.Error(err)
			continue
		}
		if err := p.Signal(unix.SIGKILL); err != nil {
			t.Error(err)
		}
		await(t, p.Done(), "end of a QEMU")
		p.Close()
	}
}

// oursOf is OurProcesses of a host that is short of nothing.
func oursOf(t *testing.T, layout Layout) []Found {
	t.Helper()
	found, err := OurProcesses(layout)
	must(t, err)
	return found
}

// task is a small machine with a guest.
func (l *lab) task(name string, variant guest.Variant, args ...string) *spec.Task {
	l.t.Helper()
	image := filepath.Join(l.images, name+".img")
	must(l.t, guest.Write(image, variant))
	return &spec.Task{
		Name: name, State: spec.StateRunning, KillTimeout: spec.Duration(time.Minute),
		Config: spec.Config{
			ImagePath: image, Accelerator: "tcg", Emulator: "qemu-system-x86_64", MachineType: "pc", DriveInterface: "ide",
			Args: append([]string{"-nodefaults"}, args...),
		},
		Resources: spec.Resources{MemoryMiB: 32, Cores: 1},
	}
}

func startOf(task *spec.Task) StartRequest {
	return StartRequest{
		Task: task.Name, File: "lab.hcl", Labels: task.Dynamic(),
		Wanted: func(map[string]int) (*spec.Task, []spec.Diagnostic) { return task, nil },
	}
}

// start starts a task and waits until QMP answers.
func (l *lab) start(task *spec.Task) Observation {
	l.t.Helper()
	must(l.t, l.Start(l.t.Context(), startOf(task)))
	return l.answering(task.Name)
}

func (l *lab) answering(task string) Observation {
	l.t.Helper()
	return l.until(task, "QMP answers", func(o Observation) bool { return o.Answering })
}

// until waits for what a poke announces.
func (l *lab) until(task, what string, seen func(Observation) bool) Observation {
	l.t.Helper()
	deadline := time.After(testPatience)
	for {
		if o, ok := l.Observe()[task]; ok && seen(o) {
			return o
		}
		select {
		case <-l.poked:
		case <-deadline:
			l.t.Fatalf("%s: never seen: %s; it is %s", task, what, asJSON(l.Observe()[task]))
		}
	}
}

// ended waits for the exit of a process.
func (l *lab) ended(task string) Exit {
	l.t.Helper()
	o := l.until(task, "end", func(o Observation) bool { return !o.Alive && o.Record.LastExit != nil })
	return *o.Record.LastExit
}

func (l *lab) stop(task string, req StopRequest) Exit {
	l.t.Helper()
	must(l.t, l.Stop(l.t.Context(), task, req))
	o := l.Observe()[task]
	if o.Alive || o.Record.Process != nil || o.Record.Intent != nil {
		l.t.Fatalf("%s was stopped and is %s", task, asJSON(o))
	}
	return *o.Record.LastExit
}

// press stops a guest by its power button.
func press(timeout time.Duration) StopRequest {
	return StopRequest{Reason: "test", Graceful: true, Timeout: timeout}
}

// kill sends a signal to the very process of a task.
func (l *lab) kill(task string, sig unix.Signal) {
	l.t.Helper()
	info := l.Observe()[task].Record.Process
	p, err := OpenProcess(info.PID, info.StartTicks, info.BootID)
	must(l.t, err)
	defer p.Close()
	must(l.t, p.Signal(sig))
}

// tell runs a command in the session that the runtime has.
func (l *lab) tell(task, command string) {
	l.t.Helper()
	m := l.find(task)
	must(l.t, m.session(m.currentLife()).Execute(l.t.Context(), command, nil, nil))
}

// aside runs a command in a session of its own, while no runtime has one.
func (l *lab) aside(task, command string) {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(l.t.Context(), testPatience)
	defer cancel()
	conn, err := DialUnix(ctx, l.layout.QMPSocket(task))
	must(l.t, err)
	monitor, err := NewMonitor(ctx, conn)
	must(l.t, err)
	defer monitor.Close()
	must(l.t, monitor.Execute(ctx, command, nil, nil))
}

// gone waits for the end of a process that no runtime watches.
func (l *lab) gone(info *ProcessInfo) {
	l.t.Helper()
	p, err := OpenProcess(info.PID, info.StartTicks, info.BootID)
	if errors.Is(err, ErrGone) {
		return
	}
	must(l.t, err)
	await(l.t, p.Done(), "end of a process")
	p.Close()
}

// says waits until a guest has printed something.
func (l *lab) says(task, text string) {
	l.t.Helper()
	eventually(l.t, task+" says "+text, func() error {
		raw, err := os.ReadFile(l.layout.ConsoleLog(task))
		if err != nil {
			return err
		}
		if !strings.Contains(string(raw), text) {
			return fmt.Errorf("it says %q", raw)
		}
		return nil
	})
}

// onDisk reads the record as a later daemon would.
func (l *lab) onDisk(task string) *Record {
	l.t.Helper()
	record, _, err := readRecord(l.layout.Record(task), task)
	must(l.t, err)
	return record
}

// forge rewrites a record while no runtime has it.
func (l *lab) forge(task string, edit func(*Record)) {
	l.t.Helper()
	record := l.onDisk(task)
	edit(record)
	must(l.t, OpenStore(l.layout).Put(record, true))
}

// told lists the types of a task's events.
func (l *lab) told(task string) []string {
	l.t.Helper()
	var kinds []string
	for _, e := range readEvents(l.t, l.layout.Events()) {
		if e["task"] == task {
			kinds = append(kinds, e["type"].(string))
		}
	}
	return kinds
}

func readEvents(t *testing.T, path string) []map[string]any {
	t.Helper()
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	must(t, err)
	var out []map[string]any
	for line := range strings.Lines(string(raw)) {
		var e map[string]any
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("event %q: %v", line, err)
		}
		out = append(out, e)
	}
	return out
}

func asJSON(v any) string {
	raw, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		return err.Error()
	}
	return string(raw)
}
