package runtime

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/qemu-reconciler/qemu-reconciler/spec"
)

// findEmulator looks for a program by name on PATH. The error says how to get
// it.
func findEmulator(name string) (string, error) {
	if name != filepath.Base(name) {
		return "", fmt.Errorf("emulator %q is not a program's name", name)
	}
	path, err := exec.LookPath(name)
	if err == nil {
		path, err = filepath.Abs(path)
	}
	switch {
	case err == nil:
		return path, nil
	case errors.Is(err, exec.ErrNotFound), errors.Is(err, fs.ErrNotExist):
		return "", fmt.Errorf("emulator %s is not installed; it comes with %s", name, packageOf(name))
	}
	return "", fmt.Errorf("emulator %s cannot be used: %w", name, err)
}

// packageOf names the package of Debian and Ubuntu that has an emulator; other
// distributions call theirs alike.
func packageOf(name string) string {
	arch := strings.TrimPrefix(name, spec.EmulatorPrefix)
	for _, family := range []struct{ prefix, pkg string }{
		{"x86_64", "x86"}, {"i386", "x86"}, {"aarch64", "arm"}, {"arm", "arm"},
		{"ppc", "ppc"}, {"mips", "mips"}, {"sparc", "sparc"},
	} {
		if strings.HasPrefix(arch, family.prefix) {
			return "the package qemu-system-" + family.pkg
		}
	}
	return "the package qemu-system-misc or qemu-system-" + arch
}

func isProgram(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}

// globEscape keeps what is special to a glob in a directory's name literal.
func globEscape(dir string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(dir)
}

func stampOf(path string) (stamp, error) {
	info, err := os.Stat(path)
	if err != nil {
		return stamp{}, plainPathError(err)
	}
	s := stamp{Path: path, Size: info.Size(), Mtime: info.ModTime().UnixNano()}
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		s.Device, s.Inode = stat.Dev, stat.Ino
	}
	return s, nil
}
