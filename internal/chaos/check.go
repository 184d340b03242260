package chaos

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/qemu-reconciler/qemu-reconciler/internal/e2e"
)

// compare says in what the world is not as it must be.
func (m *model) compare(w world) []string {
	problems := slices.Clone(w.problems)
	brake := m.brake(time.Now())
	var held []string
	for _, name := range m.names() {
		t := m.tasks[name]
		e := m.expect(t, brake)
		for _, p := range m.compareTask(t, e, w) {
			problems = append(problems, fmt.Sprintf("%s: %s", name, p))
		}
		if e.held == yes {
			held = append(held, name)
		}
	}
	for name := range w.procs {
		if m.tasks[name] == nil {
			problems = append(problems, name+" runs, and no file ever had it")
		}
	}
	for _, name := range held {
		if !slices.Contains(w.status.HeldRemovals, name) {
			problems = append(problems, name+" is not among the held removals")
		}
	}
	return append(problems, m.compareWhole(w)...)
}

// compareTask compares one task with what is expected of it.
func (m *model) compareTask(t *task, e expectation, w world) []string {
	var problems []string
	say := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	p, runs := w.procs[t.name]
	s, shown := w.status.Task(t.name)
	if !runs && e.machine != nil && w.holds(e.machine.image) {
		return nil // it waits for another's image, which is let go of with that one's removal
	}
	if shown && m.look(t.name).leaves() && !slices.Contains(w.status.HeldRemovals, t.name) {
		say("its removal is neither held nor done: %s", s.Reason)
	}
	if runs && e.running == no || !runs && e.running == yes {
		say("runs: %v, expected: %s", runs, e.running)
	}
	if runs && e.stays && (p.pid != t.proc.pid || p.start != t.proc.start) {
		say("it was pid %d and is pid %d, with nothing to restart it for", t.proc.pid, p.pid)
	}
	if runs && e.renewed && p.pid == t.proc.pid {
		say("it was to be restarted and is still pid %d", p.pid)
	}
	if runs && e.machine != nil && p.machine != *e.machine {
		say("it runs as %+v, wanted is %+v", p.machine, *e.machine)
	}
	if shown && e.shown == no || !shown && e.shown == yes {
		say("in the status: %v, expected: %s", shown, e.shown)
	}
	if shown {
		problems = append(problems, t.compareStatus(s, p, e)...)
	}
	if runs && e.running == yes && m.look(t.name).kind == defined && !s.Converged {
		say("is not done with it: %s %+v", s.Reason, s.Pending)
	}
	if runs && !shown && !t.kept && t.keeps() == no {
		say("pid %d runs, and the status does not know it", p.pid)
	}
	if recorded := slices.Contains(w.records, t.name); recorded != (shown || runs) && e.shown != either {
		say("has a record: %v, in the status: %v, runs: %v", recorded, shown, runs)
	}
	return problems
}

// compareStatus compares what the status says of a task with /proc, and with
// what was so before.
func (t *task) compareStatus(s e2e.TaskStatus, p process, e expectation) []string {
	var problems []string
	say := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	if s.PID != p.pid {
		say("the status says pid %d, /proc %d", s.PID, p.pid)
	}
	if up := s.Phase == "running" || s.Phase == "held"; up != (p.pid != 0) || !up && s.Phase != "stopped" && s.Phase != "failed" {
		say("pid %d in phase %s (%s)", p.pid, s.Phase, s.Reason)
	}
	if t.uuid != "" && s.UUID != "" && s.UUID != t.uuid {
		say("its uuid was %s and is %s", t.uuid, s.UUID)
	}
	if e.held == yes && s.Phase != "held" {
		say("its removal is to be held, its phase is %s", s.Phase)
	}
	if len(s.Ports) == 1 && p.pid != 0 && s.Ports[0].Host != p.port {
		say("its port is %d, QEMU has %d", s.Ports[0].Host, p.port)
	}
	if stable := t.recorded && t.port != 0 && !t.lost() && !t.unsure; stable && p.pid != 0 && p.port != t.port {
		say("its port was %d and is %d", t.port, p.port)
	}
	if e.restarts >= 0 && s.Restarts != t.restarts+e.restarts {
		say("%d restarts by policy were %d before and %d since: %d are counted", t.restarts+e.restarts, t.restarts, e.restarts, s.Restarts)
	}
	if t.recorded && !t.lost() && !t.unsure && !t.spoiled && (s.Restarts < t.restarts || s.Reboots < t.reboots) {
		say("its counters went back: %d to %d restarts, %d to %d reboots", t.restarts, s.Restarts, t.reboots, s.Reboots)
	}
	if e.stays && t.resets > 0 && !t.spoiled && t.mute != p.pid && s.Reboots <= t.reboots {
		say("the guest rebooted, and reboots is %d still", s.Reboots)
	}
	return problems
}

// compareExits says which exits have a cause that nothing was done for.
func (m *model) compareExits(w world) []string {
	var problems []string
	for _, name := range m.names() {
		t := m.tasks[name]
		s, shown := w.status.Task(name)
		if !shown || s.LastExit == nil || !s.LastExit.At.After(t.exited) || t.unsure {
			continue
		}
		var plausible []string
		if t.kills > 0 {
			plausible = append(plausible, "killed")
		}
		if t.kills+t.offs > 0 && m.wasBlind || t.forged {
			plausible = append(plausible, "unknown")
		}
		if t.offs > 0 {
			plausible = append(plausible, "guest-shutdown")
		}
		if t.edited() || t.lost() || t.stops+t.orders > 0 {
			plausible = append(plausible, "stopped")
		}
		if !slices.Contains(plausible, s.LastExit.Cause) {
			problems = append(problems, fmt.Sprintf("%s ended: %s, plausible was %v", name, s.LastExit.Cause, plausible))
		}
	}
	return problems
}

// compareWhole compares what concerns no single task.
func (m *model) compareWhole(w world) []string {
	var problems []string
	ports := map[int]string{}
	converged := len(w.status.HeldRemovals) == 0 && !m.away && !m.now.broken()
	for _, s := range w.status.Tasks {
		converged = converged && s.Converged
		for _, p := range s.Ports {
			if other := ports[p.Host]; other != "" && p.Host != 0 {
				problems = append(problems, fmt.Sprintf("port %d is of %s and of %s", p.Host, other, s.Name))
			}
			ports[p.Host] = s.Name
		}
	}
	if w.status.Converged != converged {
		problems = append(problems, fmt.Sprintf("converged: %v, expected: %v (held %v, %d files, directory: %q)",
			w.status.Converged, converged, w.status.HeldRemovals, len(w.status.Files), w.status.DirError))
	}
	if broken := len(w.status.Files) > 0; broken != m.now.broken() && !m.away {
		problems = append(problems, fmt.Sprintf("broken files in the status: %v, expected: %v", w.status.Files, m.now.broken()))
	}
	if len(w.status.Unsettled) > 0 && !m.away {
		problems = append(problems, fmt.Sprintf("%v are not read yet", w.status.Unsettled))
	}
	if (w.status.DirError != "") != m.away {
		problems = append(problems, fmt.Sprintf("the directory is away: %v; the status says %q", m.away, w.status.DirError))
	}
	return problems
}

// rest takes what is so for what is known from now on.
func (m *model) rest(w world) (sure, unsure int) {
	now := time.Now()
	brake := m.brake(now)
	m.ran = append(m.ran, count{now, max(m.mayRun(), len(w.procs))})
	for _, name := range m.names() {
		t := m.tasks[name]
		if m.expect(t, brake).running == either {
			unsure++
		} else {
			sure++
		}
		m.restTask(t, w)
	}
	m.wasBlind, m.losses = m.blind, 0
	return sure, unsure
}

func (m *model) restTask(t *task, w world) {
	v, had := m.look(t.name), t.proc != nil
	candidates := t.candidates()
	p, runs := w.procs[t.name]
	s, shown := w.status.Task(t.name)
	keeps := t.keeps()
	if !runs && (!shown || !slices.Contains(w.records, t.name)) { // a task with an error is shown, and not known for it
		waits := v.kind == defined && !t.lost()
		if (had || len(candidates) > 0 && !waits) && keeps != yes {
			m.begun[t.name] = time.Now()
		}
		*t = task{name: t.name, uuid: t.uuid}
		if v.kind == defined { // it waits for another's image, and may be started before the next edit
			t.views = []view{v}
		}
		return
	}
	t.kept = runs && (!shown || strings.HasPrefix(s.Reason, "let go of"))
	switch {
	case v.kind == defined:
		t.goods, t.file = []def{v.def}, v.file
	case len(t.views) > 0:
		t.goods = candidates
	}
	t.recorded, t.proc = true, nil
	t.restBrake(v, m.away, slices.Contains(w.status.HeldRemovals, t.name))
	if runs {
		t.proc, t.port, t.ended, t.held = &p, p.port, notEnded, false
		delete(m.begun, t.name)
	}
	if shown {
		t.learn(s, runs, v.kind == defined)
	}
	t.forget()
}

// restBrake notes whether the brake holds a removal. The daemon remembers it while
// a file is broken or the directory away, whatever the status lists then.
func (t *task) restBrake(v view, away, listed bool) {
	released := t.back() || t.approved
	stays, perhaps := t.braked && !released, t.doubtful || t.braked && released
	if away || v.kind == obscure || v.held {
		t.braked, t.doubtful = stays, perhaps
	} else {
		t.braked, t.doubtful = listed && v.leaves(), false
	}
}

// learn takes from the status what only the daemon can know where the model was
// unsure. known says that a sound file defines the task.
func (t *task) learn(s e2e.TaskStatus, runs, known bool) {
	t.restarts, t.reboots, t.uuid = s.Restarts, s.Reboots, s.UUID
	if s.LastExit != nil {
		t.exited = s.LastExit.At
	}
	t.leaving = !runs && s.Desired == "absent"
	if runs {
		t.vague = false
		return
	}
	t.learnHold(s.Reason, known)
	if t.lost() || t.unsure { // what was forgotten gave its port back
		t.port = 0
		if len(s.Ports) == 1 {
			t.port = s.Ports[0].Host
		}
	}
	t.ended = notEnded
	if s.LastExit != nil {
		switch s.LastExit.Cause {
		case "guest-shutdown":
			t.ended = wentOff
		case "killed", "unknown", "crashed":
			t.ended = failed
		}
	}
}

// learnHold notes whether an operator holds a VM that is down. The reason tells
// only while a sound file defines the task.
func (t *task) learnHold(reason string, known bool) {
	doubt := t.mixed() || t.lost()
	switch {
	case known && doubt:
		t.held = reason == "held by operator"
	case t.stops > 0:
		t.held = true
	case t.starts+t.orders > 0:
		t.held = false
	}
	t.vague = doubt && !known
}
