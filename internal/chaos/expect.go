package chaos

import "time"

// answer is yes, no, or either where the contract leaves a race open.
type answer string

const (
	yes    answer = "yes"
	no     answer = "no"
	either answer = "either"
)

// expectation is what must be so of a task at a rest.
type expectation struct {
	running answer
	stays   bool // it is the process that it was
	renewed bool // it is another than it was
	// machine is what the process must have been started with; nil for any.
	machine *machine
	shown   answer // in the status
	held    answer // its removal
	// restarts is how many more restarts by policy than before; negative when
	// nobody can know it.
	restarts int
}

// untouched says whether the process had no reason to end since the last rest,
// unless for the way the task looks now.
func (t *task) untouched() bool {
	if t.proc == nil || t.touched() || t.unsure || t.approved {
		return false
	}
	for _, d := range t.candidates() {
		if d.machine != t.proc.machine || d.stopped {
			return false
		}
	}
	return !t.lost() || t.keeps() == yes
}

// keeps says whether a removal lets the VM run on.
func (t *task) keeps() answer {
	var keep, stop bool
	for _, d := range t.candidates() {
		keep, stop = keep || d.keep, stop || !d.keep
	}
	switch {
	case keep && !stop:
		return yes
	case stop && !keep:
		return no
	}
	return either
}

// expect says what must be so of a task now.
func (m *model) expect(t *task, brake answer) expectation {
	v := m.look(t.name)
	var e expectation
	switch {
	case v.kind == defined:
		e = t.expectDefined(v.def)
	case v.kind == obscure, v.held:
		e = t.expectUnknown(v)
	default:
		e = t.expectAbsent(brake)
	}
	e.stays = e.running == yes && t.untouched()
	e.renewed = e.running == yes && t.proc != nil && t.orders == 1 && !t.mixed()
	e.restarts = -1
	rested := t.proc == nil && t.ended != notEnded && e.running == yes // by policy, or for another reason
	if !rested && !t.mixed() && !t.edited() && !t.lost() && t.recorded && (e.running == yes || e.running == no) && t.starts == 0 && !t.spoiled {
		e.restarts = 0
		if e.running == yes {
			e.restarts = t.kills + t.offs
		}
	}
	return e
}

// expectDefined is for a task that a sound file defines.
func (t *task) expectDefined(d def) expectation {
	e := expectation{running: yes, machine: &d.machine, shown: yes, held: no}
	doubt := t.mixed() || t.lost()
	switch {
	case d.stopped:
		e.running = no
	case t.held || t.stops > 0:
		e.running = no
		if doubt || t.starts+t.orders > 0 {
			e.running = either
		}
		if !doubt && t.stops == 0 && t.starts+t.orders > 0 {
			e.running = yes
		}
	case t.starts+t.orders > 0 && !doubt:
	case t.rested(d) && (doubt || len(t.views) > 1):
		e.running = either
	case t.ended.rests(d.on) && !t.wokenBy(d):
		e.running = no
	}
	return e
}

// rested says whether the VM may be at rest for what any of the policies that
// were in force may have made of its end.
func (t *task) rested(d def) bool {
	for _, c := range append(t.candidates(), d) {
		if t.ended.rests(c.on) {
			return true
		}
	}
	return false
}

// wokenBy says whether the definition starts a VM that is at rest: it is another
// machine, or wanted running again.
func (t *task) wokenBy(d def) bool {
	for _, good := range t.goods {
		if good.machine != d.machine || good.stopped != d.stopped {
			return true
		}
	}
	return false
}

// expectUnknown is for a task that may or may not be in a file which cannot be
// read: it stays as it is.
func (t *task) expectUnknown(v view) expectation {
	e := expectation{running: either, shown: either, held: either}
	switch {
	case t.untouched():
		e.running = yes
	case t.kept && t.proc != nil:
	case t.leaving:
	case t.proc == nil && !t.recorded && len(t.candidates()) == 0:
		e.running = no
	case t.mixed() || t.edited() || t.lost() || len(t.goods) != 1 || v.kind != obscure || v.file != t.file:
	default: // on its last good definition
		e = t.expectDefined(t.goods[0])
	}
	if t.kept {
		e.shown, e.held = either, either
	}
	return e
}

// expectAbsent is for a task that is in no file while all files are sound.
func (t *task) expectAbsent(brake answer) expectation {
	e := expectation{running: no, shown: no, held: no}
	keeps := t.keeps()
	switch {
	case t.kept || keeps == yes:
		if t.untouched() {
			e.running = yes
		} else if t.proc != nil || !t.kept {
			e.running = either
		}
		if t.kept && t.kills+t.offs > 0 {
			e.running = no
		}
		e.shown, e.held = either, either
		if e.running == yes {
			e.shown, e.held = no, no
		}
	case keeps == either && len(t.candidates()) > 0:
		e.running, e.shown, e.held = either, either, either
	case brake == no && !t.braked, t.approved && !t.back(), !t.recorded && t.proc == nil && len(t.candidates()) == 0:
	case brake == yes && t.untouched():
		e.running, e.shown, e.held = yes, yes, yes
	default:
		e.running, e.shown, e.held = either, either, either
	}
	return e
}

// brake says whether removals that are due now are held.
func (m *model) brake(now time.Time) answer {
	all := map[string]bool{}
	sure, due, sticky, doubtful := 0, 0, false, false
	for _, name := range m.names() {
		t := m.tasks[name]
		v := m.look(name)
		switch {
		case v.kind != absent || v.held || t.kept || t.keeps() == yes:
		case t.braked && !t.approved && !t.back():
			sticky = true
			all[name] = true
		case (t.braked || t.doubtful) && !t.approved:
			doubtful = true
			all[name] = true
		case t.proc == nil && !t.braked && !t.touched() && len(t.views) == 1: // down: it counts if it was to come back
			all[name] = true
		case t.proc != nil || t.braked || len(t.candidates()) > 0:
			due++
			all[name] = true
			if t.untouched() && t.keeps() == no && !t.approved {
				sure++
			}
		}
	}
	for name, at := range m.begun {
		if now.Sub(at) < brakeWindow+brakeSlack {
			all[name] = true
		}
	}
	most := 0
	for _, c := range m.ran {
		if now.Sub(c.at) < brakeWindow+brakeSlack {
			most = max(most, c.n)
		}
	}
	switch {
	case sticky:
		return yes
	case doubtful:
		return either
	case len(all) < manyRemovals:
		return no
	case due == sure && m.losses == 1 && sure >= manyRemovals && 2*sure > max(most, m.mayRun()):
		return yes
	}
	return either
}

// mayRun is the most VMs that can have run at any moment since the last rest.
func (m *model) mayRun() int {
	n := 0
	for _, t := range m.tasks {
		if t.proc != nil || len(t.candidates()) > 0 {
			n++
		}
	}
	return n
}
