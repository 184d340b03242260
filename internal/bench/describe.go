package bench

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	goruntime "runtime"
	"strings"
	"syscall"
	"testing"
)

// describeHost says on what it is measured.
func describeHost(t testing.TB) map[string]string {
	t.Helper()
	var uname syscall.Utsname
	if err := syscall.Uname(&uname); err != nil {
		t.Fatal(err)
	}
	var release []byte
	for _, c := range uname.Release {
		release = append(release, byte(c))
	}
	version, err := exec.Command("qemu-system-x86_64", "--version").Output()
	if err != nil {
		t.Fatal(err)
	}
	line, _, _ := strings.Cut(string(version), "\n")
	kernel, _, _ := strings.Cut(string(bytes.TrimRight(release, "\x00")), "-") // what follows is whose build it is
	facts := map[string]string{
		"cpus": fmt.Sprint(goruntime.NumCPU()), "kernel": kernel, "qemu": line, "go": goruntime.Version(),
		"state on": fileSystem(os.TempDir()), "run directory on": fileSystem(os.TempDir()),
	}
	if model := cpuModel(); model != "" {
		facts["cpus"] += " of " + model
	}
	if _, err := os.Stat(memoryDisk); err == nil {
		facts["run directory on"] = fileSystem(memoryDisk)
	}
	return facts
}

// cpuModel is empty where the kernel does not name it, as on some architectures.
func cpuModel() string {
	text, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return ""
	}
	_, rest, _ := strings.Cut(string(text), "\nmodel name\t: ")
	model, _, _ := strings.Cut(rest, "\n")
	return model
}

// fileSystem is the type of the one on which a directory is.
func fileSystem(dir string) string {
	out, err := exec.Command("df", "--output=fstype", dir).Output()
	if words := strings.Fields(string(out)); err == nil && len(words) == 2 {
		return words[1]
	}
	return "an unknown file system"
}
