package spec

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// TestHostile parses what would cost a naive parser its stack, its memory or
// hours; each must end in a diagnostic, and soon.
func TestHostile(t *testing.T) {
	const most = 20 // times an ordinary file; the slowest takes seven times as long
	ordinary := ordinaryFile()
	t.Logf("an ordinary file takes %v", ordinary)
	for name, src := range hostileFiles() {
		t.Run(name, func(t *testing.T) {
			if len(src) > 1<<20+100 {
				t.Fatalf("the case has %d bytes, more than are ever read", len(src))
			}
			var before, after runtime.MemStats
			var s *Source
			runtime.ReadMemStats(&before)
			took := took(func() { s = Parse("x.hcl", []byte(src), Env{Dir: "/", HostName: "h", HostArch: "x86_64"}) })
			runtime.ReadMemStats(&after)
			t.Logf("%v, %d MiB, %d errors", took.Round(time.Millisecond), (after.TotalAlloc-before.TotalAlloc)>>20, len(s.Errors))
			for _, d := range s.Errors[:min(len(s.Errors), 2)] {
				t.Logf("%d: %s: %s", d.Line, d.Summary, d.Detail[:min(len(d.Detail), 120)])
			}
			if len(s.Errors) == 0 {
				t.Error("no diagnostic")
			}
			if len(s.Errors) > maxMistakes+1 {
				t.Errorf("%d errors", len(s.Errors))
			}
			for _, d := range s.Errors {
				if d.Line == 0 || d.Summary == "" || d.Detail == "" || len(d.Excerpt) > maxExcerpt+4 {
					t.Fatalf("incomplete diagnostic: %+v", d)
				}
			}
			// Without bounds any of these takes minutes, or all memory.
			if took > most*ordinary {
				// The host may have become busy meanwhile.
				if ordinary = max(ordinary, ordinaryFile()); took > most*ordinary {
					t.Errorf("took %v, an ordinary file %v", took, ordinary)
				}
			}
		})
	}
}

// ordinaryFile is how long a thousand plain tasks take to parse.
func ordinaryFile() time.Duration {
	src := manyTasks(1000, "config {\n image_path = \"/a\"\n}\n")
	return took(func() { Parse("x.hcl", []byte(src), Env{Dir: "/", HostName: "h", HostArch: "x86_64"}) })
}

// hostileFiles are the cases of TestHostile by name.
func hostileFiles() map[string]string {
	// A quarter of what fits into a file is enough to tell bounded from
	// unbounded, and the race detector makes all of it slow.
	rep := func(text string, n int) string { return strings.Repeat(text, max(1, n/4)) }
	in := func(expr string) string {
		return "task \"a\" {\n config {\n image_path = \"/a\"\n args = [" + expr + "]\n }\n}\n"
	}
	locals := func(format string, n int) string {
		var b strings.Builder
		b.WriteString("locals {\n l0 = \"0123456789\"\n")
		for i := 1; i <= n; i++ {
			fmt.Fprintf(&b, strings.ReplaceAll(" l%[1]d = "+format+"\n", "PREV", "local.l%[2]d"), i, i-1)
		}
		return b.String() + "}\n" + in(fmt.Sprintf("jsonencode(local.l%d)", n))
	}
	return map[string]string{
		"brackets":         in(rep("[", 300_000)),
		"braces":           rep("a {\n", 100_000),
		"parens":           in(rep("(", 100_000) + "1" + rep(")", 100_000)),
		"templates":        in(rep(`"${`, 100_000)),
		"not":              in(rep("!", 300_000) + "true"),
		"minus":            in(rep("-", 300_000) + "1"),
		"plus":             in(rep("1+", 150_000) + "1"),
		"conditions":       in(rep("true ? 1 : ", 80_000) + "1"),
		"indices":          in("local.a" + rep("[0]", 100_000)),
		"computed indices": in("local.a" + rep("[local.b]", 60_000)),
		"splats":           in("local.a" + rep("[*]", 100_000)),
		"attribute splats": in("local.a" + rep(".*", 150_000)),
		"if directives":    in(`"` + rep("%{if true}", 80_000) + rep("%{endif}", 20_000) + `"`),
		"for directives":   in(`"` + rep("%{for a in [1,2]}", 20_000) + rep("%{endfor}", 20_000) + `"`),
		"long comments":    "a = (" + rep("! # x\n", 100_000) + "true)",
		"nested loops":     in("jsonencode(" + strings.Repeat("[for a in range(1000) : ", 20) + "1" + strings.Repeat("]", 20) + ")"),
		"growing loops":    in("jsonencode([for a in [range(1000)] : " + strings.Repeat("[for a in [concat(a, a)] : ", 25) + "a" + strings.Repeat("]", 26) + ")"),
		"doubled text":     locals(`"${PREV}${PREV}"`, 60),
		"doubled lists":    locals("[PREV, PREV]", 60),
		"doubled objects":  locals("{ a = PREV, b = PREV }", 60),
		"compared":         locals("PREV == PREV ? [PREV, PREV] : [PREV, PREV]", 60),
		"squared number":   "locals {\n n0 = 1e60\n" + numbers(60) + "}\n" + in(`"${local.n60}"`),
		"long chain":       locals("PREV", 20_000),
		"wide format":      in(`format("%1000000000s", "x")`),
		"deep precision":   in(`format("%.1000000000f", 1)`),
		"repeated format":  in(`format("` + rep("%[1]s", 100_000) + `", join("", [for i in range(1000) : "0123456789012345678901234567890123456789012345678901234567890123456789"]))`),
		"heredoc":          in("<<EOT\n" + rep("x\n", 390_000) + "EOT\n"),
		"replace":          in(`replace(` + long() + `, "x", ` + long() + `)`),
		"join":             in(`join(` + long() + `, [for i in range(1000) : "x"])`),
		"split":            in(`jsonencode(split("", ` + long() + `))`),
		"regex":            in(`regex("` + rep("(x+x+)+", 400) + `y", ` + long() + `)`),
		"regex repeats":    in(`regex("` + rep("x{1000}", 400) + `y", ` + long() + `)`),
		"trim":             in(`trim(` + long() + `, "é` + rep("à", 60_000) + `")`),
		"distinct":         in(`jsonencode(distinct([for i in range(1000) : [for j in range(9) : i]]))`),
		"json depth":       in(`jsondecode("` + rep("[", 60_000) + rep("]", 60_000) + `")`),
		"json number":      in(`jsondecode("1e999999999")`),
		"huge number":      in("1e999999999"),
		"text number":      in(`"${"1e999999999" + 0}"`),
		"unary number":     in(`"${-"1e999999999"}"`),
		"argument number":  in(`upper("1e999999999" * 1)`),
		"memory number":    "task \"a\" {\n config {\n image_path = \"/a\"\n }\n resources {\n memory = \"1e999999999\"\n }\n}\n",
		"format number":    in(`format("%d", "1e600000000")`),
		"ceil number":      in(`ceil("1e600000000")`),
		"modulo number":    in(`"1e600000000" % 7`),
		"negated number":   in(`-"1e600000000"`),
		"string number":    in(`tostring(tonumber("1e600000000"))`),
		"port number":      "task \"a\" {\n config {\n image_path = \"/a\"\n port_map = { a = \"1e600000000\", b = \"-1e600000000\", c = \"1e-600000000\" }\n }\n}\n",
		"large number":     "task \"a\" {\n config {\n image_path = \"/a\"\n }\n resources {\n memory = \"1e600000000\"\n cores = 1e-600000000\n }\n}\n",
		"many digits":      in(rep("9", 900_000)),
		"long word":        in(rep("a", 900_000)),
		"long words":       "locals {\n " + rep("a", 300_000) + " = 1\n}\n" + in("local."+rep("b", 300_000)),
		"long label":       "task \"" + rep("a", 900_000) + "\" {\n}\n",
		"one line":         in(rep("null,", 150_000)),
		"unknown words":    in(rep("a,", 150_000)),
		"unknown calls":    in(rep("f(),", 90_000)),
		"calls":            in(rep(`upper("x"),`, 40_000)),
		"many attributes":  "task \"a\" {\n" + manyAttributes(10_000) + "}\n",
		"many blocks":      "task \"a\" {\n" + rep("service {}\n", 50_000) + rep("servise {}\n", 30_000) + "}\n",
		"many tops":        rep("a {}\n", 90_000),
		"many tasks":       manyTasks(5_000, ""),
		"whole locals":     "locals {\n" + manyAttributes(12_000) + "}\n" + manyTasks(2_000, "state = keys(local)[0]\n"),
		"double keys":      in("{" + rep("a=1,", 90_000) + "}"),
		"many ports":       "task \"a\" {\n resources {\n network {\n" + rep("port \"a\" {}\n", 50_000) + "}\n}\n}\n",
		"many words":       strings.Repeat("a\n", 250_000),
		"zero bytes":       rep("\x00", 1<<20),
		"not text":         rep("\xff\xfe", 1<<19),
	}
}

func numbers(n int) string {
	var b strings.Builder
	for i := 1; i <= n; i++ {
		fmt.Fprintf(&b, " n%d = local.n%d * local.n%d\n", i, i-1, i-1)
	}
	return b.String()
}

func long() string {
	return `join("", [for i in range(1000) : "` + strings.Repeat("x", 100) + `"])`
}

func manyAttributes(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "stat%d = 1\n", i)
	}
	return b.String()
}

func manyTasks(n int, extra string) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "task \"t%d\" {\n%s}\n", i, extra)
	}
	return b.String()
}

// TestHostileSpares holds that one costly task does not spoil another.
func TestHostileSpares(t *testing.T) {
	loop := strings.Repeat("[for a in range(1000) : ", 4) + "1" + strings.Repeat("]", 4)
	src := "locals {\n bad = " + loop + "\n}\n" +
		"task \"bad\" {\n meta = { a = jsonencode(" + loop + ") }\n config { image_path = \"/a\" }\n}\n" +
		"task \"good\" {\n config { image_path = \"/a\" }\n}\n"
	s := Parse("x.hcl", []byte(src), Env{Dir: "/", HostName: "h", HostArch: "x86_64"})
	if len(s.Definitions) != 1 || s.Definitions[0].Task.Name != "good" {
		t.Errorf("definitions: %v", s.Definitions)
	}
	if len(s.Errors) != 2 || s.Errors[0].Line != 2 || s.Errors[1].Line != 5 || s.Errors[1].Task != "bad" {
		t.Errorf("errors: %v", s.Errors)
	}
}

// TestFileInside holds that file() never leaves the task directory, and never
// waits for a FIFO.
func TestFileInside(t *testing.T) {
	outside, dir := t.TempDir(), t.TempDir()
	write := func(path, text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	link := func(target, name string) {
		t.Helper()
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	write(filepath.Join(outside, "secret"), "secret")
	write(filepath.Join(dir, "plain"), "plain")
	write(filepath.Join(dir, "large"), strings.Repeat("x", maxText+1))
	write(filepath.Join(dir, "binary"), "\xff\x00")
	if err := os.Mkdir(filepath.Join(dir, "data"), 0o700); err != nil {
		t.Fatal(err)
	}
	write(filepath.Join(dir, "data", "inner"), "inner")
	link(filepath.Join(outside, "secret"), "absolute")
	link("../"+filepath.Base(outside)+"/secret", "relative")
	link(outside, "out")
	link("plain", "alias")
	link("data", "..data")
	tests := []struct{ name, want, err string }{
		{"plain", "plain", ""},
		{"./plain", "plain", ""},
		{filepath.Join(dir, "plain"), "plain", ""},
		{"alias", "plain", ""},
		{"..data/inner", "inner", ""},
		{"absolute", "", "outside the task directory"},
		{"relative", "", "outside the task directory"},
		{"out/secret", "", "outside the task directory"},
		{"../" + filepath.Base(outside) + "/secret", "", "outside the task directory"},
		{filepath.Join(outside, "secret"), "", "outside the task directory"},
		{"data/../../x", "", "outside the task directory"},
		{"", "", "outside the task directory"},
		{"data", "", "not a regular file"},
		{"large", "", "longer than"},
		{"binary", "", "not UTF-8"},
		{"none", "", "there is no file"},
	}
	reader := newFileReader(dir)
	for _, tt := range tests {
		got, err := reader.read(tt.name)
		if got != tt.want || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("file(%q) = %q, %v; want %q, %q", tt.name, got, err, tt.want, tt.err)
		}
	}
	inside := reader.paths()
	for i := range 2 * maxReads {
		_, err := reader.read(fmt.Sprintf("none%d", i))
		if crowded := strings.Contains(err.Error(), "may read"); crowded != (i >= maxReads-len(inside)) {
			t.Errorf("%d: %v", i, err)
		}
	}
	for _, path := range reader.paths() {
		if !strings.HasPrefix(path, dir+"/") {
			t.Errorf("%s is listed as read", path)
		}
	}
}
