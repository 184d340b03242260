package spec

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"
)

var update = flag.Bool("update", false, "write what Parse gives into testdata/parse, to be read before it is kept")

// TestParse runs testdata/parse/*.txtar. In each, task.hcl is parsed with the
// other files beside it; want holds the diagnostics as they are shown, and for
// every sound task the fields that are not those of the smallest task there
// is. A line "bind LABEL=PORT …" before the files binds the tasks first, a
// line "host NAME" names the host, and "arch NAME" its machine.
func TestParse(t *testing.T) {
	cases, err := filepath.Glob("testdata/parse/*.txtar")
	if err != nil || len(cases) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	for _, path := range cases {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(path)
			if err != nil {
				t.Fatal(err)
			}
			got := parseCase(t, archive)
			i := slices.IndexFunc(archive.Files, func(f txtar.File) bool { return f.Name == "want" })
			if *update {
				if i < 0 {
					archive.Files = append(archive.Files, txtar.File{Name: "want"})
					i = len(archive.Files) - 1
				}
				archive.Files[i].Data = []byte(got)
				if err := os.WriteFile(path, txtar.Format(archive), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if i < 0 {
				t.Fatal("the case has no want")
			}
			if diff := cmp.Diff(string(archive.Files[i].Data), got); diff != "" {
				t.Errorf("want -, got +\n%s", diff)
			}
		})
	}
}

func parseCase(t *testing.T, archive *txtar.Archive) string {
	t.Helper()
	dir := t.TempDir()
	var src []byte
	for _, f := range archive.Files {
		switch f.Name {
		case "task.hcl":
			src = f.Data
		case "want":
		default:
			if err := os.WriteFile(filepath.Join(dir, f.Name), f.Data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	env := Env{Dir: dir, HostName: "host.example.org", HostArch: "x86_64"}
	var ports map[string]int
	for _, line := range strings.Split(string(archive.Comment), "\n") {
		words := strings.Fields(line)
		switch {
		case len(words) == 2 && words[0] == "host":
			env.HostName = words[1]
		case len(words) == 2 && words[0] == "arch":
			env.HostArch = words[1]
		case len(words) > 0 && words[0] == "bind":
			ports = map[string]int{}
			for _, word := range words[1:] {
				var label string
				var port int
				if _, err := fmt.Sscanf(strings.Replace(word, "=", " ", 1), "%s %d", &label, &port); err != nil {
					t.Fatal(err)
				}
				ports[label] = port
			}
		}
	}
	return strings.ReplaceAll(describe(t, Parse("task.hcl", src, env), ports), dir, "DIR")
}

// describe writes a source out as a case wants it.
func describe(t *testing.T, s *Source, ports map[string]int) string {
	t.Helper()
	var b strings.Builder
	for _, d := range slices.Concat(s.Errors, s.Warnings) {
		d.Render(&b, false)
		if d.Task != "" {
			fmt.Fprintf(&b, "  in task %s\n", d.Task)
		}
	}
	if len(s.Faulty) > 0 {
		fmt.Fprintf(&b, "faulty: %s\n", strings.Join(s.Faulty, " "))
	}
	for _, path := range s.Reads() {
		fmt.Fprintf(&b, "reads: %s\n", path)
	}
	least := smallestTask(t)
	for _, d := range s.Definitions {
		task := d.Task
		if ports != nil {
			var diags []Diagnostic
			if task, diags = d.Bind(ports); len(diags) > 0 {
				for _, d := range diags {
					d.Render(&b, false)
				}
				continue
			}
		}
		fmt.Fprintf(&b, "task %s", task.Name)
		if !d.Here {
			b.WriteString(" (not here)")
		}
		b.WriteString("\n")
		fields := flatten(t, task)
		for _, field := range sortedKeys(fields) {
			if fields[field] != least[field] && field != "name" {
				fmt.Fprintf(&b, "  %s = %s\n", field, fields[field])
			}
		}
	}
	return b.String()
}

func smallestTask(t *testing.T) map[string]string {
	t.Helper()
	s := Parse("x.hcl", []byte("task \"x\" {\n config { image_path = \"/x\" }\n}"), Env{Dir: "/", HostName: "h", HostArch: "x86_64"})
	if len(s.Definitions) != 1 {
		t.Fatalf("the smallest task is not sound: %v", s.Errors)
	}
	return flatten(t, s.Definitions[0].Task)
}

// flatten gives the fields of a task by path, as JSON.
func flatten(t *testing.T, task *Task) map[string]string {
	t.Helper()
	text, err := json.Marshal(task)
	if err != nil {
		t.Fatal(err)
	}
	var object map[string]any
	if err := json.Unmarshal(text, &object); err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	var walk func(path string, v any)
	walk = func(path string, v any) {
		if object, ok := v.(map[string]any); ok {
			for key, inner := range object {
				walk(join(path, key), inner)
			}
			return
		}
		text, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		out[path] = string(text)
	}
	walk("", object)
	return out
}

// TestSmallestTask holds the defaults of the contract.
func TestSmallestTask(t *testing.T) {
	s := Parse("x.hcl", []byte("task \"x\" {\n config { image_path = \"disk.img\" }\n}"), Env{Dir: "/etc/vms.d", HostName: "h", HostArch: "x86_64"})
	if len(s.Errors)+len(s.Warnings) > 0 || len(s.Definitions) != 1 {
		t.Fatalf("errors %v, warnings %v", s.Errors, s.Warnings)
	}
	want := &Task{
		Name: "x", State: "running", OnChange: "restart", OnRemove: "stop", KillTimeout: Duration(time.Minute),
		Config: Config{ImagePath: "/etc/vms.d/disk.img", Accelerator: "tcg", Emulator: "qemu-system-x86_64",
			MachineType: "pc", DriveInterface: "ide"},
		Resources: Resources{MemoryMiB: 512, Cores: 1},
		Restart: Restart{On: "always", Interval: Duration(10 * time.Minute), Delay: Duration(time.Second),
			MaxDelay: Duration(time.Minute), Mode: "delay"},
	}
	if diff := cmp.Diff(want, s.Definitions[0].Task); diff != "" {
		t.Errorf("want -, got +\n%s", diff)
	}
}

// What a file that does not parse says of tasks is known by name alone.
func TestMentioned(t *testing.T) {
	for name, test := range map[string]struct {
		src  string
		want []string
	}{
		"a brace is missing":  {"task \"b\" {\n}\n  task   \"a.1\" {\n", []string{"a.1", "b"}},
		"a job":               {"job \"j\" {\n group \"g\" {\n  task \"web\" {}\n }\n}\n", []string{"web"}},
		"a comment, a string": {"# task \"no\" {\nlocals {\n x = \"task \\\"no\\\"\"\n", nil},
		"a hostile name":      {"task \"../x\" {\n", nil},
		"an error of a task":  {"task \"a\" {\n nonsense = 1\n}\n", nil},
	} {
		t.Run(name, func(t *testing.T) {
			if got := Parse("x.hcl", []byte(test.src), Env{Dir: t.TempDir()}).Mentioned; !slices.Equal(got, test.want) {
				t.Errorf("mentioned %q, want %q", got, test.want)
			}
		})
	}
}
