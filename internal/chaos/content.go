package chaos

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/qemu-reconciler/qemu-reconciler/internal/guest"
)

// machine is what of a task only another process can have.
type machine struct {
	image  string // name of the image file
	memory int    // MiB
	rng    bool   // has a random number device
}

// def is what a file says of one task.
type def struct {
	name string
	machine
	guest       guest.Variant
	killTimeout string
	label       int // its meta
	on          string
	stopped     bool // state = "stopped"
	keep        bool // on_remove = "keep"
	elsewhere   bool // hosts excludes this one
}

// fault is how a file is broken.
type fault string

const (
	sound fault = ""
	// The whole of a file with one of these is unreadable.
	syntaxFault fault = "syntax"
	emptyFault  fault = "empty"
	blankFault  fault = "blank"
	cutFault    fault = "truncated"
	// attributeFault is a wrong word in the file's first task.
	attributeFault fault = "attribute"
)

var faults = []fault{syntaxFault, emptyFault, blankFault, cutFault, attributeFault}

// file is one task file: what it is meant to say, and how it is broken.
type file struct {
	tasks []def
	fault fault
	noise int // changes comments and order, and nothing else
}

// content is the task directory, by file name. It is a value: who changes it
// makes a copy.
type content map[string]file

func (c content) copy() content {
	out := content{}
	for name, f := range c {
		f.tasks = slices.Clone(f.tasks)
		out[name] = f
	}
	return out
}

// files are the names of its files, sorted.
func (c content) files() []string { return slices.Sorted(maps.Keys(c)) }

// defs are all tasks as they are meant, sorted by file.
func (c content) defs() []def {
	var out []def
	for _, name := range c.files() {
		out = append(out, c[name].tasks...)
	}
	return out
}

// find gives the file and the place of a task.
func (c content) find(task string) (name string, at int, found bool) {
	for _, name := range c.files() {
		at := slices.IndexFunc(c[name].tasks, func(d def) bool { return d.name == task })
		if at >= 0 {
			return name, at, true
		}
	}
	return "", 0, false
}

// uses says whether any task has the image.
func (c content) uses(image string) bool {
	return slices.ContainsFunc(c.defs(), func(d def) bool { return d.image == image })
}

// broken says whether any file has an error.
func (c content) broken() bool {
	for _, f := range c {
		if f.fault != sound {
			return true
		}
	}
	return c.duplicate() != ""
}

// duplicate names a task that is in two files.
func (c content) duplicate() string {
	seen := map[string]bool{}
	for _, f := range c {
		if f.fault != sound && f.fault != attributeFault {
			continue
		}
		for _, d := range f.tasks {
			if seen[d.name] {
				return d.name
			}
			seen[d.name] = true
		}
	}
	return ""
}

// viewKind is how a task looks in a content.
type viewKind string

const (
	absent viewKind = "absent" // in no file, or not for this host
	// obscure is a task that is in a file which cannot be read, as far as one
	// knows.
	obscure viewKind = "obscure"
	defined viewKind = "defined"
)

// view is how a task looks in a content.
type view struct {
	kind viewKind
	def  def
	file string
	// held says that removals wait: some file is broken.
	held bool
}

// leaves says whether the task is to be removed now, unless the brake holds it.
func (v view) leaves() bool { return v.kind == absent && !v.held }

// view gives the view of one task.
func (c content) view(task string) view {
	v := view{kind: absent, held: c.broken()}
	twice := c.duplicate()
	for _, name := range c.files() {
		f := c[name]
		at := slices.IndexFunc(f.tasks, func(d def) bool { return d.name == task })
		switch {
		case at < 0:
		case f.fault == sound && twice != task, f.fault == attributeFault && at > 0:
			if !f.tasks[at].elsewhere {
				v.kind, v.def, v.file = defined, f.tasks[at], name
			}
		default:
			return view{kind: obscure, file: name, held: true}
		}
	}
	return v
}

// text renders a file. disks is where the images are.
func (f file) text(disks string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# %d\n", f.noise)
	for _, d := range f.tasks {
		b.WriteString(d.text(disks, f.noise))
	}
	text := b.String()
	switch f.fault {
	case syntaxFault:
		return text + "task {\n"
	case emptyFault:
		return ""
	case blankFault:
		return " \n\n"
	case cutFault:
		return text[:strings.LastIndex(text, "image_path")+5]
	case attributeFault:
		return strings.Replace(text, "image_path", "acelerator = \"tcg\"\n    image_path", 1)
	}
	return text
}

// text renders a task. noise turns the order of its parts, which means nothing.
func (d def) text(disks string, noise int) string {
	config := fmt.Sprintf("  config {\n    image_path = %q\n    emulator = \"x86_64\"\n    graceful_shutdown = %v\n    port_map = { web = 80 }\n",
		disks+"/"+d.image, d.guest != guest.Deaf)
	if d.rng {
		config += "    args = [\"-device\", \"virtio-rng-pci\"]\n"
	}
	config += "  }\n"
	parts := []string{config, fmt.Sprintf("  resources {\n    memory = %d\n  }\n", d.memory),
		fmt.Sprintf("  kill_timeout = %q\n", d.killTimeout), fmt.Sprintf("  meta = { label = \"%d\" }\n", d.label),
		fmt.Sprintf("  restart {\n    on = %q\n    delay = \"20ms\"\n    max_delay = \"100ms\"\n  }\n", d.on)}
	if d.stopped {
		parts = append(parts, "  state = \"stopped\"\n")
	}
	if d.keep {
		parts = append(parts, "  on_remove = \"keep\"\n")
	}
	if d.elsewhere {
		parts = append(parts, "  hosts = [\"another\"]\n")
	}
	turn := noise % len(parts)
	parts = append(parts[turn:len(parts):len(parts)], parts[:turn]...)
	return fmt.Sprintf("task %q {\n%s}\n", d.name, strings.Join(parts, ""))
}
