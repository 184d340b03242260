package spec

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"syscall"
)

// maxFileSize is what a task file may have, in bytes.
const maxFileSize = 1 << 20

// unwaitingFlags open a file for reading, and wait for nobody if it is a FIFO.
const unwaitingFlags = os.O_RDONLY | syscall.O_NONBLOCK | syscall.O_NOCTTY

// errVanished says that a file is not there any more; errWriting that somebody
// is in the middle of writing it.
var (
	errVanished = errors.New("vanished")
	errWriting  = errors.New("being written")
)

// stamp tells one content of a file from another without reading it. The zero
// stamp is that of a file that is not there. Times are nanoseconds since 1970.
type stamp struct {
	dev, ino     uint64
	mode         uint32
	size         int64
	mtime, ctime int64
}

// fileProblem says why a file is not read. It is an operator's mistake, not
// the machine's.
type fileProblem struct{ summary, detail string }

func (p *fileProblem) Error() string { return p.summary + ": " + p.detail }

// diagnostic makes the problem one of the file as a whole.
func (p *fileProblem) diagnostic(file string) Diagnostic {
	return Diagnostic{Severity: SeverityError, File: file, Summary: p.summary, Detail: p.detail}
}

// isTaskFile goes by the name alone: editors' and rsync's temporary files
// begin with a dot or a hash.
func isTaskFile(name string) bool {
	return strings.HasSuffix(name, ".hcl") && !strings.HasPrefix(name, ".") && !strings.HasPrefix(name, "#")
}

// listDir gives the names of the task files in dir, sorted, the stamp that dir
// had before, and when it was born, as asked.
func listDir(dir string, ask func(*os.File) int64) (names []string, at stamp, born int64, err error) {
	// A FIFO in the directory's place must not block the open.
	f, err := os.OpenFile(dir, os.O_RDONLY|syscall.O_DIRECTORY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, stamp{}, 0, err
	}
	defer f.Close()
	if at, err = fstat(f); err != nil {
		return nil, stamp{}, 0, err
	}
	all, err := f.Readdirnames(-1)
	if err != nil {
		return nil, stamp{}, 0, err
	}
	names = slices.DeleteFunc(all, func(name string) bool { return !isTaskFile(name) })
	slices.Sort(names)
	return names, at, ask(f), nil
}

// statFile follows symlinks. It does not go through os.Stat, which allocates:
// a pass does this for every file there is.
func statFile(path string) (stamp, error) {
	var st syscall.Stat_t
	if err := uninterrupted(func() error { return syscall.Stat(path, &st) }); err != nil {
		return stamp{}, err
	}
	return newStamp(&st), nil
}

func newStamp(st *syscall.Stat_t) stamp {
	return stamp{
		dev: uint64(st.Dev), ino: st.Ino, mode: st.Mode, size: st.Size,
		mtime: st.Mtim.Nano(), ctime: st.Ctim.Nano(),
	}
}

// uninterrupted repeats a system call that a signal interrupted.
func uninterrupted(call func() error) error {
	for {
		if err := call(); !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
}

// readFile reads a task file and gives the stamp of what was read. settled is
// asked, when it is not nil, before a byte is read. The error is a
// *fileProblem, errVanished or errWriting.
func readFile(path string, settled func(*os.File, stamp) bool) ([]byte, stamp, error) {
	// A look before the open, since to open a device can already do something;
	// and one after it, since the name may lead elsewhere by then.
	before, err := statFile(path)
	if err != nil {
		return nil, stamp{}, statProblem(path, err)
	}
	if err := before.problem(); err != nil {
		return nil, stamp{}, err
	}
	f, err := os.OpenFile(path, unwaitingFlags, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, stamp{}, errVanished
	}
	if err != nil {
		return nil, stamp{}, unreadable(err)
	}
	defer f.Close()
	opened, err := fstat(f)
	if err != nil {
		return nil, stamp{}, unreadable(err)
	}
	if err := opened.problem(); err != nil {
		return nil, stamp{}, err
	}
	if settled != nil && !settled(f, opened) {
		return nil, stamp{}, errWriting
	}
	return readOpen(f, opened)
}

// readOpen reads a file that has been found to be a regular one, and makes
// sure that it stayed the same meanwhile.
func readOpen(f *os.File, opened stamp) ([]byte, stamp, error) {
	src, err := io.ReadAll(io.LimitReader(unwaiting{f}, maxFileSize+1))
	if err != nil {
		return nil, stamp{}, unreadable(err)
	}
	after, err := fstat(f)
	if err != nil {
		return nil, stamp{}, unreadable(err)
	}
	// A rename or an unlink changes the ctime and nothing that was read.
	if after.size != opened.size || after.mtime != opened.mtime {
		return nil, stamp{}, errWriting
	}
	// Files in /proc say that they are empty.
	if len(src) > maxFileSize {
		return nil, stamp{}, tooLarge(len(src))
	}
	return src, opened, nil
}

// unwaiting reads what is there now. Some files of /proc say that they are
// regular ones, and have whoever reads them wait for more (/proc/kmsg).
type unwaiting struct{ file *os.File }

// Read implements io.Reader.
func (r unwaiting) Read(p []byte) (n int, err error) {
	failed := descriptor(r.file, func(fd int) error {
		n, err = syscall.Read(fd, p)
		return err
	})
	switch {
	case failed != nil:
		return 0, failed
	case n == 0 && len(p) > 0:
		return 0, io.EOF
	}
	return n, nil
}

func fstat(f *os.File) (stamp, error) {
	var st syscall.Stat_t
	if err := descriptor(f, func(fd int) error { return syscall.Fstat(fd, &st) }); err != nil {
		return stamp{}, err
	}
	return newStamp(&st), nil
}

// descriptor makes a system call on an open file. File.Fd would make the file
// one that is waited for.
func descriptor(f *os.File, call func(fd int) error) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	if err := raw.Control(func(fd uintptr) {
		failed = uninterrupted(func() error { return call(int(fd)) })
	}); err != nil {
		return err
	}
	return failed
}

// problem says why a file with this stamp is never read; nil when it may be.
func (s stamp) problem() error {
	kind := ""
	switch s.mode & syscall.S_IFMT {
	case syscall.S_IFREG:
	case syscall.S_IFDIR:
		kind = "a directory"
	case syscall.S_IFIFO:
		kind = "a FIFO"
	case syscall.S_IFSOCK:
		kind = "a socket"
	default:
		kind = "a device"
	}
	if kind != "" {
		return &fileProblem{"Not a regular file", "This is " + kind + ", which is never read: put a regular file here, or a symlink to one, or use another name."}
	}
	if s.size > maxFileSize {
		return tooLarge(s.size)
	}
	return nil
}

func tooLarge[N int | int64](bytes N) error {
	return &fileProblem{"File too large", fmt.Sprintf("This file has %d bytes or more; at most %d (1 MiB) are allowed.", bytes, maxFileSize)}
}

// statProblem tells a file that vanished from a symlink that leads nowhere.
func statProblem(path string, err error) error {
	if !errors.Is(err, fs.ErrNotExist) {
		return unreadable(err)
	}
	target, linkErr := os.Readlink(path)
	if linkErr != nil {
		return errVanished
	}
	return &fileProblem{"Dangling symlink", fmt.Sprintf("This symlink points to %q, which does not exist.", target)}
}

// unreadable leaves the path out of the error: the diagnostic names the file.
func unreadable(err error) error {
	if path := (*fs.PathError)(nil); errors.As(err, &path) {
		err = path.Err
	}
	return &fileProblem{"Cannot read file", fmt.Sprintf("It exists and cannot be read: %v.", err)}
}
