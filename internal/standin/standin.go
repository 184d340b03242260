package standin

import (
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// Emulator is the name of the program that Build makes: that of the emulator for
// which it stands in, so that the daemon finds it on a PATH that begins with its
// directory.
const Emulator = "qemu-system-x86_64"

//go:embed qemu/standin.c
var source []byte

// Build compiles the stand-in into dir and gives its path. It needs a C
// compiler, as the race detector does: cc, or what the variable CC names. A
// static program takes a third of the memory of a dynamic one; it is dynamic
// where the C library cannot be linked otherwise.
func Build(dir string) (path string, err error) {
	compiler := os.Getenv("CC")
	if compiler == "" {
		compiler = "cc"
	}
	if compiler, err = exec.LookPath(compiler); err != nil {
		return "", fmt.Errorf("the stand-in for QEMU needs a C compiler: %w", err)
	}
	text := filepath.Join(dir, "standin.c")
	if err := os.WriteFile(text, source, 0o644); err != nil {
		return "", err
	}
	path = filepath.Join(dir, Emulator)
	static := exec.Command(compiler, "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-O2", "-static", "-o", path, text)
	words, err := static.CombinedOutput()
	if err == nil {
		return path, nil
	}
	dynamic := exec.Command(compiler, "-std=gnu11", "-O2", "-o", path, text)
	if more, again := dynamic.CombinedOutput(); again != nil {
		return "", errors.Join(fmt.Errorf("compile the stand-in for QEMU: %w\n%s", err, words), fmt.Errorf("%w\n%s", again, more))
	}
	return path, nil
}
