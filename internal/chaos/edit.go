package chaos

import (
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/qemu-reconciler/qemu-reconciler/internal/guest"
)

const (
	mostTasks = 7
	mostFiles = 5
)

// editor makes changes of a content by chance.
type editor struct {
	*rand.Rand
	// numbers makes names and labels that were never there.
	numbers int
	// gone are the latest definitions of tasks that are in no file.
	gone map[string]def
}

// edit is a kind of change: it gives the changed content, and what it did;
// nothing when there is nothing to do it to.
type edit func(e *editor, c content) (content, string)

// edits are all of them, by the name of their step.
var edits = map[string]edit{
	"create": (*editor).create, "edit-machine": (*editor).editMachine, "edit-policy": (*editor).editPolicy,
	"edit-nothing": (*editor).editNothing, "edit-state": (*editor).editState, "edit-hosts": (*editor).editHosts,
	"rename-file": (*editor).renameFile, "rename-task": (*editor).renameTask, "move-task": (*editor).moveTask,
	"remove-file": (*editor).removeFile, "remove-task": (*editor).removeTask,
	"break-file": (*editor).breakFile, "rename-broken": (*editor).renameBroken, "double-task": (*editor).doubleTask,
	"mend-file": (*editor).mendFile, "return-all": (*editor).returnAll,
}

func (e *editor) next() int {
	e.numbers++
	return e.numbers
}

func oneOf[T any](r *rand.Rand, list []T) T { return list[r.IntN(len(list))] }

// soundFiles are the files that may be edited: none while two of them clash.
func soundFiles(c content) []string {
	if c.duplicate() != "" {
		return nil
	}
	return slices.DeleteFunc(c.files(), func(name string) bool { return c[name].fault != sound })
}

// change changes one task of a sound file.
func (e *editor) change(c content, how func(d *def) string) (content, string) {
	var names []string
	for _, f := range soundFiles(c) {
		for _, d := range c[f].tasks {
			names = append(names, d.name)
		}
	}
	if len(names) == 0 {
		return c, ""
	}
	next := c.copy()
	f, at, _ := c.find(oneOf(e.Rand, names))
	d := &next[f].tasks[at]
	what := how(d)
	return next, fmt.Sprintf("%s in %s: %s", d.name, f, what)
}

// fileFor gives a file for another task: one that is there, or a new one.
func (e *editor) fileFor(c content) string {
	files := soundFiles(c)
	if len(files) > 0 && (e.IntN(2) == 0 || len(c) >= mostFiles) {
		return oneOf(e.Rand, files)
	}
	return e.newFile(c)
}

func (e *editor) newFile(c content) string {
	for {
		if name := fmt.Sprintf("%c.hcl", 'a'+e.IntN(mostFiles+3)); len(c[name].tasks) == 0 {
			return name
		}
	}
}

// create adds a task: a new one, or one that was there before.
func (e *editor) create(c content) (content, string) {
	if len(c.defs()) >= mostTasks || c.duplicate() != "" {
		return c, ""
	}
	name := fmt.Sprintf("t%d", 1+e.IntN(mostTasks+1))
	for _, _, there := c.find(name); there; _, _, there = c.find(name) {
		name = fmt.Sprintf("t%d", 1+e.IntN(mostTasks+1))
	}
	d, was := e.gone[name]
	if !was || c.uses(d.image) || e.IntN(4) == 0 {
		d = def{name: name, machine: machine{image: fmt.Sprintf("%s-%d.img", name, e.next()), memory: 128}, on: always, killTimeout: "10s",
			guest: oneOf(e.Rand, []guest.Variant{guest.Obedient, guest.Obedient, guest.Obedient, guest.Button, guest.Deaf})}
		was = false
	}
	next := c.copy()
	file := e.fileFor(c)
	f := next[file]
	f.tasks = append(f.tasks, d)
	next[file] = f
	return next, fmt.Sprintf("%s in %s, again: %v", name, file, was)
}

func (e *editor) editMachine(c content) (content, string) {
	return e.change(c, func(d *def) string {
		if e.IntN(2) == 0 {
			d.rng = !d.rng
		} else {
			d.memory = 128 + 160 - d.memory
		}
		return fmt.Sprintf("%+v", d.machine)
	})
}

func (e *editor) editPolicy(c content) (content, string) {
	return e.change(c, func(d *def) string {
		switch e.IntN(4) {
		case 0:
			d.killTimeout = oneOf(e.Rand, []string{"8s", "10s", "12s"})
		case 1:
			d.label = e.next()
		case 2:
			d.on = oneOf(e.Rand, []string{always, onFailure, never})
		case 3:
			d.keep = !d.keep
		}
		return fmt.Sprintf("kill_timeout %s, label %d, restart %s, keep %v", d.killTimeout, d.label, d.on, d.keep)
	})
}

func (e *editor) editNothing(c content) (content, string) {
	files := soundFiles(c)
	if len(files) == 0 {
		return c, ""
	}
	next, name := c.copy(), oneOf(e.Rand, files)
	f := next[name]
	f.noise = e.next()
	if e.IntN(2) == 0 {
		e.Shuffle(len(f.tasks), func(i, j int) { f.tasks[i], f.tasks[j] = f.tasks[j], f.tasks[i] })
	}
	next[name] = f
	return next, name
}

func (e *editor) editState(c content) (content, string) {
	return e.change(c, func(d *def) string {
		d.stopped = !d.stopped
		return fmt.Sprintf("stopped: %v", d.stopped)
	})
}

func (e *editor) editHosts(c content) (content, string) {
	return e.change(c, func(d *def) string {
		d.elsewhere = !d.elsewhere
		return fmt.Sprintf("elsewhere: %v", d.elsewhere)
	})
}

func (e *editor) renameFile(c content) (content, string) {
	if len(c) == 0 || c.duplicate() != "" {
		return c, ""
	}
	next, from, to := c.copy(), oneOf(e.Rand, c.files()), e.newFile(c)
	next[to] = next[from]
	delete(next, from)
	return next, from + " to " + to
}

// renameTask gives a task another name and lets it have its image.
func (e *editor) renameTask(c content) (content, string) {
	return e.change(c, func(d *def) string {
		if d.keep { // whose VM keeps the image
			return "kept its name"
		}
		d.name = fmt.Sprintf("r%d", e.next())
		return "is its new name"
	})
}

// moveTask moves a task to another file.
func (e *editor) moveTask(c content) (content, string) {
	files := soundFiles(c)
	if len(files) == 0 {
		return c, ""
	}
	next, from, to := c.copy(), oneOf(e.Rand, files), e.fileFor(c)
	if from == to {
		return c, ""
	}
	source, target := next[from], next[to]
	at := e.IntN(len(source.tasks))
	d := source.tasks[at]
	source.tasks = slices.Delete(source.tasks, at, at+1)
	target.tasks = append(target.tasks, d)
	next[from], next[to] = source, target
	if len(source.tasks) == 0 {
		delete(next, from)
	}
	return next, fmt.Sprintf("%s from %s to %s", d.name, from, to)
}

func (e *editor) removeFile(c content) (content, string) {
	if len(c) == 0 || c.duplicate() != "" {
		return c, ""
	}
	next, name := c.copy(), oneOf(e.Rand, c.files())
	for _, d := range c[name].tasks {
		e.gone[d.name] = d
	}
	delete(next, name)
	return next, fmt.Sprintf("%s with %d tasks", name, len(c[name].tasks))
}

func (e *editor) removeTask(c content) (content, string) {
	files := soundFiles(c)
	if len(files) == 0 {
		return c, ""
	}
	next, name := c.copy(), oneOf(e.Rand, files)
	f := next[name]
	at := e.IntN(len(f.tasks))
	d := f.tasks[at]
	e.gone[d.name] = d
	f.tasks = slices.Delete(f.tasks, at, at+1)
	next[name] = f
	if len(f.tasks) == 0 {
		delete(next, name)
	}
	return next, d.name + " from " + name
}

// removeMost removes all files but at most one.
func (e *editor) removeMost(c content) (content, string) {
	if len(c) < 2 || c.duplicate() != "" {
		return c, ""
	}
	next, stays := content{}, ""
	if e.IntN(2) == 0 {
		stays = oneOf(e.Rand, c.files())
		next[stays] = c.copy()[stays]
	}
	for _, name := range c.files() {
		for _, d := range c[name].tasks {
			if name != stays {
				e.gone[d.name] = d
			}
		}
	}
	return next, fmt.Sprintf("of %d files stays %q", len(c), stays)
}

func (e *editor) breakFile(c content) (content, string) {
	files := soundFiles(c)
	if len(files) == 0 {
		return c, ""
	}
	next, name := c.copy(), oneOf(e.Rand, files)
	f := next[name]
	f.fault = oneOf(e.Rand, faults)
	next[name] = f
	return next, fmt.Sprintf("%s: %s", name, f.fault)
}

func (e *editor) renameBroken(c content) (content, string) {
	files := soundFiles(c)
	if len(files) == 0 {
		return c, ""
	}
	next, from, to := c.copy(), oneOf(e.Rand, files), e.newFile(c)
	f := next[from]
	f.fault = syntaxFault
	next[to] = f
	delete(next, from)
	return next, from + " to " + to
}

// doubleTask puts a task into a second file.
func (e *editor) doubleTask(c content) (content, string) {
	files := soundFiles(c)
	if len(files) == 0 {
		return c, ""
	}
	next, d := c.copy(), oneOf(e.Rand, c[oneOf(e.Rand, files)].tasks)
	name := e.newFile(c)
	next[name] = file{tasks: []def{d}}
	return next, d.name + " also in " + name
}

func (e *editor) mendFile(c content) (content, string) {
	next := c.copy()
	if twice := c.duplicate(); twice != "" {
		for _, name := range c.files() {
			if f := c[name]; len(f.tasks) == 1 && f.tasks[0].name == twice {
				delete(next, name)
				return next, name + " of two"
			}
		}
	}
	for _, name := range c.files() {
		if f := next[name]; f.fault != sound {
			f.fault, f.noise = sound, e.next()
			next[name] = f
			return next, name
		}
	}
	return c, ""
}

// returnAll mends everything and brings back what is gone, as a restored
// directory does.
func (e *editor) returnAll(c content) (content, string) {
	did := ""
	for {
		next, what := e.mendFile(c)
		if what == "" {
			break
		}
		c, did = next, did+" "+what
	}
	next := c.copy()
	for name := range mostTasks + 2 {
		d, was := e.gone[fmt.Sprintf("t%d", name)]
		if _, _, there := next.find(d.name); !was || there || next.uses(d.image) || len(next.defs()) >= mostTasks {
			continue
		}
		file := e.fileFor(next)
		f := next[file]
		f.tasks = append(f.tasks, d)
		next[file] = f
		did += " " + d.name
	}
	return next, did
}
