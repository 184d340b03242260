package spec

import (
	"cmp"
	"fmt"
	"runtime/debug"
	"slices"
)

// judge applies the rules that one file alone cannot: those across tasks and
// those about the host. It remembers its verdicts about the host, since a
// sound task's image and emulator are not looked at again in every pass.
type judge struct {
	host     Host
	crashed  func(file string, reason any, stack []byte)
	verdicts map[*Definition]*verdict
	// disputed are the definitions whose images were the same file under two
	// names: that can be mended without a change of any task file.
	disputed map[*Definition]bool
}

// verdict is what the host had to say of one definition.
type verdict struct {
	errors []Diagnostic
	// image is what the image path led to; known says that it led anywhere.
	image ImageInfo
	known bool
}

// findings are the errors that a definition gets beside those of its own file.
type findings map[*Definition][]Diagnostic

func (f findings) add(d *Definition, diagnostics ...Diagnostic) {
	if len(diagnostics) > 0 {
		f[d] = append(f[d], diagnostics...)
	}
}

func newJudge(host Host, crashed func(file string, reason any, stack []byte)) *judge {
	return &judge{host: host, crashed: crashed, verdicts: map[*Definition]*verdict{}, disputed: map[*Definition]bool{}}
}

// forget drops the verdicts that were errors, and reports whether there were
// any.
func (j *judge) forget() bool {
	dropped := false
	for d, v := range j.verdicts {
		if len(v.errors) > 0 || j.disputed[d] {
			delete(j.verdicts, d)
			dropped = true
		}
	}
	return dropped
}

// all judges all tasks together.
func (j *judge) all(sources []*Source) findings {
	var here []*Definition
	for _, source := range sources {
		for _, d := range source.Definitions {
			if d.Here {
				here = append(here, d)
			}
		}
	}
	found := findings{}
	clashingNames(sources, found)
	j.judgeHost(here, found)
	clashingPorts(here, found)
	j.clashingImages(here, found)
	return found
}

// newSet makes the set of the files as they are: every task that breaks no
// rule, and for the others what is wrong.
func newSet(dir string, sources []*Source, found findings) *Set {
	set := &Set{Dir: dir, Files: make([]File, 0, len(sources))}
	for _, source := range sources {
		set.Files = append(set.Files, source.file(found))
		for _, d := range source.Definitions {
			if len(found[d]) == 0 {
				set.Definitions = append(set.Definitions, d)
			}
		}
	}
	slices.SortFunc(set.Definitions, func(a, b *Definition) int { return cmp.Compare(a.Task.Name, b.Task.Name) })
	return set
}

// file is what the set says of one source. The source stays as it is: it is
// kept for the next pass, in which its tasks may be sound.
func (s *Source) file(found findings) File {
	out := File{Path: s.Path, Errors: s.Errors, Warnings: s.Warnings, Faulty: s.Faulty, Mentioned: s.Mentioned}
	var errors []Diagnostic
	var faulty []string
	for _, d := range s.Definitions {
		if more := found[d]; len(more) > 0 {
			errors = append(errors, more...)
			faulty = append(faulty, d.Task.Name)
		}
	}
	if len(errors) == 0 {
		return out
	}
	out.Errors = slices.Concat(s.Errors, errors)
	sortByPlace(out.Errors)
	out.Faulty = slices.Concat(s.Faulty, faulty)
	slices.Sort(out.Faulty)
	out.Faulty = slices.Compact(out.Faulty)
	return out
}

// sortByPlace puts diagnostics of one file in the order of its lines.
func sortByPlace(diagnostics []Diagnostic) {
	slices.SortStableFunc(diagnostics, func(a, b Diagnostic) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column), cmp.Compare(a.Summary, b.Summary))
	})
}

// judgeHost adds what the host says of every task that is wanted here. Only
// definitions that it has not seen yet cost more than a look into a map.
func (j *judge) judgeHost(here []*Definition, found findings) {
	if j.host == nil {
		return
	}
	verdicts := make(map[*Definition]*verdict, len(here))
	for _, d := range here {
		v := j.verdicts[d]
		if v == nil {
			v = j.ask(d)
		}
		verdicts[d] = v
		found.add(d, v.errors...)
	}
	j.verdicts = verdicts
}

// ask is askHost, of which a panic is an error of the task.
func (j *judge) ask(d *Definition) (v *verdict) {
	defer func() {
		if reason := recover(); reason != nil {
			j.crashed(d.File, reason, debug.Stack())
			v = &verdict{errors: []Diagnostic{d.Diagnose("", "Task cannot be judged",
				fmt.Sprintf("A bug in qemu-reconciler, please report it: %v", reason))}}
		}
	}()
	return askHost(j.host, d)
}

// place says where a field of a task is written, for the other task's error.
func place(d *Definition, field string) string {
	at := d.Diagnose(field, "", "")
	return fmt.Sprintf("%s:%d:%d", at.File, at.Line, at.Column)
}
