package reconcile

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/qemu-reconciler/qemu-reconciler/runtime"
	"github.com/qemu-reconciler/qemu-reconciler/spec"
)

func sortDefinitions(list []*spec.Definition) {
	slices.SortFunc(list, func(a, b *spec.Definition) int { return strings.Compare(a.Task.Name, b.Task.Name) })
}

func task(name, rest string) string {
	return fmt.Sprintf("task %q {\n  config { image_path = \"/img/%s\" }\n%s}\n", name, name, rest)
}

func expect(t *testing.T, what string, got, want []string) {
	t.Helper()
	slices.Sort(got)
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func stopTakes(d time.Duration) func(*Config, *fakeMachines) {
	return func(_ *Config, m *fakeMachines) { m.stopTakes = d }
}

func TestEngineStartsEditsAndRemoves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, map[string]string{"a.hcl": task("a", ""), "b.hcl": task("b", "")}, stopTakes(2*time.Second))
		defer h.stop()
		synctest.Wait()
		expect(t, "started", h.log(&h.machines.started), []string{"a@0.0s", "b@0.0s"})
		if s := h.Status(); !s.Converged || len(s.Tasks) != 2 {
			t.Fatalf("not converged after the first start: %+v", s)
		}

		h.write("a.hcl", task("a", "resources { memory = 1024 }\n"))
		time.Sleep(3 * time.Second)
		expect(t, "stopped", h.log(&h.machines.stopped), []string{"a@2.0s"})
		expect(t, "started", h.log(&h.machines.started), []string{"a@2.0s"})

		h.write("b.hcl", "")
		time.Sleep(10 * time.Second)
		expect(t, "stopped", h.log(&h.machines.stopped), []string{"b@5.5s"})
		if s := h.Status(); !s.Converged || len(s.Tasks) != 1 {
			t.Errorf("b is not forgotten: %+v", s.Tasks)
		}
	})
}

func TestEngineRemovalWaitsForAQuietDirectory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, map[string]string{"a.hcl": task("a", "")}, nil)
		defer h.stop()
		synctest.Wait()
		h.write("a.hcl", "")
		for range 10 {
			time.Sleep(400 * time.Millisecond)
			h.PokeFiles(true)
		}
		expect(t, "stopped while events came", h.log(&h.machines.stopped), nil)
		h.write("a.hcl", task("a", ""))
		time.Sleep(5 * time.Second)
		expect(t, "stopped though it is back", h.log(&h.machines.stopped), nil)
		h.write("a.hcl", "")
		time.Sleep(5 * time.Second)
		expect(t, "stopped", h.log(&h.machines.stopped), []string{"a@9.5s"})
	})
}

func TestEngineBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, map[string]string{"a.hcl": task("a", "restart { max_delay = \"4s\" }\n")}, nil)
		defer h.stop()
		synctest.Wait()
		for range 6 {
			h.machines.end("a", runtime.CauseCrashed, "")
			if s := h.Status(); s.Tasks[0].Converged {
				t.Errorf("a crashed VM has converged: %+v", s.Tasks[0])
			}
			time.Sleep(5 * time.Second)
		}
		// The first restart is at once, then 1, 2, 4 and 4 seconds after the exit.
		expect(t, "started", h.log(&h.machines.started),
			[]string{"a@0.0s", "a@0.0s", "a@6.0s", "a@12.0s", "a@19.0s", "a@24.0s", "a@29.0s"})
		if s := h.Status(); s.Tasks[0].Restarts != 6 {
			t.Errorf("restarts = %d, want 6", s.Tasks[0].Restarts)
		}
		// Ten minutes of health, and the next crash is the first again.
		time.Sleep(11 * time.Minute)
		h.machines.end("a", runtime.CauseCrashed, "")
		synctest.Wait()
		expect(t, "started after health", h.log(&h.machines.started), []string{"a@690.0s"})
	})
}

func TestEngineCommands(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, map[string]string{"a.hcl": task("a", ""), "off.hcl": task("off", "state = \"stopped\"\n")}, stopTakes(time.Second))
		defer h.stop()
		synctest.Wait()
		h.log(&h.machines.started)
		ctx := t.Context()
		if err := h.RestartTasks(ctx, []string{"a"}, true); err != nil {
			t.Fatal(err)
		}
		expect(t, "restart", h.log(&h.machines.started), []string{"a@1.0s"})
		if err := h.StopTasks(ctx, []string{"a"}, true); err != nil {
			t.Fatal(err)
		}
		s := h.Status()
		if got := s.Tasks[0]; got.Phase != PhaseStopped || got.Reason != "held by operator" || !got.Converged || !s.Converged {
			t.Errorf("a held task is %+v", got)
		}
		time.Sleep(time.Hour)
		expect(t, "started though held", h.log(&h.machines.started), nil)
		if err := h.StartTasks(ctx, []string{"a"}, true); err != nil {
			t.Fatal(err)
		}
		expect(t, "start", h.log(&h.machines.started), []string{"a@3602.0s"})

		var unknown *UnknownTaskError
		if err := h.StopTasks(ctx, []string{"a", "nobody"}, true); !errors.As(err, &unknown) {
			t.Errorf("unknown task: %v", err)
		}
		if n := len(h.log(&h.machines.stopped)); n != 2 {
			t.Errorf("%d stops; a command with an unknown name among its names does nothing", n)
		}
		var refused *CommandError
		if err := h.StartTasks(ctx, []string{"off"}, true); !errors.As(err, &refused) {
			t.Errorf("state = stopped is started: %v", err)
		}
		if _, err := h.Approve(); !errors.Is(err, ErrNothingHeld) {
			t.Errorf("approve: %v", err)
		}
	})
}

func TestEngineStartTellsFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, map[string]string{"a.hcl": task("a", "")}, nil)
		defer h.stop()
		synctest.Wait()
		if err := h.StopTasks(t.Context(), []string{"a"}, true); err != nil {
			t.Fatal(err)
		}
		h.machines.mu.Lock()
		h.machines.failStart["a"] = errors.New("tcp port 22022 is held by pid 7 (sshd)")
		h.machines.mu.Unlock()
		err := h.StartTasks(t.Context(), []string{"a"}, true)
		if err == nil || !strings.Contains(err.Error(), "sshd") {
			t.Errorf("start of a VM that cannot start: %v", err)
		}
	})
}

// What could not be started again is not stopped for a restart.
func TestEngineProvesTheNewBeforeItStopsTheOld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, map[string]string{"a.hcl": task("a", "")}, nil)
		defer h.stop()
		synctest.Wait()
		h.machines.mu.Lock()
		h.machines.failStart["a"] = errors.New("image /img/a does not exist")
		h.machines.mu.Unlock()
		err := h.RestartTasks(t.Context(), []string{"a"}, true)
		if err == nil || !strings.Contains(err.Error(), "/img/a does not exist") {
			t.Errorf("restart: %v", err)
		}
		h.write("a.hcl", task("a", "resources { memory = 1024 }\n"))
		time.Sleep(59 * time.Second) // between two of the tries
		s := h.Status()
		if got := s.Tasks[0]; got.Phase != PhaseRunning || got.Converged || !strings.Contains(got.Reason, "/img/a does not exist") || len(got.Pending) != 1 {
			t.Errorf("the old VM stays and says why: %+v", got)
		}
		expect(t, "stopped", h.log(&h.machines.stopped), nil)
	})
}

func TestEngineStopAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, map[string]string{"a.hcl": task("a", ""), "b.hcl": task("b", "")}, stopTakes(3*time.Second))
		defer h.stop()
		synctest.Wait()
		if err := h.StopAll(t.Context()); err != nil {
			t.Fatal(err)
		}
		expect(t, "stopped", h.log(&h.machines.stopped), []string{"a@3.0s", "b@3.0s"})
		h.log(&h.machines.started)
		time.Sleep(time.Hour)
		expect(t, "started after StopAll", h.log(&h.machines.started), nil)
	})
}

func TestEngineSettled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, map[string]string{"a.hcl": task("a", ""), "bad.hcl": "task {"}, nil)
		defer h.stop()
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
		defer cancel()
		s := h.Settled(ctx)
		if ctx.Err() != nil || s.Converged {
			t.Errorf("a broken file does not mend itself, so waiting ends: %v, converged %t", ctx.Err(), s.Converged)
		}
		if len(s.Tasks) != 1 || s.Tasks[0].Phase != PhaseRunning {
			t.Errorf("the sound task runs: %+v", s.Tasks)
		}
	})
}

// A status after a look speaks of the files as they are, or says that it does not.
func TestEngineShowsAfterALook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, map[string]string{"a.hcl": task("a", "")}, stopTakes(time.Minute))
		defer h.stop()
		time.Sleep(time.Second)
		h.slip("a.hcl", task("a", "resources { memory = 1024 }\n"))
		if s := h.Show(); !s.Converged {
			t.Errorf("what nobody told of was seen: %+v", s)
		}
		if s := h.StatusAfterLook(t.Context(), true); s.Converged || s.DirError != "" {
			t.Errorf("after an edit: converged %t, directory %q", s.Converged, s.DirError)
		}
		time.Sleep(2 * time.Minute)
		if s := h.StatusAfterLook(t.Context(), true); !s.Converged {
			t.Errorf("after the restart: %+v", s)
		}
		h.loader.mu.Lock()
		h.loader.takes = time.Hour
		h.loader.mu.Unlock()
		asked := time.Now()
		s := h.StatusAfterLook(t.Context(), true)
		if s.Converged || s.DirError == "" || len(s.Tasks) != 1 || time.Since(asked) != lookPatience {
			t.Errorf("with a directory that hangs, after %s: %+v", time.Since(asked), s)
		}
		time.Sleep(time.Hour) // until the look is over
	})
}

// A look that hangs holds up nothing but itself: what crashes is restarted, and
// what was asked for is done. Passes do not spin meanwhile, and what the look found
// counts when it is there.
func TestLookThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, map[string]string{"a.hcl": task("a", ""), "b.hcl": task("b", "")}, nil)
		defer h.stop()
		time.Sleep(time.Second)
		h.log(&h.machines.started)
		h.loader.mu.Lock()
		h.loader.takes = time.Hour
		h.loader.mu.Unlock()
		h.slip("c.hcl", task("c", ""))
		h.write("b.hcl", "") // and the brake wants a look of its own
		time.Sleep(time.Second)
		h.machines.end("a", runtime.CauseCrashed, "")
		time.Sleep(time.Second)
		expect(t, "started", h.log(&h.machines.started), []string{"a@2.0s"})
		if err := h.StopTasks(t.Context(), []string{"a"}, true); err != nil {
			t.Error(err)
		}
		expect(t, "stopped", h.log(&h.machines.stopped), []string{"a@3.0s"})
		if passes, loads := h.counts(); passes > 20 || loads > 1 {
			t.Errorf("%d passes and %d looks", passes, loads)
		}
		time.Sleep(2 * time.Hour)
		expect(t, "started", h.log(&h.machines.started), []string{"c@3601.0s"})
		if s := h.Status(); len(s.Tasks) != 2 {
			t.Errorf("%+v", s)
		}
		h.loader.mu.Lock()
		h.loader.takes = 0
		h.loader.mu.Unlock()
		time.Sleep(2 * time.Hour)
	})
}

// A stop during a start waits until what was started is off again.
func TestStopDuringAStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, map[string]string{"a.hcl": task("a", "")}, func(_ *Config, m *fakeMachines) { m.startTakes = time.Minute })
		defer h.stop()
		time.Sleep(time.Second)
		if err := h.StopTasks(t.Context(), []string{"a"}, true); err != nil {
			t.Fatal(err)
		}
		if s := h.Status().Tasks[0]; s.Phase != PhaseStopped || len(h.log(&h.machines.stopped)) != 1 {
			t.Errorf("%+v", s)
		}
	})
}

// What was asked for is over when it has come true by itself: it neither keeps the
// command waiting nor starts a VM that powers itself off later.
func TestStartDuringAStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, map[string]string{"a.hcl": task("a", "restart {\n on = \"failure\"\n}\n")},
			func(_ *Config, m *fakeMachines) { m.startTakes = time.Minute })
		defer h.stop()
		time.Sleep(time.Second)
		if err := h.StartTasks(t.Context(), []string{"a"}, true); err != nil {
			t.Fatal(err)
		}
		h.machines.end("a", runtime.CauseGuestShutdown, "")
		time.Sleep(time.Hour)
		if s := h.Status().Tasks[0]; s.Phase != PhaseStopped || !s.Converged {
			t.Errorf("%+v", s)
		}
	})
}

// A command fails with the reason when nothing can come of it, and it fails for the
// tasks in question alone.
func TestCommandsThatCannotBeTakenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, map[string]string{"a.hcl": task("a", ""), "z.hcl": task("z", ""), "bad.hcl": "task \"bad\" {\n nonsense = 1\n}\n"}, nil)
		defer h.stop()
		time.Sleep(time.Second)
		h.machines.mu.Lock()
		o := h.machines.observed["a"]
		o.Refused = "its record is of a newer version"
		h.machines.observed["a"] = o
		h.machines.mu.Unlock()
		h.Poke()
		for name, command := range map[string]func(context.Context, []string, bool) error{"stop": h.StopTasks, "start": h.StartTasks, "restart": h.RestartTasks} {
			var failed *CommandError
			if err := command(t.Context(), []string{"a", "z"}, true); !errors.As(err, &failed) || failed.Others || !strings.Contains(failed.Reasons["a"], "newer") {
				t.Errorf("%s of what may not be touched: %v", name, err)
			}
			if err := command(t.Context(), []string{"bad"}, true); !errors.As(err, &failed) || !strings.Contains(failed.Reasons["bad"], "bad.hcl") {
				t.Errorf("%s of what no sound file defines: %v", name, err)
			}
		}
		if n := len(h.log(&h.machines.stopped)); n != 0 || len(h.Status().HeldRemovals) != 0 {
			t.Errorf("%d were stopped, %+v", n, h.Status())
		}
	})
}

// A task whose needs another one holds, and keeps, is not waited for.
func TestStartOfWhatAnotherHolds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		shared := "task \"b\" {\n config {\n image_path = \"/img/a\"\n }\n}\n"
		h := newHouse(t, map[string]string{"a.hcl": task("a", "")}, nil)
		defer h.stop()
		time.Sleep(time.Second)
		h.write("b.hcl", shared)
		time.Sleep(time.Second)
		var failed *CommandError
		if err := h.StartTasks(t.Context(), []string{"b"}, true); !errors.As(err, &failed) || !strings.Contains(failed.Reasons["b"], "holds and keeps") {
			t.Errorf("%v", err)
		}
	})
}

func TestEngineLimitsStartsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		files := map[string]string{}
		for i := range 20 {
			files[fmt.Sprintf("%d.hcl", i)] = task(fmt.Sprintf("t%d", i), "")
		}
		h := newHouse(t, files, func(c *Config, m *fakeMachines) {
			c.Tuning.MaxParallel, m.startTakes = 3, time.Second
		})
		defer h.stop()
		time.Sleep(time.Minute)
		h.machines.mu.Lock()
		defer h.machines.mu.Unlock()
		if h.machines.most != 3 || len(h.machines.started) != 20 {
			t.Errorf("%d starts, %d at once; want 20, 3", len(h.machines.started), h.machines.most)
		}
	})
}

// At rest nothing is done but the resync: that is what keeps a host with many
// VMs quiet.
func TestEngineRests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, map[string]string{"a.hcl": task("a", "")}, nil)
		defer h.stop()
		time.Sleep(time.Minute + time.Second)
		passes, loads := h.counts()
		time.Sleep(10 * time.Minute)
		morePasses, moreLoads := h.counts()
		if n := morePasses - passes; n != 20 {
			t.Errorf("%d passes in 10 minutes of rest, want one a resync", n)
		}
		if n := moreLoads - loads; n != 20 {
			t.Errorf("%d looks at the directory in 10 minutes, want 20", n)
		}
	})
}
