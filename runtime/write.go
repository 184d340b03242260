package runtime

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/qemu-reconciler/qemu-reconciler/internal/crash"
)

// replace writes a record that the disk is not waited for.
func (s *Store) replace(path string, raw []byte) error {
	s.turns <- struct{}{}
	defer func() { <-s.turns }()
	if s.blanks.replace(path, raw) {
		return nil
	}
	return s.create(path, raw, nil)
}

// create writes a new file and gives it its name, which a sync of the directory
// brings to the disk. Copies always are new ones: what a power cut must spare is left
// alone until its successor has its name.
func (s *Store) create(path string, raw []byte, sync func(*os.File) error) error {
	temporary, err := s.stage(path, raw, sync)
	if err != nil {
		return err
	}
	return place(temporary, path)
}

// stage writes what is to be at a path into a new file beside it.
func (s *Store) stage(path string, raw []byte, sync func(*os.File) error) (temporary string, err error) {
	file, err := os.CreateTemp(filepath.Dir(path), temporaryPrefix+filepath.Base(path)+"-*")
	if err != nil {
		return "", named(path, err)
	}
	return file.Name(), fill(file, path, raw, sync)
}

// fill writes what is to be at a path into a file that is no longer than that, has
// it synced if there is something to do that, and closes it. After an error the file
// is gone.
func fill(file *os.File, path string, raw []byte, sync func(*os.File) error) (err error) {
	defer func() {
		if err != nil {
			os.Remove(file.Name())
			err = named(path, err)
		}
	}()
	crash.Point("record.created")
	err = file.Chmod(0o600) // whatever the umask took
	if err == nil {
		crash.Midway("record.half", func() { _, err = file.Write(raw[:len(raw)/2]) })
		_, err = file.Write(raw)
	}
	crash.Point("record.written")
	if err == nil && sync != nil {
		err = sync(file)
	}
	if closed := file.Close(); err == nil {
		err = closed
	}
	if err == nil {
		crash.Point("record.ready")
	}
	return err
}

// place gives a staged file its name.
func place(temporary, path string) error {
	err := os.Rename(temporary, path)
	if err != nil {
		os.Remove(temporary)
	}
	return named(path, err)
}

// named has an error tell of the path: the temporary name is another each time
// and tells nobody anything.
func named(path string, err error) error {
	if other := (*fs.PathError)(nil); errors.As(err, &other) {
		other.Path = path
	}
	return err
}
