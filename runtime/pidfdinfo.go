package runtime

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// The first version of struct pidfd_info (linux/pidfd.h). Newer kernels take
// it as well, and golang.org/x/sys has it only in releases that need a newer Go
// than this module asks for.
const (
	pidfdInfoExit = 1 << 3
	// pidfdGetInfo is _IOWR(0xff, 11, struct of 64 bytes).
	pidfdGetInfo = 0xc040ff0b
)

type pidfdInfo struct {
	mask     uint64
	_        uint64     // cgroup
	_        [11]uint32 // ids of the process and its credentials
	exitCode int32
}

// exitStatus asks the kernel how the process behind a pidfd ended; known is
// false before it was reaped, and always on kernels before 6.15.
func exitStatus(fd int) (status WaitStatus, known bool) {
	info := pidfdInfo{mask: pidfdInfoExit}
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), pidfdGetInfo, uintptr(unsafe.Pointer(&info)))
	if errno != 0 || info.mask&pidfdInfoExit == 0 {
		return WaitStatus{}, false
	}
	return waitStatus(unix.WaitStatus(info.exitCode)), true
}
