package spec

import (
	"maps"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	invalidOption = regexp.MustCompile(`(-\S+): invalid option`)
	helpOption    = regexp.MustCompile(`(?m)^--?([A-Za-z][A-Za-z0-9_-]*)`)
)

// stopsAt gives the option that QEMU does not know: it says so before it does
// anything else.
func stopsAt(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command("qemu-system-x86_64", args...).CombinedOutput()
	found := invalidOption.FindSubmatch(out)
	if err == nil || found == nil {
		t.Fatalf("QEMU took %q: %v, %s", args, err, out)
	}
	return string(found[1])
}

// TestOptionsTakeValuesAsInQEMU asks the parser of the installed QEMU whether
// each option of the table takes the next word, and whether those of its help
// that are not in the table do not.
func TestOptionsTakeValuesAsInQEMU(t *testing.T) {
	left := slices.Sorted(maps.Keys(valueOptions))
	for total := len(left); ; {
		var args []string
		for _, name := range left {
			args = append(args, "-"+name, "-taken")
		}
		stop := strings.TrimPrefix(stopsAt(t, append(args, "-end")...), "-")
		if stop == "end" {
			t.Logf("%d of %d options are in this version", len(left), total)
			break
		}
		i := slices.Index(left, stop)
		if i < 0 {
			t.Fatalf("an option before %q does not take a value", stop)
		}
		left = slices.Delete(left, i, i+1) // of another version
	}
	help, err := exec.Command("qemu-system-x86_64", "-help").Output()
	if err != nil {
		t.Fatal(err)
	}
	checked := map[string]bool{}
	for _, found := range helpOption.FindAllSubmatch(help, -1) {
		name := string(found[1])
		if valueOptions[name] || checked[name] {
			continue
		}
		checked[name] = true
		if stop := stopsAt(t, "-"+name, "-one", "-two"); stop != "-one" {
			t.Errorf("-%s takes a value, and is not in the table (stopped at %s)", name, stop)
		}
	}
	if len(left) < 80 || len(checked) < 10 {
		t.Errorf("only %d options with a value and %d without were found", len(left), len(checked))
	}
}

func TestHasArgReadsAsQEMUDoes(t *testing.T) {
	task := &Task{Config: Config{Args: []string{"-append", "-serial", "--cpu", "max", "-device", "-S"}}}
	for option, want := range map[string]bool{"append": true, "cpu": true, "serial": false, "S": false, "device": true} {
		if task.HasArg(option) != want {
			t.Errorf("-%s: got %v", option, !want)
		}
	}
}
