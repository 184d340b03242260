package e2e

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
)

// mountSmall puts a small file system over a directory until all that uses it has
// ended; no size, no mount.
func (h *Host) mountSmall(dir, size string) {
	h.t.Helper()
	if size == "" {
		return
	}
	h.must(os.MkdirAll(dir, 0o700))
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		h.t.Skipf("not tried without the right to mount: a full %s directory: %v", filepath.Base(dir), err)
	}
	h.t.Cleanup(func() {
		// The kernel takes down a process step by step: its files are the last.
		h.Await("end of all use of "+dir, func() bool { return syscall.Unmount(dir, 0) == nil })
	})
}

// filler is the file that takes all the room.
const filler = "filler"

// Fill leaves no room in a directory's file system, also when a file that the
// daemon writes in vain goes away after it.
func (h *Host) Fill(dir string) {
	h.t.Helper()
	h.Await("no room in "+dir, func() bool {
		h.fill(dir)
		var room unix.Statfs_t
		idle := !h.writing(dir)
		h.must(unix.Statfs(dir, &room))
		return idle && room.Bfree == 0 && !h.writing(dir)
	})
}

func (h *Host) fill(dir string) {
	h.t.Helper()
	file, err := os.OpenFile(filepath.Join(dir, filler), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	h.must(err)
	for block := make([]byte, 4096); err == nil; {
		_, err = file.Write(block)
	}
	if !errors.Is(err, syscall.ENOSPC) && !errors.Is(err, io.ErrShortWrite) {
		h.must(err)
	}
	h.must(file.Close())
}

// writing says whether a file is on its way to its name. A blank that is not has
// something in it.
func (h *Host) writing(dir string) bool {
	h.t.Helper()
	find := func(pattern string) []string {
		found, err := filepath.Glob(filepath.Join(dir, pattern))
		h.must(err)
		return found
	}
	empty := func(path string) bool {
		info, err := os.Stat(path)
		return err == nil && info.Size() == 0
	}
	return len(find(".*"))+len(find("tasks/.*")) > 0 || slices.ContainsFunc(find("blanks/*"), empty)
}

// MakeRoom takes away what Fill has put there.
func (h *Host) MakeRoom(dir string) {
	h.t.Helper()
	h.must(os.Remove(filepath.Join(dir, filler)))
}
