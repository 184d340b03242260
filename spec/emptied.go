package spec

import "errors"

// DirectoryID tells one directory from all others. The zero one is that of none.
type DirectoryID struct {
	Device, Inode uint64
	// Born is when it was made, in nanoseconds since 1970, or zero where the file
	// system does not know: the number of an inode is given again.
	Born int64
}

// errNotFilled says what the way out is: a comment is no task, and a file all
// the same.
var errNotFilled = errors.New("it is empty, and not known as the directory that held the task files before: not mounted, or not filled yet? (if it is meant to be empty, put a file into it that has only a comment)")

// emptied tells a directory whose last file was removed from an empty one in its
// place: where another was mounted, or that somebody made anew to fill it.
func (l *Loader) emptied(names []string, at DirectoryID) error {
	switch {
	case l.held != nil && *l.held == at:
	case len(names) > 0:
		l.held = &at
		l.opts.Remember(at)
	case l.held != nil:
		return errNotFilled
	}
	return nil
}
