package runtime

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/coreos/go-semver/semver"
	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/go-hclog"
)

func newTestFingerprint(cacheFile string) *Fingerprint {
	return NewFingerprint(cacheFile, hclog.NewNullLogger())
}

// onPath makes a directory of programs the whole PATH and gives its path. Each
// program is a shell script.
func onPath(t *testing.T, programs map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, script := range programs {
		must(t, os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+script), 0o755))
	}
	t.Setenv("PATH", dir)
	return dir
}

// counted is the real emulator, which notes each of its runs in a file.
func counted(t *testing.T) (script string, runs func() int) {
	t.Helper()
	qemu, err := exec.LookPath("qemu-system-x86_64")
	must(t, err)
	path := filepath.Join(t.TempDir(), "runs")
	runs = func() int {
		raw, err := os.ReadFile(path)
		must(t, err)
		return strings.Count(string(raw), "x")
	}
	return fmt.Sprintf("echo x >> %s\nexec %s \"$@\"\n", path, qemu), runs
}

// oldQEMU is what no host of a test has: an emulator of another version. It
// answers the first two commands, and ends.
func oldQEMU(major, minor int) string {
	return fmt.Sprintf(`
greet='{"QMP":{"version":{"qemu":{"major":%[1]d,"minor":%[2]d,"micro":0},"package":""},"capabilities":[]}}'
printf '%%s\r\n' "$greet" >&3
answer() {
	read -r line <&3
	id=${line#*\"id\":\"}
	printf '{"return":%%s,"id":"%%s"}\r\n' "$1" "${id%%%%\"*}" >&3
}
answer '{}'
answer '{"qemu":{"major":%[1]d,"minor":%[2]d,"micro":0},"package":""}'
read -r quit <&3
`, major, minor)
}

func TestFingerprintRealEmulator(t *testing.T) {
	t.Parallel()
	f := newTestFingerprint("")
	const name = "qemu-system-x86_64"
	if !slices.Contains(f.Emulators(), name) {
		t.Fatalf("emulators: %v", f.Emulators())
	}
	info, err := f.Emulator(name)
	must(t, err)
	if !slices.Contains(info.Accelerators, "tcg") || slices.Contains(info.Accelerators, "accel") {
		t.Errorf("accelerators: %v", info.Accelerators)
	}
	for _, machine := range []string{"pc", "q35", "none", "microvm"} {
		if !slices.Contains(info.MachineTypes, machine) {
			t.Errorf("no machine %s among %v", machine, info.MachineTypes)
		}
	}
	features, path, err := f.Features(name)
	must(t, err)
	out, err := exec.Command(path, "--version").Output()
	must(t, err)
	if !strings.Contains(string(out), info.Version) || features.Version.String() != info.Version {
		t.Errorf("version %s and %s; it says %s", info.Version, features.Version, out)
	}
	help, err := exec.Command(path, "-help").Output()
	must(t, err)
	if built := strings.Contains(string(help), "\n-sandbox on"); features.Sandbox != built {
		t.Errorf("sandbox %v; its help says %v", features.Sandbox, built)
	}
}

// TestFingerprintAsksOnce: each binary is run once, however many ask, and not
// again in a later life of the daemon unless it changed.
func TestFingerprintAsksOnce(t *testing.T) {
	script, runs := counted(t)
	dir := onPath(t, map[string]string{"qemu-system-x86_64": script})
	cache := filepath.Join(t.TempDir(), "emulators.json")
	f := newTestFingerprint(cache)
	var group sync.WaitGroup
	for range 16 {
		group.Go(func() {
			if _, err := f.Emulator("qemu-system-x86_64"); err != nil {
				t.Error(err)
			}
			if _, _, err := f.Features("qemu-system-x86_64"); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	first, err := f.Emulator("qemu-system-x86_64")
	must(t, err)
	second, err := newTestFingerprint(cache).Emulator("qemu-system-x86_64")
	must(t, err)
	if diff := cmp.Diff(first, second); diff != "" {
		t.Errorf("from the cache (-asked +cached):\n%s", diff)
	}
	if got := runs(); got != 1 {
		t.Errorf("%d runs", got)
	}
	must(t, os.WriteFile(filepath.Join(dir, "qemu-system-x86_64"), []byte("#!/bin/sh\n# upgraded\n"+script), 0o755))
	for range 2 {
		if _, err := f.Emulator("qemu-system-x86_64"); err != nil {
			t.Error(err)
		}
		f = newTestFingerprint(cache)
	}
	if got := runs(); got != 2 {
		t.Errorf("%d runs after an upgrade", got)
	}
}

func TestFingerprintCacheIsNoNeed(t *testing.T) {
	script, runs := counted(t)
	onPath(t, map[string]string{"qemu-system-x86_64": script})
	dir := t.TempDir()
	for i, content := range []string{"", "{", `{"version":99,"emulators":[]}`, "null", `{"version":1,"emulators":[{}]}`} {
		cache := filepath.Join(dir, itoa(i))
		must(t, os.WriteFile(cache, []byte(content), 0o600))
		if _, err := newTestFingerprint(cache).Emulator("qemu-system-x86_64"); err != nil {
			t.Errorf("cache %q: %v", content, err)
		}
		if got := runs(); got != i+1 {
			t.Errorf("cache %q: %d runs", content, got)
		}
	}
	missing := filepath.Join(dir, "missing", "emulators.json")
	if _, err := newTestFingerprint(missing).Emulator("qemu-system-x86_64"); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Dir(missing)); !os.IsNotExist(err) {
		t.Errorf("a directory was made: %v", err)
	}
}

func TestFingerprintRefuses(t *testing.T) {
	dir := onPath(t, map[string]string{
		"qemu-system-old":    oldQEMU(5, 1),
		"qemu-system-broken": "echo broken: no such library >&2\nexit 127\n",
		"qemu-system-silent": "exit 3\n",
		"qemu-system-mute":   "exec 3>&-\n",
	})
	must(t, os.WriteFile(filepath.Join(dir, "qemu-system-plain"), nil, 0o644))
	must(t, os.Mkdir(filepath.Join(dir, "qemu-system-dir"), 0o755))
	f := newTestFingerprint("")
	want := []string{"qemu-system-broken", "qemu-system-mute", "qemu-system-old", "qemu-system-silent"}
	if diff := cmp.Diff(want, f.Emulators()); diff != "" {
		t.Errorf("emulators:\n%s", diff)
	}
	for name, says := range map[string]string{
		"qemu-system-old":     "is version 5.1.0; QEMU 5.2.0 or later is needed",
		"qemu-system-broken":  "broken: no such library",
		"qemu-system-silent":  "exit status 3",
		"qemu-system-mute":    "does not answer",
		"qemu-system-aarch64": "is not installed; it comes with the package qemu-system-arm",
		"qemu-system-hppa":    "qemu-system-misc",
		"qemu-system-plain":   "is not installed",
		"../qemu-system-old":  "is not a program's name",
	} {
		_, err := f.Emulator(name)
		_, _, again := f.Features(name)
		if err == nil || again == nil || !strings.Contains(err.Error(), says) || again.Error() != err.Error() {
			t.Errorf("%s: %v; %v", name, err, again)
		} else if strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: not one sentence: %q", name, err)
		}
	}
}

// TestProbeLeavesNothing: what a wrapper script began ends with the probe,
// whether the emulator answered, did not, or gave nonsense.
func TestProbeLeavesNothing(t *testing.T) {
	qemu, err := exec.LookPath("qemu-system-x86_64")
	must(t, err)
	sleep, err := exec.LookPath("sleep")
	must(t, err)
	for name, rest := range map[string]string{
		"qemu-system-answers": "exec " + qemu + ` "$@"`,
		"qemu-system-closes":  "exec 3>&-\nwait",
		"qemu-system-lies":    "echo nonsense >&3\nwait",
	} {
		mark := filepath.Join(t.TempDir(), "helper")
		onPath(t, map[string]string{name: fmt.Sprintf("%s 600 3>&- &\necho $! > %s\n%s\n", sleep, mark, rest)})
		if _, err := newTestFingerprint("").Emulator(name); (err == nil) != (name == "qemu-system-answers") {
			t.Errorf("%s: %v", name, err)
		}
		raw, err := os.ReadFile(mark)
		must(t, err)
		pid, err := strconv.Atoi(strings.TrimSpace(string(raw)))
		must(t, err)
		eventually(t, name+": its helper is gone", func() error {
			if argv := cmdline(pid); len(argv) > 0 { // a zombie has none
				return fmt.Errorf("%d runs: %q", pid, argv)
			}
			return nil
		})
	}
}

func TestFingerprintImage(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "disk.img")
	must(t, os.WriteFile(path, nil, 0o600))
	f := newTestFingerprint("")
	info, err := f.Image(path)
	must(t, err)
	if _, same, err := DetectFormat(path); err != nil || same != info {
		t.Errorf("%+v and %+v, %v", info, same, err)
	}
	if _, err := f.Image("/dev/null"); err == nil {
		t.Error("/dev/null is no image")
	}
}

func TestJudge(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		version string
		sandbox bool
		refused bool
	}{
		{"5.1.99", true, true},
		{"5.2.0", false, false},
		{"5.2.0", true, false},
		{"7.2.22", true, false},
		{"10.0.0", false, false},
	} {
		got, err := judge(*semver.New(c.version), map[string]bool{"sandbox": c.sandbox, "drive": true})
		if (err != nil) != c.refused || err == nil && (got.Sandbox != c.sandbox || got.Version.String() != c.version) {
			t.Errorf("%+v: %+v, %v", c, got, err)
		}
	}
}
