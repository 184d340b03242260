package spec

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"
)

// maxReads is how many files the expressions of one task file may read: each
// is looked at in every pass.
const maxReads = 100

// fileReader is what the function file() of one task file does. A file is read
// once, so that all expressions see the same content, now and in Bind.
type fileReader struct {
	dir string

	mu   sync.Mutex
	seen map[string]fileText // by absolute path
}

type fileText struct {
	text string
	err  error
}

func newFileReader(dir string) *fileReader {
	return &fileReader{dir: dir, seen: map[string]fileText{}}
}

// paths lists what was asked for, found or not.
func (f *fileReader) paths() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Sorted(maps.Keys(f.seen))
}

// read gives the text of a file inside the task directory. name is relative to
// the directory, or absolute and below it.
func (f *fileReader) read(name string) (string, error) {
	inside := name
	if filepath.IsAbs(name) {
		relative, err := filepath.Rel(f.dir, name)
		if err != nil {
			return "", fmt.Errorf("%q: %w", name, err)
		}
		inside = relative
	}
	if !filepath.IsLocal(inside) {
		return "", fmt.Errorf("%q lies outside the task directory; only files inside it are read", name)
	}
	path := filepath.Join(f.dir, inside)
	f.mu.Lock()
	defer f.mu.Unlock()
	if got, ok := f.seen[path]; ok {
		return got.text, got.err
	}
	if len(f.seen) >= maxReads {
		return "", fmt.Errorf("%q is not read: a task file may read %d files", name, maxReads)
	}
	text, err := readInside(f.dir, filepath.Clean(inside))
	if err != nil {
		err = explain(name, err)
	}
	f.seen[path] = fileText{text, err}
	return text, err
}

// readInside opens a file by way of its directory, so that no symlink leads
// out of it, whoever changes it meanwhile.
func readInside(dir, name string) (string, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return "", err
	}
	defer func() { _ = root.Close() }()
	// Looked at before it is opened: to open a device can already do something.
	info, err := root.Stat(name)
	if err != nil {
		return "", err
	}
	if !info.Mode().IsRegular() {
		return "", errors.New("not a regular file")
	}
	if info.Size() > maxText {
		return "", errTooLong
	}
	// It may have become a FIFO by now, for whose writer an open would wait.
	file, err := root.OpenFile(name, unwaitingFlags, 0)
	if err != nil {
		return "", err
	}
	defer func() { _ = file.Close() }()
	content, err := io.ReadAll(io.LimitReader(unwaiting{file}, maxText+1))
	if err != nil {
		return "", err
	}
	if len(content) > maxText {
		return "", errTooLong
	}
	if !utf8.Valid(content) {
		return "", errors.New("not UTF-8 text")
	}
	return string(content), nil
}

var errTooLong = fmt.Errorf("longer than %d bytes", maxText)

// explain says in one sentence why a file is not read.
func explain(name string, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("there is no file %q in the task directory", name)
	case strings.Contains(err.Error(), "escapes"):
		return fmt.Errorf("%q is a link that leads outside the task directory; only files inside it are read", name)
	}
	return fmt.Errorf("%q is not read: %w", name, err)
}
