package spec

import (
	"bytes"
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"golang.org/x/tools/txtar"

	"path/filepath"
)

// FuzzParse holds what is true of every file, whatever is in it: no panic, no
// task with an error, every diagnostic complete, and every sound task within
// what the runtime relies on.
func FuzzParse(f *testing.F) {
	cases, err := filepath.Glob("testdata/parse/*.txtar")
	if err != nil {
		f.Fatal(err)
	}
	for _, path := range cases {
		archive, err := txtar.ParseFile(path)
		if err != nil {
			f.Fatal(err)
		}
		for _, file := range archive.Files {
			if file.Name == "task.hcl" {
				f.Add(file.Data)
			}
		}
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, src []byte) {
		if len(src) > 1<<20 {
			return // never read
		}
		env := Env{Dir: dir, HostName: "h.example.org", HostArch: "x86_64", Crashed: func(_ string, reason any, stack []byte) {
			t.Errorf("panic: %v\n%s", reason, stack)
		}}
		s := Parse("x.hcl", src, env)
		for _, d := range slices.Concat(s.Errors, s.Warnings) {
			checkDiagnostic(t, d)
			checkPlace(t, d, src)
			if d.Severity == SeverityError && d.Task != "" && !slices.Contains(s.Faulty, d.Task) {
				t.Errorf("task %q has an error and is not faulty: %v", d.Task, d)
			}
		}
		again := Parse("x.hcl", src, env)
		if !slices.Equal(s.Errors, again.Errors) || !slices.Equal(s.Warnings, again.Warnings) || !slices.Equal(s.Faulty, again.Faulty) {
			t.Errorf("parsed again: %v, %v", s.Errors, again.Errors)
		}
		names := map[string]bool{}
		for i, d := range s.Definitions {
			if i < len(again.Definitions) && !reflect.DeepEqual(d.Task, again.Definitions[i].Task) {
				t.Errorf("another task: %+v, %+v", d.Task, again.Definitions[i].Task)
			}
			if names[d.Task.Name] {
				t.Errorf("task %q is defined twice", d.Task.Name)
			}
			names[d.Task.Name] = true
			checkSound(t, d.Task)
			ports := map[string]int{}
			for i, label := range d.Task.Dynamic() {
				ports[label] = 20000 + i
			}
			bound, diags := d.Bind(ports)
			for _, d := range diags {
				checkDiagnostic(t, d)
			}
			if (bound == nil) != (len(diags) > 0) {
				t.Errorf("Bind gave %v with %v", bound, diags)
			}
			if bound != nil {
				checkSound(t, bound)
			}
		}
		for _, name := range s.Faulty {
			if names[name] {
				t.Errorf("task %q is faulty and sound", name)
			}
		}
		if len(s.Definitions)+len(s.Errors) == 0 && len(s.Faulty) > 0 {
			t.Error("faulty tasks without an error")
		}
	})
}

func checkDiagnostic(t *testing.T, d Diagnostic) {
	t.Helper()
	if d.File == "" || d.Line < 1 || d.Column < 1 || d.Summary == "" || d.Detail == "" || !utf8.ValidString(d.Excerpt) {
		t.Errorf("incomplete diagnostic %+v", d)
	}
}

// checkPlace holds that a diagnostic is inside the file, that its excerpt is
// the line it is on, and that it can be shown on a terminal.
func checkPlace(t *testing.T, d Diagnostic, src []byte) {
	t.Helper()
	lines := strings.Split(string(src), "\n")
	if d.Line > len(lines) {
		t.Errorf("line %d of %d: %v", d.Line, len(lines), d)
		return
	}
	line := lines[d.Line-1]
	if d.Column > utf8.RuneCountInString(line)+1 || d.EndColumn > utf8.RuneCountInString(line)+2 || d.EndColumn != 0 && d.EndColumn <= d.Column {
		t.Errorf("columns %d to %d of %q: %v", d.Column, d.EndColumn, line, d)
	}
	if utf8.Valid(src) && !strings.HasPrefix(line, d.Excerpt) {
		t.Errorf("excerpt %q of %q", d.Excerpt, line)
	}
	var shown bytes.Buffer
	d.Render(&shown, false)
	for _, r := range shown.String() {
		if r != '\n' && r != '\t' && (unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r)) {
			t.Errorf("%q in %q", r, shown.String())
		}
	}
}

func checkSound(t *testing.T, task *Task) {
	t.Helper()
	text, err := json.Marshal(task)
	if err != nil {
		t.Fatal(err)
	}
	var back Task
	if err := json.Unmarshal(text, &back); err != nil {
		t.Fatalf("task does not read back: %v", err)
	}
	again, err := json.Marshal(&back)
	if err != nil || !reflect.DeepEqual(text, again) {
		t.Errorf("task changes in a record: %s, %s, %v", text, again, err)
	}
	r := task.Resources
	if r.MemoryMiB < minMemoryMiB || r.MemoryMiB > maxMemoryMiB || r.Cores < 1 {
		t.Errorf("out of bounds: %s", text)
	}
	if task.KillTimeout <= 0 || task.Restart.Interval <= 0 || task.Restart.Delay <= 0 || task.Restart.MaxDelay < task.Restart.Delay {
		t.Errorf("durations: %s", text)
	}
	if task.Config.ImagePath == "" || task.Config.ImagePath[0] != '/' {
		t.Errorf("image_path: %s", text)
	}
	for _, passed := range append([]string{task.Name, task.Config.ImagePath, task.Config.Emulator, task.Config.MachineType,
		task.Config.Accelerator}, task.Config.Args...) {
		for _, r := range passed {
			if unicode.IsControl(r) && r != '\t' {
				t.Errorf("control character: %q", passed)
			}
		}
	}
}
