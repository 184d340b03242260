package guest

import (
	"bytes"
	"fmt"
)

// File types in the mode of a cpio entry (cpio(5), "New ASCII Format").
const (
	modeDirectory = 0o040000
	modeDevice    = 0o020000
	modeFile      = 0o100000
)

// archive builds a cpio archive in the "newc" format, the one that Linux
// unpacks as an initramfs (Documentation/driver-api/early-userspace/
// buffer-format.rst). Parents must be added before what is in them.
type archive struct {
	buffer bytes.Buffer
	inode  int
}

func (a *archive) directory(name string) { a.entry(name, modeDirectory|0o755, 0, 0, nil) }

func (a *archive) file(name string, mode int, data []byte) {
	a.entry(name, modeFile|mode, 0, 0, data)
}

func (a *archive) characterDevice(name string, major, minor int) {
	a.entry(name, modeDevice|0o600, major, minor, nil)
}

// bytes ends the archive and gives it.
func (a *archive) bytes() []byte {
	a.entry("TRAILER!!!", 0, 0, 0, nil)
	return a.buffer.Bytes()
}

// entry writes a header of 13 fields of eight hexadecimal digits, the name
// with a zero byte, and the data, the latter two padded to four bytes.
func (a *archive) entry(name string, mode, major, minor int, data []byte) {
	a.inode++
	const links, owner, group, modified, check = 1, 0, 0, 0, 0
	a.buffer.WriteString("070701")
	for _, field := range []int{a.inode, mode, owner, group, links, modified, len(data),
		0, 0, major, minor, len(name) + 1, check} {
		fmt.Fprintf(&a.buffer, "%08X", field)
	}
	a.buffer.WriteString(name + "\x00")
	a.pad()
	a.buffer.Write(data)
	a.pad()
}

func (a *archive) pad() {
	for a.buffer.Len()%4 != 0 {
		a.buffer.WriteByte(0)
	}
}
