package spec

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode"
)

// The terminal's escape sequences that Render uses with colour.
const (
	colourRed    = "\x1b[1;31m"
	colourYellow = "\x1b[1;33m"
	colourBold   = "\x1b[1m"
	colourOff    = "\x1b[0m"
)

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
	fmt.Fprintf(&b, "%s: %s: %s\n", paint(colourBold, printable(place)), severity, printable(d.Summary))
	if d.Line > 0 && d.Excerpt != "" {
		gutter := strconv.Itoa(d.Line)
		fmt.Fprintf(&b, "  %s | %s\n", gutter, printable(d.Excerpt))
		if marks := d.marks(); marks != "" {
			fmt.Fprintf(&b, "  %s | %s\n", strings.Repeat(" ", len(gutter)), paint(colourRed, marks))
		}
	}
	if d.Detail != "" {
		fmt.Fprintf(&b, "  %s\n", printable(d.Detail))
	}
	_, _ = io.WriteString(w, b.String())
}

// marks underlines the columns at fault. Tabs before them are kept, so that
// the marks stand below their text whatever a tab's width is; it is empty when
// the excerpt was cut before the column.
func (d Diagnostic) marks() string {
	var b strings.Builder
	column := 1
	for _, r := range d.Excerpt {
		if unicode.Is(unicode.Mn, r) || unicode.Is(unicode.Me, r) || unicode.Is(unicode.Cf, r) {
			continue // part of the character before it
		}
		if column >= max(d.EndColumn, d.Column+1) {
			break
		}
		switch {
		case column >= d.Column:
			b.WriteByte('^')
		case r == '\t':
			b.WriteByte('\t')
		default:
			b.WriteByte(' ')
		}
		column++
	}
	if column == d.Column {
		b.WriteByte('^') // just after the end of the line
	}
	if !strings.Contains(b.String(), "^") {
		return ""
	}
	return b.String()
}

// printable replaces what a terminal would obey rather than show.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if r == '\t' {
			return r
		}
		if unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) {
			return '\uFFFD'
		}
		return r
	}, text)
}
