package spec

import (
	"strings"
	"testing"

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
