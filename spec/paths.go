package spec

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// LoadPaths reads the files and directories that `validate` was given, as they
// are at this moment: a file that is just being written is not waited for. A
// directory is judged as a whole. A file is judged with its own directory as
// the task directory, together with the other named files of that directory
// and with nothing else in it, whatever its name is. opts.Dir is not used.
//
// There is one set for each directory, in the order in which paths first name
// it; a path that cannot be found has a set with Err.
func LoadPaths(paths []string, opts LoaderOptions) []*Set {
	var out []*Set
	files := map[string][]string{}
	var loads []func() *Set
	for _, path := range paths {
		dir, name, err := splitPath(path)
		switch {
		case err != nil:
			loads = append(loads, func() *Set { return &Set{Dir: dir, Err: err} })
		case name == "":
			loads = append(loads, func() *Set { return loadAsIs(dir, nil, opts) })
		default:
			if _, seen := files[dir]; !seen {
				loads = append(loads, func() *Set { return loadAsIs(dir, files[dir], opts) })
			}
			files[dir] = append(files[dir], name)
		}
	}
	for _, load := range loads {
		out = append(out, load())
	}
	return out
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

// loadAsIs reads a directory once, or the named files in it.
func loadAsIs(dir string, names []string, opts LoaderOptions) *Set {
	if dir != opts.Dir {
		opts.Device = 0 // is that of the task directory
	}
	opts.Dir, opts.Remember = dir, nil
	l := NewLoader(opts)
	l.asIs = true
	if names != nil {
		slices.Sort(names)
		l.wanted = slices.Compact(names)
	}
	set := l.Load()
	if set.Err == nil && len(set.Files) < len(l.wanted) {
		return &Set{Dir: dir, Err: fmt.Errorf("a file in %s: %w", dir, fs.ErrNotExist)}
	}
	return set
}
