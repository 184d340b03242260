package spec

import (
	"fmt"
	"slices"
	"strings"
)

// clashingNames finds the names that more than one task has, over all files
// and whatever host the tasks are for. A task with an error of its own claims
// its name too: while it is being mended the other one must not take its
// place.
func clashingNames(sources []*Source, found findings) {
	type claim struct {
		source *Source
		d      *Definition
	}
	claims := map[string][]claim{}
	for _, source := range sources {
		for _, d := range source.Definitions {
			claims[d.Task.Name] = append(claims[d.Task.Name], claim{source, d})
		}
		for _, name := range source.Faulty {
			claims[name] = append(claims[name], claim{source, nil})
		}
	}
	for name, all := range claims {
		if len(all) < 2 {
			continue
		}
		for i, c := range all {
			if c.d == nil {
				continue
			}
			other := all[(i+1)%len(all)]
			where := other.source.placeOfFaulty(name)
			if other.d != nil {
				where = place(other.d, "")
			}
			found.add(c.d, c.d.Diagnose("", fmt.Sprintf("Duplicate task %q", name),
				fmt.Sprintf("There is another task %q at %s%s. Names are unique over all files: rename or remove one of them. Neither is applied meanwhile.", name, where, andMore(len(all)-2))))
		}
	}
}

// placeOfFaulty says where a task is that has errors of its own.
func (s *Source) placeOfFaulty(name string) string {
	for _, e := range s.Errors {
		if e.Task == name && e.Line > 0 {
			return fmt.Sprintf("%s:%d:%d", s.Path, e.Line, e.Column)
		}
	}
	return s.Path
}

// andMore counts the clashing tasks beyond the one that is named.
func andMore(n int) string {
	if n < 1 {
		return ""
	}
	return fmt.Sprintf(" (and %d more)", n)
}

// hostPort is one static port of one task.
type hostPort struct {
	d *Definition
	Port
}

func (p hostPort) field() string { return "resources.network.port." + p.Label + ".static" }

// overlaps says whether two blocks of the same port number cannot both be
// listened on.
func (p hostPort) overlaps(q hostPort) bool {
	return AddressesOverlap(p.HostIP, q.HostIP) &&
		slices.ContainsFunc(p.Protocols, func(protocol string) bool { return slices.Contains(q.Protocols, protocol) })
}

// clashingPorts finds the host ports that are asked for twice.
func clashingPorts(here []*Definition, found findings) {
	ports := map[int][]hostPort{}
	for _, d := range here {
		for _, p := range d.Task.Resources.Ports {
			if p.Static != 0 {
				ports[p.Static] = append(ports[p.Static], hostPort{d, p})
			}
		}
	}
	for number, all := range ports {
		for i, p := range all {
			q, clashes := p.rival(all, i)
			if !clashes {
				continue
			}
			found.add(p.d, p.d.Diagnose(p.field(), fmt.Sprintf("Host port %d is taken twice", number),
				fmt.Sprintf("Port %q of task %q at %s takes it too. Give one of them another static port, host_ip or protocols.",
					q.Label, q.d.Task.Name, place(q.d, q.field()))))
		}
	}
}

// rival gives another of all that p, which is at index i, cannot be together
// with. The first will do: with thousands of copies, all of them would be too
// many to look for. Of two tasks with one name only that is an error.
func (p hostPort) rival(all []hostPort, i int) (hostPort, bool) {
	for k, q := range all {
		if k != i && (p.d == q.d || p.d.Task.Name != q.d.Task.Name) && p.overlaps(q) {
			return q, true
		}
	}
	return hostPort{}, false
}

// imageKey identifies an image: by its path, or by the file behind it.
type imageKey struct {
	path       string
	dev, inode uint64
}

// clashingImages finds the images that one task writes and another uses. Tasks
// that only read an image may share it.
func (j *judge) clashingImages(here []*Definition, found findings) {
	users := map[imageKey][]*Definition{}
	for _, d := range here {
		path := imageKey{path: d.Task.Config.ImagePath}
		users[path] = append(users[path], d)
		if v := j.verdicts[d]; v != nil && v.known {
			file := imageKey{dev: v.image.Device, inode: v.image.Inode}
			users[file] = append(users[file], d)
		}
	}
	j.disputed = map[*Definition]bool{}
	blamed := map[*Definition]bool{}
	for _, byFile := range []bool{false, true} {
		for key, all := range users {
			if byFile != (key.path == "") || len(all) < 2 {
				continue
			}
			if byFile {
				all = j.stillSame(key, all)
			}
			blame(all, blamed, found)
		}
	}
}

// stillSame asks the host again before tasks are blamed for a file that they
// share under different paths: what was remembered of their images may be of a
// file that was replaced since, whose number another file has now.
func (j *judge) stillSame(key imageKey, all []*Definition) []*Definition {
	first := all[0].Task.Config.ImagePath
	if !slices.ContainsFunc(all, func(d *Definition) bool { return d.Task.Config.ImagePath != first }) {
		return nil
	}
	var same []*Definition
	for _, d := range all {
		image, err := j.host.Image(d.Task.Config.ImagePath)
		if err != nil {
			continue
		}
		j.verdicts[d] = &verdict{errors: j.verdicts[d].errors, image: image, known: true}
		if image.Device == key.dev && image.Inode == key.inode {
			same = append(same, d)
			j.disputed[d] = true
		}
	}
	return same
}

// blame adds an error to every task of a group that uses one image, unless all
// of them only read it, all have one name, which is an error already, or they
// were blamed before.
func blame(all []*Definition, blamed map[*Definition]bool, found findings) {
	writes := func(d *Definition) bool { return !d.Task.HasArg("snapshot") }
	if len(all) < 2 || !slices.ContainsFunc(all, writes) {
		return
	}
	first := all[0]
	i := slices.IndexFunc(all, func(d *Definition) bool { return d.Task.Name != first.Task.Name })
	if i < 0 {
		return
	}
	for _, d := range all {
		other := first
		if d.Task.Name == first.Task.Name {
			other = all[i]
		}
		if !blamed[d] {
			blamed[d] = true
			found.add(d, usedTwice(d, other, len(all)-2))
		}
	}
}

// usedTwice is the error of d for using the image of other and of so many more.
func usedTwice(d, other *Definition, more int) Diagnostic {
	same := ""
	if path := other.Task.Config.ImagePath; path != d.Task.Config.ImagePath {
		same = fmt.Sprintf(" as %s, which is the same file", path)
	}
	return d.Diagnose("config.image_path", "Image is used twice", strings.Join([]string{
		fmt.Sprintf("Task %q at %s uses it too%s%s.", other.Task.Name, place(other, "config.image_path"), same, andMore(more)),
		"QEMU lets nobody else use an image that one VM writes: give each task its own.",
		`Tasks that only read it (args = ["-snapshot"] in all of them) may share it.`,
	}, " "))
}
