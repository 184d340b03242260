package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// What `make install` puts where, and that the unit starts the program from
// where it was put.
func TestMakeInstall(t *testing.T) {
	for prefix, units := range map[string]string{"/usr": "/usr/lib/systemd/system", "/opt/vms": "/opt/vms/lib/systemd/system"} {
		dest := filepath.Join(t.TempDir(), "stage")
		cmd := exec.Command("make", "install", "DESTDIR="+dest, "PREFIX="+prefix)
		cmd.Dir = Root
		// The make that runs this test must not talk to this one.
		cmd.Env = slices.DeleteFunc(cmd.Environ(), func(v string) bool {
			return strings.HasPrefix(v, "MAKEFLAGS=") || strings.HasPrefix(v, "MAKELEVEL=") || strings.HasPrefix(v, "MFLAGS=")
		})
		if output, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("make install: %v\n%s", err, output)
		}
		if output, err := exec.Command(filepath.Join(dest, prefix, "bin", "qemu-reconciler"), "version").CombinedOutput(); err != nil || len(output) == 0 {
			t.Errorf("the installed program: %v %s", err, output)
		}
		unit, err := os.ReadFile(filepath.Join(dest, units, "qemu-reconciler.service"))
		if want := "\nExecStart=" + prefix + "/bin/qemu-reconciler run\n"; err != nil || !strings.Contains(string(unit), want) {
			t.Errorf("%v; the unit has no line %q:\n%s", err, want, unit)
		}
		tasks, err := os.ReadDir(filepath.Join(dest, "etc", "qemu-reconciler", "vms.d"))
		if err != nil || len(tasks) != 0 {
			t.Errorf("vms.d: %v, %v", err, tasks)
		}
		if _, err := os.Stat(filepath.Join(dest, "etc", "qemu-reconciler", "config.hcl.example")); err != nil {
			t.Error(err)
		}
	}
}
