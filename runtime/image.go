package runtime

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"regexp"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qemu-reconciler/qemu-reconciler/spec"
)

// The image formats that a task may have.
const (
	formatRaw   = "raw"
	formatQcow2 = "qcow2"
	formatVMDK  = "vmdk"
	formatVDI   = "vdi"
	formatVHDX  = "vhdx"
	formatVPC   = "vpc"
	formatQED   = "qed"
)

// headSize covers the furthest magic number, that of VDI at byte 64, and the
// comments that may precede the version in a VMDK's text descriptor.
const headSize = 2048

// headPatience is how long an image may have its reader wait, if it is a file
// that does such a thing.
const headPatience = time.Second

// vmdkText is a VMDK that is a text file, as QEMU recognises it: the first line
// that is neither blank nor a comment gives a version that it knows.
var vmdkText = regexp.MustCompile(`\A(?:#[^\n]*\n|\s*\n)*version=[123]\r?\n`)

// DetectFormat tells the format of a disk image by its magic number, as QEMU
// would for a name without a format, and identifies the file. Nothing that the
// image refers to is opened, and nothing that is no image blocks. What has no
// magic number is raw, a fixed-size VHD too: its header is a footer.
func DetectFormat(path string) (string, spec.ImageInfo, error) {
	f, info, err := openImage(path)
	if err != nil {
		return "", spec.ImageInfo{}, err
	}
	defer f.Close()
	head, err := readHead(f)
	if err != nil {
		return "", spec.ImageInfo{}, fmt.Errorf("image %s cannot be read: %w", path, plainPathError(err))
	}
	format, err := formatOf(head)
	if err != nil {
		return "", spec.ImageInfo{}, fmt.Errorf("image %s %w", path, err)
	}
	return format, info, nil
}

// readHead reads the first bytes of an image, or fewer if it has no more.
func readHead(f *os.File) ([]byte, error) {
	// One that says it is a regular file may still have its readers wait
	// (/proc/kmsg). The others know no deadlines.
	_ = f.SetReadDeadline(time.Now().Add(headPatience))
	head := make([]byte, headSize)
	n, err := io.ReadFull(f, head)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = nil
	}
	return head[:n], err
}

// formatOf judges the first bytes of an image.
func formatOf(head []byte) (string, error) {
	magic := func(offset int, text string) bool {
		return len(head) >= offset+len(text) && string(head[offset:offset+len(text)]) == text
	}
	switch {
	case magic(0, "QFI\xfb") && len(head) >= 8:
		if version := binary.BigEndian.Uint32(head[4:]); version != 2 && version != 3 {
			return "", fmt.Errorf("is a QEMU copy-on-write image of version %d; convert it with `qemu-img convert -O qcow2`", version)
		}
		return formatQcow2, nil
	case magic(0, "KDMV"), magic(0, "COWD"), bytes.HasPrefix(head, []byte("#")) && vmdkText.Match(head):
		return formatVMDK, nil
	case magic(64, "\x7f\x10\xda\xbe"):
		return formatVDI, nil
	case magic(0, "vhdxfile"):
		return formatVHDX, nil
	case magic(0, "conectix"):
		return formatVPC, nil
	case magic(0, "QED\x00"):
		return formatQED, nil
	}
	return formatRaw, nil
}

// openImage opens a regular file or block device for reading. Anything else is
// refused before it is opened, since opening a device or a FIFO can act.
func openImage(path string) (*os.File, spec.ImageInfo, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, spec.ImageInfo{}, imageError(path, err)
	}
	if err := imageKind(path, info.Mode()); err != nil {
		return nil, spec.ImageInfo{}, err
	}
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, spec.ImageInfo{}, imageError(path, err)
	}
	// Looked at again: the path may lead elsewhere by now.
	var stat unix.Stat_t
	info, err = f.Stat()
	if err == nil {
		err = imageKind(path, info.Mode())
	}
	if err == nil {
		err = fstat(f, &stat)
	}
	if err != nil {
		f.Close()
		return nil, spec.ImageInfo{}, err
	}
	return f, spec.ImageInfo{Device: stat.Dev, Inode: stat.Ino, BlockDevice: info.Mode()&fs.ModeDevice != 0}, nil
}

// imageKind refuses what is neither a regular file nor a block device.
func imageKind(path string, mode fs.FileMode) error {
	kind := ""
	switch {
	case mode.IsRegular():
	case mode.IsDir():
		kind = "directory"
	case mode&fs.ModeNamedPipe != 0:
		kind = "FIFO"
	case mode&fs.ModeSocket != 0:
		kind = "socket"
	case mode&fs.ModeCharDevice != 0:
		kind = "character device"
	case mode&fs.ModeDevice != 0: // a block device
	default:
		kind = "special file"
	}
	if kind == "" {
		return nil
	}
	return fmt.Errorf("image %s is a %s; a regular file or a block device is needed", path, kind)
}

// imageError is the one sentence an operator reads.
func imageError(path string, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("image %s does not exist", path)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("image %s may not be opened by this user", path)
	}
	return fmt.Errorf("image %s cannot be opened: %w", path, plainPathError(err))
}

// plainPathError drops operation and path, which the sentence around it has.
func plainPathError(err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	return err
}

func fstat(f *os.File, stat *unix.Stat_t) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	if err := raw.Control(func(fd uintptr) { failed = unix.Fstat(int(fd), stat) }); err != nil {
		return err
	}
	return failed
}
