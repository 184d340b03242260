package spec

import (
	"bytes"
	"slices"
	"time"

	"github.com/zclconf/go-cty/cty"
)

// Set is what the directory says at one moment. It is a value: a later Load
// returns another one.
type Set struct {
	// Dir is the absolute path of the task directory.
	Dir string
	// Err is set when the directory itself is missing or cannot be read. Then
	// the set says nothing about any task, and nothing may be stopped for it.
	Err error
	// Files are all task files that were seen, sorted by path.
	Files []File
	// Definitions are the sound tasks, sorted by name. A task with an error
	// of its own, or in a file that does not parse, is not among them.
	Definitions []*Definition
	// Unsettled is set while a file is being written: the set holds the
	// content from before, and a look a little later will tell more. A new
	// file is not in the set yet, so that a task which is missing may be on
	// its way into it.
	Unsettled bool
	// Writing are the paths of the files that are being written, relative to
	// the task directory and sorted. It may be empty though the set is
	// unsettled: so is a directory that was swapped at every look.
	Writing []string
	// CompleteAt is when the files were left alone for so long that a task which
	// is in none of them is missing. Until then it may be on its way into one
	// that somebody writes, unknown to everybody. It may be past.
	CompleteAt time.Time
}

// File is one task file and what is wrong with it.
type File struct {
	// Path is relative to the task directory.
	Path     string
	Errors   []Diagnostic
	Warnings []Diagnostic
	// Faulty are the names of the tasks in this file that have an error of
	// their own. When the file as a whole could not be read or parsed, its
	// tasks are unknown and Faulty is empty.
	Faulty []string
	// Mentioned are the names of tasks that stand in the text of a file with an
	// error that is no single task's. Whatever the file was to say of them, they
	// were not removed.
	Mentioned []string
}

// Unsure says whether the file has an error that is no single task's: any task
// may be in there.
func (f *File) Unsure() bool { return wholly(f.Errors) }

// wholly says whether one of the errors is that of a file as a whole.
func wholly(errors []Diagnostic) bool {
	return slices.ContainsFunc(errors, func(d Diagnostic) bool { return d.Task == "" })
}

// mentions are the names that the text of a file gives to tasks, sorted. It is
// text that does not parse: a line is all that can be understood of it.
func mentions(src []byte) []string {
	var names []string
	for line := range bytes.Lines(src) {
		line = bytes.TrimLeft(line, " \t")
		rest, ok := bytes.CutPrefix(line, []byte(`"task"`))
		if !ok {
			rest, ok = bytes.CutPrefix(line, []byte("task"))
		}
		rest, quoted := bytes.CutPrefix(bytes.TrimLeft(rest, " \t"), []byte(`"`))
		name, _, ended := bytes.Cut(rest, []byte(`"`))
		if ok && quoted && ended && len(taskName(cty.StringVal(string(name)))) == 0 {
			names = append(names, string(name))
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// Broken says whether any file has an error; it is then not known whether a
// task that is missing was removed.
func (s *Set) Broken() bool {
	for _, f := range s.Files {
		if len(f.Errors) > 0 {
			return true
		}
	}
	return false
}

// Definition is one sound task of the desired set.
type Definition struct {
	// Task is complete but for what expressions make of allocated ports: use
	// Bind for the task that is applied.
	Task *Task
	// File is the path relative to the task directory.
	File string
	// Here says whether the task is wanted on this host.
	Here bool
	bind func(allocated map[string]int) (*Task, []Diagnostic)
	// places are where the fields of the task are written.
	places *places
}

// Bind gives the task with the allocated host ports in its expressions
// (port.LABEL, NOMAD_HOST_PORT_x, NOMAD_PORT_x). A label that is missing from
// allocated reads as zero, which no allocated port ever is. The result is the
// caller's to keep, never to change.
func (d *Definition) Bind(allocated map[string]int) (*Task, []Diagnostic) {
	if d.bind == nil {
		return d.Task, nil
	}
	return d.bind(allocated)
}
