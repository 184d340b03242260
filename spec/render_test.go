package spec

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

func TestRender(t *testing.T) {
	at := func(column, end int, excerpt string) Diagnostic {
		return Diagnostic{Severity: SeverityError, File: "a.hcl", Position: Position{Line: 7, Column: column}, EndColumn: end,
			Summary: "wrong", Detail: "mend it", Excerpt: excerpt}
	}
	tests := []struct {
		name   string
		d      Diagnostic
		colour bool
		want   string
	}{
		{"word", at(3, 6, "x bad y"), false, "a.hcl:7:3: error: wrong\n  7 | x bad y\n    |   ^^^\n  mend it\n"},
		{"tab", at(2, 5, "\tbad"), false, "a.hcl:7:2: error: wrong\n  7 | \tbad\n    | \t^^^\n  mend it\n"},
		{"no end", at(3, 0, "x bad"), false, "a.hcl:7:3: error: wrong\n  7 | x bad\n    |   ^\n  mend it\n"},
		{"end of line", at(4, 0, "bad"), false, "a.hcl:7:4: error: wrong\n  7 | bad\n    |    ^\n  mend it\n"},
		{"combining", at(3, 4, "e\u0301 x"), false, "a.hcl:7:3: error: wrong\n  7 | e\u0301 x\n    |   ^\n  mend it\n"},
		{"cut", at(90, 95, "bad"), false, "a.hcl:7:90: error: wrong\n  7 | bad\n  mend it\n"},
		{"escapes", at(1, 2, "\x1b[31m\r\u202e"), false, "a.hcl:7:1: error: wrong\n  7 | \uFFFD[31m\uFFFD\uFFFD\n    | ^\n  mend it\n"},
		{"name of a file", Diagnostic{File: "a\nb.hcl", Summary: "odd"}, false, "a\uFFFDb.hcl: error: odd\n"},
		{"file", Diagnostic{Severity: SeverityWarning, File: "a.hcl", Summary: "odd"}, false, "a.hcl: warning: odd\n"},
		{"colour", at(1, 2, "x"), true, "\x1b[1ma.hcl:7:1\x1b[0m: \x1b[1;31merror\x1b[0m: wrong\n  7 | x\n    | \x1b[1;31m^\x1b[0m\n  mend it\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var b strings.Builder
			tt.d.Render(&b, tt.colour)
			if diff := cmp.Diff(tt.want, b.String()); diff != "" {
				t.Errorf("want -, got +\n%s", diff)
			}
		})
	}
}

// TestRenderFits puts the mistake anywhere in a line of any length: nothing is
// wider than 78 columns, and the marks stand below the word at fault.
func TestRenderFits(t *testing.T) {
	for _, indent := range []string{"", "\t\t", "    "} {
		for before := range 150 {
			line := indent + strings.Repeat("ä", before) + "WRONG" + strings.Repeat("z", 150-before)
			column := len(indent) + before + 1
			d := Diagnostic{Severity: SeverityError, File: "a.hcl", Position: Position{Line: 120, Column: column}, EndColumn: column + 5,
				Summary: "wrong", Excerpt: line, Detail: strings.Repeat("twelve chars ", 20)}
			var b strings.Builder
			d.Render(&b, false)
			lines := strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
			for _, l := range lines {
				if width := utf8.RuneCountInString(l) + 7*strings.Count(l, "\t"); width > 78 {
					t.Fatalf("%d columns: %s", width, l)
				}
			}
			text, marks := []rune(lines[1]), lines[2]
			at := strings.Index(marks, "^^^^^")
			if at < 0 || string(text[at:at+5]) != "WRONG" || strings.TrimLeft(marks, " |\t") != "^^^^^" {
				t.Fatalf("the marks are beside the word:\n%s", b.String())
			}
		}
	}
}

// TestRenderNeverBreaksAWord holds that a path can be copied out of a detail.
func TestRenderNeverBreaksAWord(t *testing.T) {
	path := "/srv/" + strings.Repeat("deep/", 30) + "disk.img"
	var b strings.Builder
	Diagnostic{File: "a.hcl", Summary: "gone", Detail: "There is no file " + path + " here."}.Render(&b, false)
	if want := "a.hcl: error: gone\n  There is no file\n  " + path + "\n  here.\n"; b.String() != want {
		t.Errorf("got %q", b.String())
	}
}
