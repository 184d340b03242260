package arch

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/qemu-reconciler/qemu-reconciler/spec"
)

// everyWord are the attributes and blocks of a task file that work today.
var everyWord = strings.Fields(`
	driver state hosts on_change on_remove kill_timeout uuid env meta
	config image_path image_format accelerator args graceful_shutdown guest_agent emulator machine_type drive_interface port_map
	resources memory cores network port static host_ip protocols
	restart on attempts interval delay max_delay mode`)

func TestExamplesAreValid(t *testing.T) {
	set := spec.NewLoader(spec.LoaderOptions{Dir: filepath.Join(root, "examples", "vms.d"), HostName: "host", HostArch: "x86_64"}).Load()
	if set.Err != nil {
		t.Fatal(set.Err)
	}
	for _, file := range set.Files {
		for _, d := range append(file.Errors, file.Warnings...) {
			t.Errorf("%s: %s: %s", d.Severity, d, d.Detail)
		}
	}
	var names []string
	for _, d := range set.Definitions {
		names = append(names, d.Task.Name)
	}
	if diff := cmp.Diff([]string{"db", "every-attribute", "tiny", "web"}, names); diff != "" {
		t.Errorf("the examples' tasks (-want +got):\n%s", diff)
	}
}

func TestOneExampleUsesEveryAttribute(t *testing.T) {
	text := readFile(t, "examples", "vms.d", "every-attribute.hcl")
	code := regexp.MustCompile(`(?m)#.*$`).ReplaceAllString(text, "")
	for _, word := range everyWord {
		if !regexp.MustCompile(`(?m)^\s*` + word + `\s*("[^"]*"\s*)?[={]`).MatchString(code) {
			t.Errorf("every-attribute.hcl does not use %s", word)
		}
	}
}

// The example of config.hcl has every default in a comment: taken out of it,
// they must be what the program takes when nothing is said.
func TestExampleConfigTellsTheDefaults(t *testing.T) {
	text := readFile(t, "packaging", "config.hcl.example")
	said := regexp.MustCompile(`(?m)^# (\w+ += )`).ReplaceAllString(text, "$1")
	path := filepath.Join(t.TempDir(), "config.hcl")
	if err := os.WriteFile(path, []byte(said), 0o644); err != nil {
		t.Fatal(err)
	}
	got, diagnostics := spec.LoadConfig(path, true)
	for _, d := range diagnostics {
		t.Errorf("%s: %s", d, d.Detail)
	}
	want := spec.DefaultConfig()
	want.HostName = "node1.example.org"
	want.Dirs = spec.Dirs{VMs: "/etc/qemu-reconciler/vms.d", State: "/var/lib/qemu-reconciler", Run: "/run/qemu-reconciler"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("config.hcl.example (-default +said):\n%s", diff)
	}
	if got := strings.Count(said, " = "); got < 8 {
		t.Errorf("only %d keys were looked at", got)
	}
}

func readFile(t *testing.T, path ...string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(append([]string{root}, path...)...))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
