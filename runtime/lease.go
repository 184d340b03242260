package runtime

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// Writing says whether somebody has the file open for writing, asked through a
// read lease, which the kernel refuses then (fcntl(2), F_SETLEASE). f must be
// open for reading only. known is false where leases do not exist (network file
// systems) or are not ours to take (another user's file, without CAP_LEASE).
//
// The lease is given back at once. A writer that comes just then is delayed by
// that moment and never sees an error.
func Writing(f *os.File) (busy, known bool) {
	raw, err := f.SyscallConn()
	if err != nil {
		return false, false
	}
	var leased error
	err = raw.Control(func(fd uintptr) {
		if _, leased = unix.FcntlInt(fd, unix.F_SETLEASE, unix.F_RDLCK); leased == nil {
			_, leased = unix.FcntlInt(fd, unix.F_SETLEASE, unix.F_UNLCK)
		}
	})
	if err != nil {
		return false, false
	}
	if errors.Is(leased, unix.EAGAIN) {
		return true, true
	}
	return false, leased == nil
}
