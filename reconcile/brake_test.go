package reconcile

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/qemu-reconciler/qemu-reconciler/runtime"
	"github.com/qemu-reconciler/qemu-reconciler/spec"
)

// hamlet is a house of VMs that shut down in 100 ms.
func hamlet(t *testing.T, names string, setup func(*Config, *fakeMachines)) *house {
	files := map[string]string{}
	for _, name := range names {
		files[string(name)+".hcl"] = task(string(name), "")
	}
	h := newHouse(t, files, func(c *Config, m *fakeMachines) {
		m.stopTakes = 100 * time.Millisecond
		if setup != nil {
			setup(c, m)
		}
	})
	synctest.Wait()
	return h
}

func (h *house) remove(names string) {
	for _, name := range names {
		h.write(string(name)+".hcl", "")
	}
}

func (h *house) expectHeld(t *testing.T, want ...string) {
	t.Helper()
	expect(t, "held", h.Show().HeldRemovals, append([]string{}, want...))
}

func (h *house) stops() []string {
	var names []string
	for _, stamp := range h.log(&h.machines.stopped) {
		names = append(names, stamp[:1])
	}
	slices.Sort(names)
	return names
}

func TestBrakeHoldsUntilApproved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := hamlet(t, "abcde", nil)
		defer h.stop()
		if _, err := h.Approve(); !errors.Is(err, ErrNothingHeld) {
			t.Errorf("approved nothing: %v", err)
		}
		h.remove("abc")
		time.Sleep(time.Hour)
		expect(t, "stopped", h.stops(), nil)
		h.expectHeld(t, "a", "b", "c")
		if len(h.machines.removals.Held) != 3 {
			t.Errorf("written down: %+v", h.machines.removals)
		}
		names, err := h.Approve()
		expect(t, "approved", names, []string{"a", "b", "c"})
		if err != nil {
			t.Error(err)
		}
		time.Sleep(time.Second)
		expect(t, "stopped", h.stops(), []string{"a", "b", "c"})
		if st := h.Status(); !st.Converged || len(st.Tasks) != 2 {
			t.Errorf("%+v", st)
		}
		h.remove("d") // the fourth within a minute
		time.Sleep(30 * time.Second)
		h.expectHeld(t, "d")
		h.write("d.hcl", task("d", ""))
		time.Sleep(time.Minute)
		h.remove("d") // the first of another
		time.Sleep(time.Second)
		expect(t, "stopped", h.stops(), []string{"d"})
	})
}

func TestBrakeIsReleasedByFiles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := hamlet(t, "abcd", nil)
		defer h.stop()
		h.remove("abcd")
		time.Sleep(time.Second)
		h.expectHeld(t, "a", "b", "c", "d")
		for _, name := range []string{"d", "c", "b"} { // slowly, as from afar
			h.write(name+".hcl", task(name, ""))
			time.Sleep(10 * time.Second)
		}
		h.expectHeld(t, "a")
		h.write("a.hcl", task("a", ""))
		time.Sleep(time.Second)
		expect(t, "stopped", h.stops(), nil)
		if st := h.Status(); !st.Converged || len(st.HeldRemovals) != 0 || len(h.machines.removals.Held) != 0 {
			t.Errorf("%+v, %+v", st, h.machines.removals)
		}
	})
}

func TestApprovalIsForWhatWasShown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := hamlet(t, "abcde", nil)
		defer h.stop()
		h.remove("abc")
		time.Sleep(time.Second)
		h.expectHeld(t, "a", "b", "c")
		h.remove("d")
		time.Sleep(time.Second)
		var changed *HeldChangedError
		if _, err := h.Approve(); !errors.As(err, &changed) || !slices.Equal(changed.Names, []string{"a", "b", "c", "d"}) {
			t.Fatalf("approved what nobody saw: %v", err)
		}
		time.Sleep(time.Second)
		expect(t, "stopped", h.stops(), nil)
		if _, err := h.Approve(); err != nil { // now it was shown
			t.Error(err)
		}
		h.remove("e") // in the moment of the approval
		time.Sleep(time.Second)
		expect(t, "stopped", h.stops(), []string{"a", "b", "c", "d"})
		h.expectHeld(t, "e")
	})
}

// The first daemon dies with two removals under way: for the next they count.
func TestBrakeRemembers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := hamlet(t, "abcde", func(_ *Config, m *fakeMachines) { m.stopTakes = time.Hour })
		h.remove("ab")
		time.Sleep(time.Second)
		h.stop()
		remembered := h.machines.removals
		if len(remembered.Begun) != 2 {
			t.Fatalf("written down: %+v", remembered)
		}
		h.machines.stopTakes = time.Second
		cfg := h.cfg
		cfg.Removals = remembered
		delete(h.loader.files, "c.hcl")
		next := New(cfg)
		h.machines.poke = next.Poke
		go next.Run(t.Context())
		time.Sleep(5 * time.Second)
		expect(t, "stopped", h.stops(), []string{"a", "b"})
		expect(t, "held", next.Status().HeldRemovals, []string{"c"})
	})
}

// A removal that had begun is over when its file is back, also for a next daemon:
// what goes after that is no part of it.
func TestBrakeForgetsWhatIsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := hamlet(t, "abc", nil)
		h.remove("a")
		time.Sleep(time.Second)
		expect(t, "stopped", h.stops(), []string{"a"})
		h.write("a.hcl", task("a", ""))
		time.Sleep(time.Second)
		h.stop()
		if remembered := h.machines.removals; len(remembered.Begun) != 0 {
			t.Errorf("written down: %+v", remembered)
		}
	})
}

// A removal whose file breaks while it is being written down is called off: its VM
// runs on, and is restarted like any other of that file.
func TestBrokenFileCallsARemovalOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := hamlet(t, "ab", func(_ *Config, m *fakeMachines) { m.remembering = make(chan chan struct{}) })
		h.remove("a")
		writing := <-h.machines.remembering
		h.write("a.hcl", `task "a" {`)
		synctest.Wait()
		close(writing)
		select {
		case over := <-h.machines.remembering:
			close(over)
		case <-time.After(time.Minute):
			t.Fatal("it is not written down that the removal is over")
		}
		h.machines.end("a", runtime.CauseCrashed, "")
		time.Sleep(time.Hour)
		if st := h.Status(); len(st.Tasks) != 2 || st.Tasks[0].Phase != PhaseRunning || st.Tasks[0].Restarts != 1 {
			t.Errorf("%+v", st.Tasks)
		}
		h.stop()
		expect(t, "stopped", h.stops(), nil)
		if remembered := h.machines.removals; len(remembered.Begun) != 0 {
			t.Errorf("written down: %+v", remembered)
		}
	})
}

// A removal that takes over a stop which is under way for another reason is written
// down like any other: a next daemon starts nothing for a file that broke meanwhile.
func TestRemovalOfWhatIsBeingRestarted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := hamlet(t, "ab", func(_ *Config, m *fakeMachines) { m.stopTakes = 10 * time.Second })
		h.write("a.hcl", task("a", "resources {\n memory = 256\n }\n"))
		synctest.Wait()
		h.remove("a")
		time.Sleep(time.Second)
		h.write("a.hcl", `task "a" {`)
		time.Sleep(time.Minute)
		h.stop()
		expect(t, "stopped", h.stops(), []string{"a"})
		if started := h.log(&h.machines.started); len(started) != 2 {
			t.Errorf("started: %v", started)
		}
		cfg := h.cfg
		cfg.Removals = h.machines.removals
		next := New(cfg)
		h.machines.poke = next.Poke
		go next.Run(t.Context())
		time.Sleep(time.Minute)
		expect(t, "started by the next daemon", h.log(&h.machines.started), nil)
		if st := next.Status(); st.Tasks[0].Phase != PhaseStopped || st.Tasks[0].Desired != "absent" {
			t.Errorf("%+v", st.Tasks[0])
		}
	})
}

// An approved removal that is called off before its stop is announced need not be
// approved again. A daemon that has yet to read the files calls nothing off.
func TestApprovalOfARemovalCalledOff(t *testing.T) {
	begun := runtime.BegunRemoval{At: story, Ran: 4, StartedAt: storyStart, Approved: true}
	source := spec.Parse("a.hcl", []byte(task("a", "")), testEnv)
	broken := spec.Parse("a.hcl", []byte(`task "a" {`), testEnv)
	w := &World{
		Now: story, Set: &spec.Set{Files: []spec.File{{Path: "a.hcl", Errors: broken.Errors}}},
		Removals: runtime.Removals{Begun: map[string]runtime.BegunRemoval{"a": begun}},
		Observed: map[string]runtime.Observation{"a": {Alive: true, Record: &runtime.Record{
			Task: "a", File: "a.hcl", Wanted: source.Definitions[0].Task, Process: &runtime.ProcessInfo{StartedAt: storyStart},
		}}},
	}
	next := Remember(w, Diff(w))
	if len(next.Begun) != 0 || next.Held["a"] != (runtime.HeldRemoval{Since: story, Ran: 4, Approved: true}) {
		t.Errorf("called off: %+v", next)
	}
	w.Set = &spec.Set{Err: errNotRead}
	if next := Remember(w, Diff(w)); next.Begun["a"] != begun || len(next.Held) != 0 {
		t.Errorf("not read yet: %+v", next)
	}
}

func TestApprovalMustBeWrittenDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := hamlet(t, "abc", nil)
		defer h.stop()
		h.machines.failRemember = errors.New("no space left on device")
		h.remove("abc")
		time.Sleep(time.Second)
		if names, err := h.Approve(); err == nil {
			t.Errorf("approved %v", names)
		}
		time.Sleep(time.Second)
		expect(t, "stopped", h.stops(), nil)
		h.expectHeld(t, "a", "b", "c")
		h.machines.mu.Lock()
		h.machines.failRemember = nil
		h.machines.mu.Unlock()
		h.Poke()
		synctest.Wait()
		if len(h.machines.removals.Held) != 3 {
			t.Errorf("not written later: %+v", h.machines.removals)
		}
	})
}

func TestMaxRemovals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		none, two := 0, 2
		h := hamlet(t, "abcdefgh", func(c *Config, _ *fakeMachines) { c.Tuning.MaxRemovals = &two })
		defer h.stop()
		h.remove("ab")
		time.Sleep(30 * time.Second)
		expect(t, "stopped", h.stops(), []string{"a", "b"})
		h.remove("c")
		time.Sleep(time.Minute) // what is held stays held
		h.expectHeld(t, "c")
		h.write("c.hcl", task("c", ""))
		time.Sleep(time.Minute)
		h.Tune(Tuning{MaxRemovals: &none})
		h.remove("h")
		time.Sleep(time.Second)
		h.expectHeld(t, "h")
		expect(t, "stopped", h.stops(), nil)
	})
}

func TestUnknownRemovalsAreNotOverwritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := hamlet(t, "ab", func(c *Config, m *fakeMachines) {
			c.RemovalsFault, m.failRemember = "removals.json has version 9", errors.New("it must not be written")
		})
		defer h.stop()
		h.remove("a")
		time.Sleep(time.Second)
		h.expectHeld(t, "a")
		if _, err := h.Approve(); !errors.Is(err, ErrNothingHeld) {
			t.Errorf("approved what is not known: %v", err)
		}
		expect(t, "stopped", h.stops(), nil)
	})
}

// What a status shows as held is on the disk by then: a daemon that died right
// after it would let go what an operator was told is held.
func TestShownHoldsAreRemembered(t *testing.T) {
	t.Parallel()
	remembering := make(chan chan struct{})
	files := map[string]string{"a.hcl": task("a", ""), "b.hcl": task("b", ""), "c.hcl": task("c", "")}
	h := newHouse(t, files, func(_ *Config, m *fakeMachines) { m.remembering = remembering })
	defer h.stop()
	h.Settled(t.Context())
	h.remove("abc")
	written := <-remembering
	shown := make(chan Status, 1)
	go func() { shown <- h.Show() }()
	select {
	case s := <-shown:
		t.Errorf("shown before it was written: %v", s.HeldRemovals)
		shown <- s
	case <-time.After(100 * time.Millisecond): // which is no proof, and all that a slow disk would show
	}
	close(written)
	expect(t, "held", (<-shown).HeldRemovals, []string{"a", "b", "c"})
}

// A clock that was set back does not hold removals back for long.
func TestRememberWithTheClockSetBack(t *testing.T) {
	w := &World{Now: story, Set: &spec.Set{}, Removals: runtime.Removals{Begun: map[string]runtime.BegunRemoval{"a": {At: story.Add(time.Hour), Ran: 3}}}}
	next := Remember(w, nil)
	if at := next.Begun["a"].At; !at.Equal(story) {
		t.Errorf("it began at %s", at)
	}
	w.Now, w.Removals = story.Add(removalWindow), next
	if next := Remember(w, nil); len(next.Begun) != 0 {
		t.Errorf("it still counts: %+v", next)
	}
}
