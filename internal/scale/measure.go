package scale

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"syscall"
	"time"
)

// descriptors are those that the daemon holds for a VM: its pidfd and its QMP
// session; spare are those for everything else, and for starts on their way.
const descriptors, spare = 2, 1000

// looks is how many times the whole directory is looked at for one figure.
const looks = 5

// Figure is one thing that was measured, once or several times. ID is for
// programs, Name for people.
type Figure struct {
	ID, Name, Unit string
	Values         []float64
	// Of is the number with which the values are expected to grow, that of the
	// tasks or files; zero for the others.
	Of int
}

// Value is the middle one of them.
func (f Figure) Value() float64 { return slices.Sorted(slices.Values(f.Values))[len(f.Values)/2] }

// Options of Measure.
type Options struct {
	// Program is the daemon to measure.
	Program string
	// Dir is where a directory of its own is made; empty means the system's
	// temporary one.
	Dir   string
	Tasks int
	// Files is how many task files there are in the end: those beyond Tasks are of
	// tasks that are wanted off, and come when the others run. At most Tasks means
	// none.
	Files int
}

// Measure lets the daemon start, lose and find again so many stand-ins, and says
// what that took. It leaves nothing behind. ctx bounds the whole.
func Measure(ctx context.Context, o Options) (figures []Figure, err error) {
	w, err := newWorld(o)
	if err != nil {
		if w != nil {
			err = errors.Join(err, w.close())
		}
		return nil, err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	m := &measurement{world: w}
	for _, step := range []func(context.Context) error{m.idle, m.converge, m.cost, m.fill, m.look, m.relabel, m.edit, m.remove, m.status, m.adopt, m.stopAll} {
		if err := step(ctx); err != nil {
			return m.figures, err
		}
	}
	return m.figures, nil
}

// measurement is one run.
type measurement struct {
	*world
	figures []Figure
}

// add notes values of a figure; of is the number with which it grows, zero if it
// is not to grow.
func (m *measurement) add(id, name, unit string, of int, values ...float64) {
	m.figures = append(m.figures, Figure{id, name, unit, values, of})
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// timed measures what the daemon's own threads have of a step, too.
func (m *measurement) timed(id, name string, of int, step func() error) error {
	before, err := m.cpu()
	if err != nil {
		return err
	}
	began := time.Now()
	if err := step(); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	took := time.Since(began)
	after, err := m.cpu()
	if err != nil {
		return err
	}
	m.add(id, name, "ms", of, milliseconds(took))
	m.add(id+"-cpu", name+": CPU", "ms", of, milliseconds(after-before))
	return nil
}

// idle starts a daemon whose task directory is not there yet.
func (m *measurement) idle(ctx context.Context) error {
	if err := m.start(); err != nil {
		return err
	}
	if err := m.awaitEvents(ctx, "dir-missing", 1); err != nil {
		return err
	}
	pss, err := m.pss()
	if err != nil {
		return err
	}
	threads, err := m.entries("task")
	m.add("idle-memory", "memory with no task", "MiB", 0, pss)
	m.add("idle-threads", "threads with no task", "", 0, float64(threads))
	return err
}

// converge puts all files there by one rename.
func (m *measurement) converge(ctx context.Context) error {
	return m.timed("converge", "one rename → all running", m.tasks, func() error {
		if err := os.Rename(m.path("ready"), m.path("vms.d")); err != nil {
			return err
		}
		return m.awaitEvents(ctx, "running", m.tasks)
	})
}

// cost is what the daemon holds for all of them.
func (m *measurement) cost(context.Context) error {
	pss, err := m.pss()
	if err != nil {
		return err
	}
	threads, err := m.entries("task")
	if err != nil {
		return err
	}
	fds, err := m.entries("fd")
	m.add("memory", "memory with all", "MiB", m.tasks, pss)
	m.add("threads", "threads with all", "", 0, float64(threads))
	m.add("descriptors", "descriptors with all", "", m.tasks, float64(fds))
	return err
}

// relabel changes what touches no VM in one file.
func (m *measurement) relabel(ctx context.Context) error {
	if err := m.readEvents(); err != nil {
		return err
	}
	changed := m.counts["changed"]
	return m.timed("label", "one label changed → recorded", 0, func() error {
		if err := m.world.edit(0, 128, "another"); err != nil {
			return err
		}
		return m.awaitEvents(ctx, "changed", changed+1)
	})
}

// rested waits until the daemon has computed nothing for a while, and gives the
// CPU time that it has had by then.
func (m *measurement) rested(ctx context.Context) (used time.Duration, err error) {
	const quiet, little = 200 * time.Millisecond, time.Millisecond
	since := time.Now()
	err = m.await(ctx, "rest", func() (bool, error) {
		now, err := m.cpu()
		if now-used > little {
			used, since = now, time.Now()
		}
		return time.Since(since) > quiet, err
	})
	return used, err
}

// edit changes one file so that its VM restarts.
func (m *measurement) edit(ctx context.Context) error {
	if err := m.readEvents(); err != nil {
		return err
	}
	running := m.counts["running"]
	return m.timed("edit", "one file changed → restarted", 0, func() error {
		if err := m.world.edit(0, 160, "another"); err != nil {
			return err
		}
		return m.awaitEvents(ctx, "running", running+1)
	})
}

// remove removes one file.
func (m *measurement) remove(ctx context.Context) error {
	if _, err := m.rested(ctx); err != nil {
		return err
	}
	err := m.timed("remove", "one file removed → VM gone (and 500 ms)", 0, func() error {
		if err := os.Remove(m.path("vms.d", name(m.tasks-1)+".hcl")); err != nil {
			return err
		}
		return m.awaitEvents(ctx, "removed", 1)
	})
	m.tasks--
	return err
}

// status runs the command, as an operator does.
func (m *measurement) status(context.Context) error {
	var took []float64
	size := 0
	for range looks {
		began := time.Now()
		out, err := m.command("status", "--json").Output()
		if err != nil {
			return fmt.Errorf("status --json: %w\n%s", err, m.words())
		}
		took = append(took, milliseconds(time.Since(began)))
		size = len(out)
		var st struct {
			Converged bool
			Tasks     []struct{ Phase string }
		}
		if err := json.Unmarshal(out, &st); err != nil {
			return err
		}
		if want := m.tasks + m.off; !st.Converged || len(st.Tasks) != want {
			return fmt.Errorf("status shows %d tasks, converged %v; want %d", len(st.Tasks), st.Converged, want)
		}
	}
	m.add("status", "status --json", "ms", m.tasks+m.off, took...)
	m.add("status-size", "status --json: size", "KiB", m.tasks+m.off, float64(size)/1024)
	return nil
}

// adopt kills the daemon and starts another.
func (m *measurement) adopt(ctx context.Context) error {
	if err := m.kill(); err != nil {
		return err
	}
	if err := m.readEvents(); err != nil {
		return err
	}
	adopted := m.counts["adopted"]
	answers, err := m.answers()
	if err != nil {
		return err
	}
	began := time.Now()
	if err := m.start("--stop-on-exit"); err != nil {
		return err
	}
	if err := m.awaitEvents(ctx, "adopted", adopted+m.tasks); err != nil {
		return err
	}
	m.add("known", "daemon started → all known", "ms", m.tasks, milliseconds(time.Since(began)))
	if err := m.awaitEvents(ctx, "daemon-started", 2); err != nil {
		return err
	}
	m.add("answers", "daemon started → it answers", "ms", m.tasks, milliseconds(time.Since(began)))
	if err := m.await(ctx, "QMP sessions", answers.All); err != nil {
		return err
	}
	m.add("sessions", "daemon started → all QEMUs have answered", "ms", m.tasks, milliseconds(time.Since(began)))
	used, err := m.rested(ctx)
	if err != nil {
		return err
	}
	m.add("sessions-cpu", "daemon started → all QEMUs have answered: CPU", "ms", m.tasks, milliseconds(used))
	pss, err := m.pss()
	m.add("adopted-memory", "memory with all adopted", "MiB", m.tasks, pss)
	return err
}

// answers are those of the stand-ins, from now on.
func (m *measurement) answers() (*Answers, error) {
	var paths []string
	for i := range m.tasks {
		paths = append(paths, m.layout.QMPLog(name(i)))
	}
	return NewAnswers(paths)
}

// stopAll ends the daemon, which stops its VMs first.
func (m *measurement) stopAll(ctx context.Context) error {
	began := time.Now()
	if err := m.daemon.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case <-m.ended:
	case <-ctx.Done():
		return fmt.Errorf("the daemon has not stopped all: %w\n%s", ctx.Err(), m.words())
	}
	m.add("stop", "all stopped gracefully", "ms", m.tasks, milliseconds(time.Since(began)))
	if code := m.daemon.ProcessState.ExitCode(); code != 0 {
		return fmt.Errorf("the daemon ended with %d\n%s", code, m.words())
	}
	return nil
}
