package spec

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// LoadPaths reads the files and directories that `validate` was given, as they
// are at this moment: a file that is just being written is not waited for. A
// directory is read as a whole. A file is read with its own directory as the
// task directory, and with nothing else in it, whatever its name is. All tasks
// are judged together, and files are named as they were given. opts.Dir is
// only compared with: opts.Held is of that one.
//
// There is one set for each directory, in the order in which paths first name
// it, however often; a path that cannot be found has a set with Err.
func LoadPaths(paths []string, opts LoaderOptions) []*Set {
	var all []*group
	byDir := map[string]*group{}
	for _, path := range paths {
		dir, name, err := splitPath(path)
		same := dir
		if real, err := filepath.EvalSymlinks(dir); err == nil {
			same = real
		}
		g := byDir[same]
		if g == nil {
			g = &group{dir: dir, err: err, shown: map[string]string{}}
			byDir[same], all = g, append(all, g)
		}
		g.add(name, path)
	}
	return loadGroups(all, opts)
}

// LoadDir reads the task directory opts.Dir in the same way; files are named
// relative to it.
func LoadDir(opts LoaderOptions) *Set {
	return loadGroups([]*group{{dir: opts.Dir, whole: true}}, opts)[0]
}

// group is what was given of one directory.
type group struct {
	dir string
	// err is why the path cannot be found.
	err error
	// whole says that the directory itself was given, as prefix.
	whole  bool
	prefix string
	// names are the files that were given, and shown how each was.
	names []string
	shown map[string]string
	// unsettled says that the directory was swapped at every look.
	unsettled bool
}

// add takes in a path; the name of the directory itself is empty.
func (g *group) add(name, path string) {
	switch {
	case name == "" && !g.whole:
		g.whole, g.prefix = true, path
	case name != "" && g.shown[name] == "":
		g.names, g.shown[name] = append(g.names, name), filepath.Clean(path)
	}
}

func (g *group) show(name string) string {
	if given := g.shown[name]; given != "" {
		return given
	}
	return filepath.Join(g.prefix, name)
}

// loadGroups reads each directory once and judges all tasks together.
func loadGroups(groups []*group, opts LoaderOptions) []*Set {
	sets := make([]*Set, len(groups))
	read := make([][]*Source, len(groups))
	var sources []*Source
	for i, g := range groups {
		if read[i], g.err = g.read(opts); g.err != nil {
			sets[i] = &Set{Dir: g.dir, Err: g.err}
		}
		sources = append(sources, read[i]...)
	}
	found := newJudge(opts.Host, opts.crashed).all(sources)
	for i, g := range groups {
		if g.err == nil {
			sets[i] = newSet(g.dir, read[i], found)
			sets[i].Unsettled = g.unsettled
		}
	}
	return sets
}

// read parses the files of the group, as they are.
func (g *group) read(opts LoaderOptions) ([]*Source, error) {
	if g.err != nil {
		return nil, g.err
	}
	if g.dir != opts.Dir {
		opts.Held = nil // is that of the task directory
	}
	opts.Dir, opts.Remember = g.dir, nil
	l := NewLoader(opts)
	l.asIs, l.shown = true, g.show
	var sources []*Source
	if g.whole {
		seen, err := l.look(time.Time{})
		if err != nil {
			return nil, fmt.Errorf("task directory %s: %w", l.opts.Dir, err)
		}
		sources, g.unsettled = seen.sources(), seen.unsettled
		g.names = slices.DeleteFunc(g.names, isTaskFile) // have been seen
	}
	if len(g.names) == 0 {
		return sources, nil
	}
	l.wanted = slices.Sorted(slices.Values(g.names))
	seen, err := l.look(time.Time{})
	if err != nil {
		return nil, fmt.Errorf("task directory %s: %w", l.opts.Dir, err)
	}
	named := seen.sources()
	g.unsettled = g.unsettled || seen.unsettled
	if len(named) < len(l.wanted) {
		return nil, fmt.Errorf("a file in %s: %w", g.dir, fs.ErrNotExist)
	}
	return append(sources, named...), nil
}

// splitPath gives the directory of a path, absolute, and the file in it; the
// name of a directory is empty.
func splitPath(path string) (dir, name string, err error) {
	full, err := filepath.Abs(path)
	if err != nil {
		return path, "", err
	}
	info, err := os.Stat(full)
	if err == nil && info.IsDir() {
		return full, "", nil
	}
	if _, linkErr := os.Lstat(full); linkErr != nil {
		return full, "", fmt.Errorf("%s: %w", path, withoutPath(linkErr))
	}
	// Whatever else is wrong with it becomes a diagnostic of the file.
	return filepath.Dir(full), filepath.Base(full), nil
}
