package scale

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qemu-reconciler/qemu-reconciler/internal/standin"
	"github.com/qemu-reconciler/qemu-reconciler/runtime"
)

// world is a host with a daemon and many tasks, in a directory of its own.
type world struct {
	program, dir string
	layout       runtime.Layout
	// tasks are wanted running, and off are wanted off once they are there; files
	// is how many that is to be in all.
	tasks, off, files int
	log               *os.File

	daemon *exec.Cmd
	ended  chan struct{}
	// seen is how much of the event log was read, and counts how often each type
	// of event was in it.
	seen   int64
	counts map[string]int
}

// newWorld makes everything but the daemon. The task files stand ready beside
// the task directory, which does not exist yet.
func newWorld(o Options) (*world, error) {
	if err := makeRoom(o.Tasks); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(o.Dir, "scale")
	if err != nil {
		return nil, err
	}
	w := &world{program: o.Program, dir: dir, tasks: o.Tasks, files: max(o.Files, o.Tasks), counts: map[string]int{},
		layout: runtime.Layout{State: filepath.Join(dir, "state"), Run: filepath.Join(dir, "run")}}
	return w, errors.Join(w.furnish(), w.writeTasks())
}

func (w *world) furnish() (err error) {
	if err = os.Mkdir(filepath.Join(w.dir, "bin"), 0o755); err != nil {
		return err
	}
	if _, err = standin.Build(filepath.Join(w.dir, "bin")); err != nil {
		return err
	}
	if err = w.configure("warn"); err != nil {
		return err
	}
	w.log, err = os.Create(w.path("daemon.log"))
	return err
}

// configure writes the daemon's configuration: all events in one file, and no
// directory that is looked at by chance.
func (w *world) configure(logLevel string) error {
	config := fmt.Sprintf("log_max_size = \"1GiB\"\nresync_interval = \"1h\"\nlog_format = \"json\"\nlog_level = %q\n", logLevel)
	return os.WriteFile(w.path("config.hcl"), []byte(config), 0o644)
}

// writeTasks writes the files of those tasks that are wanted running into one
// directory, of those that are wanted off into another, and images for all.
func (w *world) writeTasks() error {
	for _, dir := range []string{"disks", "ready", "later"} {
		if err := os.Mkdir(w.path(dir), 0o755); err != nil {
			return err
		}
	}
	for i := range w.files {
		image := w.path("disks", name(i)+".img")
		if err := os.WriteFile(image, nil, 0o644); err != nil {
			return err
		}
		if err := os.Truncate(image, 4096); err != nil {
			return err
		}
		dir, text := "ready", w.task(i, 128, "one")
		if i >= w.tasks {
			dir, text = "later", strings.Replace(text, "{\n", "{\n  state = \"stopped\"\n", 1)
		}
		if err := os.WriteFile(w.path(dir, name(i)+".hcl"), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

func name(i int) string { return fmt.Sprintf("vm%05d", i) }

func (w *world) path(parts ...string) string {
	return filepath.Join(append([]string{w.dir}, parts...)...)
}

// task is the text of a task file.
func (w *world) task(i, memory int, label string) string {
	return fmt.Sprintf("task %q {\n  config {\n    image_path        = %q\n    graceful_shutdown = true\n  }\n  resources {\n    memory = %d\n    cores  = 1\n  }\n  meta = { label = %q }\n}\n",
		name(i), w.path("disks", name(i)+".img"), memory, label)
}

// edit puts another text in the place of a task file, at once.
func (w *world) edit(i, memory int, label string) error {
	fresh := w.path("vms.d", ".fresh")
	if err := os.WriteFile(fresh, []byte(w.task(i, memory, label)), 0o644); err != nil {
		return err
	}
	return os.Rename(fresh, w.path("vms.d", name(i)+".hcl"))
}

func (w *world) command(args ...string) *exec.Cmd {
	flags := []string{"--config", w.path("config.hcl"), "--vms-dir", w.path("vms.d"), "--state-dir", w.layout.State, "--run-dir", w.layout.Run}
	cmd := exec.Command(w.program, append(append([]string{args[0]}, flags...), args[1:]...)...)
	cmd.Env = append(os.Environ(), "PATH="+w.path("bin")+":"+os.Getenv("PATH"), "NO_COLOR=1")
	return cmd
}

// start starts the daemon and waits for nothing.
func (w *world) start(args ...string) error {
	w.daemon = w.command(append([]string{"run"}, args...)...)
	w.daemon.Stdout, w.daemon.Stderr = w.log, w.log
	if err := w.daemon.Start(); err != nil {
		return err
	}
	cmd, ended := w.daemon, make(chan struct{})
	w.ended = ended
	go func() {
		_ = cmd.Wait() // how it ended is in its log
		close(ended)
	}()
	return nil
}

// kill ends the daemon at once; its VMs stay.
func (w *world) kill() error {
	if err := w.daemon.Process.Kill(); err != nil {
		return err
	}
	<-w.ended
	return nil
}

// lookInterval is how often await looks. What it looks at is not the daemon.
const lookInterval = 2 * time.Millisecond

// await looks until it is so.
func (w *world) await(ctx context.Context, what string, so func() (bool, error)) error {
	tick := time.NewTicker(lookInterval)
	defer tick.Stop()
	for {
		ok, err := so()
		if ok || err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-w.ended:
			return fmt.Errorf("no %s: the daemon ended\n%s", what, w.words())
		case <-ctx.Done():
			return fmt.Errorf("no %s: %w; events so far: %v\n%s", what, ctx.Err(), w.counts, w.words())
		}
	}
}

// words are the last that the daemon said.
func (w *world) words() string {
	const most = 4000
	text, err := os.ReadFile(w.log.Name())
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-most):])
}

// awaitEvents waits until there are so many events of a type, all in all.
func (w *world) awaitEvents(ctx context.Context, kind string, count int) error {
	return w.await(ctx, fmt.Sprintf("%d events %q", count, kind), func() (bool, error) {
		if err := w.readEvents(); err != nil {
			return false, err
		}
		return w.counts[kind] >= count, nil
	})
}

// readEvents counts the events that are new.
func (w *world) readEvents() error {
	file, err := os.Open(w.layout.Events())
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer file.Close()
	if _, err := file.Seek(w.seen, io.SeekStart); err != nil {
		return err
	}
	fresh, err := io.ReadAll(file)
	if err != nil {
		return err
	}
	fresh = fresh[:bytes.LastIndexByte(fresh, '\n')+1]
	w.seen += int64(len(fresh))
	for line := range bytes.Lines(fresh) {
		var event struct{ Type string }
		if err := json.Unmarshal(line, &event); err != nil {
			return fmt.Errorf("event log: %w", err)
		}
		w.counts[event.Type]++
	}
	return nil
}

// close ends the daemon and what it left, and removes everything.
func (w *world) close() error {
	var errs []error
	if w.daemon != nil && w.daemon.Process != nil {
		errs = append(errs, w.daemon.Process.Kill())
		<-w.ended
		if errors.Is(errs[0], os.ErrProcessDone) {
			errs = nil
		}
	}
	left, err := runtime.OurProcesses(w.layout)
	errs = append(errs, err)
	for _, left := range left {
		// Ours by its environment, which names the state directory of this test.
		if err := unix.Kill(left.PID, syscall.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
			errs = append(errs, err)
		}
	}
	if w.log != nil {
		errs = append(errs, w.log.Close())
	}
	return errors.Join(append(errs, os.RemoveAll(w.dir))...)
}
