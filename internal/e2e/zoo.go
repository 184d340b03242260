package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// maxTaskFile is the most that is read of a task file, in bytes.
const maxTaskFile = 1 << 20

// harmless are the files of the zoo that are only large: nothing is wrong with
// them.
var harmless = []string{"locals.hcl", "tasks-elsewhere.hcl"}

// Zoo drops into the task directory, all at once, everything that is known to
// be hard on a program that reads and evaluates files, and gives the names. Not
// one of the files holds a task that is wanted on this host. They go before the
// host is taken down: to read them all takes a while.
func (h *Host) Zoo() []string {
	h.t.Helper()
	cage := filepath.Join(h.Disks, "zoo")
	h.must(os.Mkdir(cage, 0o755))
	for name, text := range hostileTexts() {
		if len(text) > maxTaskFile {
			h.t.Fatalf("%s has %d bytes, more than are ever read", name, len(text))
		}
		h.must(os.WriteFile(filepath.Join(cage, name+".hcl"), []byte(text), 0o644))
	}
	h.must(os.WriteFile(filepath.Join(cage, "huge.hcl"), nil, 0o644))
	h.must(os.Truncate(filepath.Join(cage, "huge.hcl"), 100<<20))
	h.must(syscall.Mkfifo(filepath.Join(cage, "fifo.hcl"), 0o644))
	h.must(os.Mkdir(filepath.Join(cage, "directory.hcl"), 0o755))
	for name, target := range map[string]string{
		"zero": "/dev/zero", "full": "/dev/full", "terminal": "/dev/tty", "circle": "circle.hcl", "nowhere": "none.hcl", "to-fifo": "fifo.hcl",
		"memory": "/proc/self/mem", "kernel-log": "/proc/kmsg", "pages": "/proc/self/pagemap", "way-up": "..",
	} {
		h.must(os.Symlink(target, filepath.Join(cage, name+".hcl")))
	}
	entries, err := os.ReadDir(cage)
	h.must(err)
	var names []string
	h.t.Cleanup(func() { h.Cage(names) })
	for _, entry := range entries {
		h.must(os.Rename(filepath.Join(cage, entry.Name()), filepath.Join(h.VMs, entry.Name())))
		names = append(names, entry.Name())
	}
	return names
}

// Cage takes the files of the zoo away again.
func (h *Host) Cage(names []string) {
	h.t.Helper()
	for _, name := range names {
		h.must(remove(filepath.Join(h.VMs, name)))
	}
}

// hostileTexts are the files of the zoo that are text, by name. Nearly all of
// them are as large as a file may be.
func hostileTexts() map[string]string {
	long := `join("", [for i in range(1000) : "` + strings.Repeat("x", 100) + `"])`
	loop := "jsonencode(" + strings.Repeat("[for a in range(1000) : ", 20) + "1" + strings.Repeat("]", 20) + ")"
	texts := map[string]string{
		"crowd":            crowd("["),
		"crowded-heredoc":  inArgs("<<EOT\n" + crowd("x\n")[:maxTaskFile-200] + "EOT\n"),
		"crowded-comments": crowd("#\n"),
		"blocks":           fill("", "a {\n", ""),
		"brackets":         inArgs(fill("", "[", "")),
		"parentheses":      inArgs(fill("", "(", "")),
		"templates":        inArgs(fill("", `"${`, "")),
		"operators":        inArgs(fill("", "1+", "1")),
		"negations":        inArgs(fill("", "!", "true")),
		"conditions":       inArgs(fill("", "true ? 1 : ", "1")),
		"indices":          inArgs(fill("local.a", "[0]", "")),
		"splats":           inArgs(fill("local.a", ".*", "")),
		"directives":       inArgs(fill(`"`, "%{if true}", `"`)),
		"heredoc":          inArgs(fill("<<EOT\n", "x\n", "EOT\n")),
		"one-heredoc-line": inArgs("<<EOT\n" + crowd("x")[:maxTaskFile-200] + "\nEOT\n"),
		"words":            fill("", "a\n", ""),
		"nulls":            inArgs(fill("", "null,", "")),
		"unknown-words":    inArgs(fill("", "a,", "")),
		"unknown-calls":    inArgs(fill("", "f(),", "")),
		"calls":            inArgs(fill("", `upper("x"),`, "")),
		"double-keys":      inArgs(fill("{", "a=1,", "}")),
		"digits":           inArgs(crowd("9")[:maxTaskFile-200]),
		"quotes":           fill("", `"`, ""),
		"comments":         fill("", "#\n", "x"),
		"zeros":            crowd("\x00"),
		"not-text":         crowd("\xff\xfe"),
		"invisible":        "task \"a\u200bb\" {\n}\ntask \"\u202egnp.exe\" {\n}\nt\u0430sk \"c\" {\n}\n",
		"attributes":       "task \"attributes\" {\n" + lines(100_000, "a%d=1\n") + "}\n",
		"locals":           "locals {\n" + lines(90_000, "a%d=1\n") + "}\n",
		"chained-locals":   "locals {\n a0=1\n" + lines(40_000, "a%d=local.a0\n") + "}\n",
		"ports":            "task \"ports\" {\nresources {\nnetwork {\n" + lines(50_000, "port \"a%d\" {}\n") + "}\n}\n}\n",
		"faulty-tasks":     lines(50_000, "task \"t%d\" {\n}\n"),
		"tasks-elsewhere":  lines(14_000, "task \"t%d\" {\nhosts=[\"x\"]\nconfig {\nimage_path=\"/a\"\n}\n}\n"),
		"growing-loops":    inArgs("jsonencode([for a in [range(1000)] : " + strings.Repeat("[for a in [concat(a, a)] : ", 25) + "a" + strings.Repeat("]", 26) + ")"),
		"doubled":          "locals {\n a0=\"0123456789\"\n" + doubled(60) + "}\n" + inArgs("local.a60"),
		"numbers":          inArgs(`1e999999, "${"1e999999999" + 0}", format("%d", "1e600000000")`),
		"range":            inArgs("jsonencode(range(1e9))"),
		"wide-format":      inArgs(`format("%1000000000s", "x")`),
		"replace":          inArgs("replace(" + long + `, "x", ` + long + ")"),
		"join":             inArgs("join(" + long + `, [for i in range(1000) : "x"])`),
		"regex":            inArgs(`regex("` + strings.Repeat("(x+x+)+", 100) + `y", ` + long + ")"),
		"json-depth":       inArgs(fill(`jsondecode("`, "[", `")`)),
		"base64":           inArgs(fill(`base64decode(base64encode(base64encode("`, "A", `")))`)),
		"read-device":      inArgs(`file("zero.hcl"), file("fifo.hcl"), file("huge.hcl"), file("circle.hcl"), file("/dev/zero")`),
		"read-many":        inArgs(`jsonencode([for i in range(1000) : [for j in range(9) : file("${i}-${j}")]])`),
		"read-the-others":  inArgs(`jsonencode([for i in range(1000) : file("words.hcl")])`),
	}
	for i := range 10 { // small, and dear
		texts[fmt.Sprintf("loop%d", i)] = inArgs(loop)
	}
	return texts
}

// inArgs makes a task of which an expression is among the arguments of QEMU.
func inArgs(expression string) string {
	return "task \"a\" {\nconfig {\nimage_path=\"/a\"\nargs=[" + expression + "]\n}\n}\n"
}

// fill repeats a text, but not so often that the file is refused for the number
// of its words and signs alone.
func fill(before, text, after string) string {
	const maxTokens = 200_000
	return before + strings.Repeat(text, maxTokens/len(text)) + after
}

// crowd repeats a text as often as there is room for in a file.
func crowd(text string) string { return strings.Repeat(text, maxTaskFile/len(text)) }

// lines repeats a text with a number in it, n times or as often as there is
// room for in a file.
func lines(n int, format string) string {
	var b strings.Builder
	for i := 0; i < n && b.Len() < maxTaskFile-200; i++ {
		fmt.Fprintf(&b, format, i)
	}
	return b.String()
}

func doubled(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "a%d=\"${local.a%d}${local.a%d}\"\n", i+1, i, i)
	}
	return b.String()
}
