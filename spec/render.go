package spec

import (
	"fmt"
	"io"
	"strconv"
	"strings"
)

// The terminal's escape sequences that Render uses with colour.
const (
	colourRed    = "\x1b[1;31m"
	colourYellow = "\x1b[1;33m"
	colourBold   = "\x1b[1m"
	colourOff    = "\x1b[0m"
)

// renderWidth is what Render fits excerpts and details into, in columns: a
// little less than the narrowest terminal in use.
const renderWidth = 78

// Render writes a diagnostic for people:
//
//	web.hcl:3:5: error: summary
//	  3 |     memroy = 512
//	    |     ^^^^^^
//	  detail
//
// Whatever stands in the file, no control character of it reaches w. An error
// of w is not reported.
func (d Diagnostic) Render(w io.Writer, colour bool) {
	paint := func(code, text string) string {
		if !colour {
			return text
		}
		return code + text + colourOff
	}
	severity := paint(colourRed, string(SeverityError))
	if d.Severity == SeverityWarning {
		severity = paint(colourYellow, string(SeverityWarning))
	}
	place := d.File
	if d.Line > 0 {
		place = fmt.Sprintf("%s:%d:%d", d.File, d.Line, d.Column)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s: %s\n", paint(colourBold, onOneLine(place)), severity, onOneLine(d.Summary))
	if d.Line > 0 && d.Excerpt != "" {
		gutter := strconv.Itoa(d.Line)
		text, marks := d.excerpt(renderWidth - len("   | ") - len(gutter))
		fmt.Fprintf(&b, "  %s | %s\n", gutter, text)
		if marks != "" {
			fmt.Fprintf(&b, "  %s | %s\n", strings.Repeat(" ", len(gutter)), paint(colourRed, marks))
		}
	}
	for _, line := range Wrap(Printable(d.Detail), renderWidth-2) {
		fmt.Fprintf(&b, "  %s\n", line)
	}
	_, _ = io.WriteString(w, b.String())
}

// onOneLine is Printable for what must not take a second line, such as the
// name of a file, in which anything can be.
func onOneLine(text string) string {
	return strings.ReplaceAll(Printable(text), "\n", "\uFFFD")
}
