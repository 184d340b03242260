package reconcile

import (
	"context"
	"maps"
	"time"

	"github.com/qemu-reconciler/qemu-reconciler/spec"
)

// Run makes passes until ctx is done. Then steps under way are abandoned where
// they are, which harms nothing: the next daemon finishes what the records
// announce. The VMs stay as they are.
func (e *Engine) Run(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer e.work.Wait()
	defer cancel()
	timer := time.NewTimer(0)
	defer timer.Stop()
	var rested time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-e.poke:
		case <-timer.C:
		}
		breathe(ctx, time.Until(rested))
		wake, breath := e.pass(ctx)
		rested = time.Now().Add(min(breath, longestBreath))
		timer.Reset(time.Until(wake))
	}
}

// When hundreds of VMs start or stop, each asks for a pass over all of them. The next
// one comes no sooner than breaths times what the decisions of the last one took: they
// have a fifth of a processor at most, and the guests the rest. A look at the directory
// has half of one.
const (
	breaths       = 4
	longestBreath = 100 * time.Millisecond
)

// breathe waits, unless ctx is done; while nothing happens there is nothing to wait
// for.
func breathe(ctx context.Context, wait time.Duration) {
	if wait <= 0 {
		return
	}
	select {
	case <-time.After(wait):
	case <-ctx.Done():
	}
}

// pass looks, decides and begins what is to be done; it returns when to look
// again though nothing happens, and for how long to leave the processor to others.
func (e *Engine) pass(ctx context.Context) (wake time.Time, breath time.Duration) {
	began := time.Now()
	if l := e.beginLook(); l != nil {
		e.awaitLook(ctx, l)
	}
	looked := time.Now()
	d := e.decide(ctx)
	if d.remember {
		e.saveRemovals()
	}
	e.tell(d.news)
	e.announce(d.tasks)
	return d.wake, looked.Sub(began) + breaths*time.Since(looked)
}

// decision is what came of a pass beside the steps that it began.
type decision struct {
	wake time.Time
	news []news
	// remember says that what the brake has to know has changed so that it must be
	// on the disk before it is told. A removal that begins is written by its stop.
	remember bool
	tasks    int
}

// decide judges every task and begins the steps. A panic that is no single task's
// ends this pass alone.
func (e *Engine) decide(ctx context.Context) (d decision) {
	e.mu.Lock()
	defer e.mu.Unlock()
	defer func() {
		if cause := recover(); cause != nil {
			e.cfg.Log.Error("a pass was given up", "error", bug(cause))
			d = decision{wake: time.Now().Add(faultDelay)}
		}
	}()
	e.takeLook()
	w := e.world(time.Now())
	e.absent = absentees(w, w.wants())
	w.Absent = e.absent
	verdicts := Diff(w)
	before := e.removals
	e.removals = Remember(w, verdicts)
	d = decision{wake: e.nextWake(w.Now), remember: e.removals.Supersedes(before) || e.unsaved, tasks: len(verdicts)}
	for i := range verdicts {
		v := &verdicts[i]
		if v.Look {
			e.look = true
		}
		if !v.Look || e.looking == nil {
			d.wake = earlier(d.wake, v.Wake)
		}
		if v.Same {
			continue
		}
		if _, had := before.Begun[v.Task]; v.Removal != nil && !v.Braked && v.Step == StepNone && !had {
			d.remember = true // it begins with a stop that is under way for another reason
		}
		e.logBug(v)
		e.dropAsk(v, w.Observed[v.Task])
		if v.Step != StepNone {
			e.begin(ctx, v)
		}
	}
	e.resting.note(w, verdicts)
	d.news = e.told.narrate(w.Set, verdicts)
	return d
}

// nextWake is when to look again though nothing happens. A look that is under way
// wakes the loop at its end, and none begins before that. The caller holds e.mu.
func (e *Engine) nextWake(now time.Time) time.Time {
	if e.looking != nil {
		return now.Add(e.cfg.Tuning.Resync)
	}
	return e.lookAt
}

// take makes a set that was read just now the one in force.
func (e *Engine) take(set *spec.Set) {
	e.set = set
	e.unsettled++
	if !set.Unsettled {
		e.unsettled = 0
	}
	e.lookAt = time.Now().Add(e.patience(set))
	e.reserved = staticPorts(set)
	maps.DeleteFunc(e.binding, func(d *spec.Definition, _ binding) bool { return !defines(set, d) })
}

// staticPorts are the host ports that are never allocated to another task.
func staticPorts(set *spec.Set) map[int]string {
	out := map[int]string{}
	for _, d := range set.Definitions {
		if !d.Here {
			continue
		}
		for _, p := range d.Task.Resources.Ports {
			if p.Static != 0 {
				out[p.Static] = d.Task.Name
			}
		}
	}
	return out
}

// patience is how long the content of the directory is good for though no
// event says otherwise.
func (e *Engine) patience(set *spec.Set) time.Duration {
	switch {
	case set.Unsettled:
		return min(unsettledDelay<<min(e.unsettled, 10), unsettledMaxDelay, e.cfg.Tuning.Resync)
	case set.Broken():
		return min(brokenDelay, e.cfg.Tuning.Resync)
	}
	return e.cfg.Tuning.Resync
}

// announce wakes everybody who waits for a pass over so many tasks.
func (e *Engine) announce(tasks int) {
	e.mu.Lock()
	close(e.passed)
	e.passed = make(chan struct{})
	e.passes++
	e.mu.Unlock()
	if e.cfg.OnPass != nil {
		e.cfg.OnPass(tasks)
	}
}

// world is what is known at this moment. The caller holds e.mu.
func (e *Engine) world(now time.Time) *World {
	set := e.set
	if set == nil {
		set = &spec.Set{Dir: e.cfg.VMsDir, Err: errNotRead}
	}
	return &World{
		Now: now, BootID: e.cfg.BootID, Set: set, Observed: e.cfg.Machines.Observe(), LastEvent: e.event, Read: e.sight, Blind: e.blind,
		Removals: e.removals, RemovalsFault: e.cfg.RemovalsFault, MaxRemovals: e.cfg.Tuning.MaxRemovals,
		Absent: e.absent, Busy: e.busy, Starting: e.starting, Asked: e.asked, Faults: e.faults, Stopping: e.stop, Resting: e.resting, Bind: e.bind,
	}
}

// bind remembers what a definition is with its ports, because binding may
// evaluate expressions. The caller holds e.mu.
func (e *Engine) bind(d *spec.Definition, allocated map[string]int) *spec.Task {
	if b, ok := e.binding[d]; ok && maps.Equal(b.ports, allocated) {
		return b.task
	}
	task, _ := d.Bind(allocated)
	if task == nil {
		task = d.Task
	}
	e.binding[d] = binding{ports: allocated, task: task}
	return task
}

func defines(set *spec.Set, d *spec.Definition) bool {
	i, found := findDefinition(set.Definitions, d.Task.Name)
	return found && set.Definitions[i] == d
}
