package spec

import (
	"bytes"
	"strings"

	"github.com/hashicorp/hcl/v2"
)

// maxExcerpt bounds the source line kept with a diagnostic, in bytes: a file
// without newlines must not be repeated by each of its mistakes.
const maxExcerpt = 400

// maxLookBack is how far the beginning of a line is looked for, in bytes.
const maxLookBack = 16 << 10

// convertDiagnostics turns what HCL found into diagnostics of this program.
// file is the path to show, src the bytes that the ranges count in.
func convertDiagnostics(found hcl.Diagnostics, file string, src []byte) []Diagnostic {
	out := make([]Diagnostic, 0, len(found))
	for i, d := range found {
		if i > maxMistakes {
			break // more than are listed
		}
		severity := SeverityError
		if d.Severity == hcl.DiagWarning {
			severity = SeverityWarning
		}
		diagnostic := Diagnostic{Severity: severity, File: file, Summary: oneLine(d.Summary), Detail: oneLine(d.Detail)}
		if d.Subject != nil {
			locate(&diagnostic, *d.Subject, src)
		}
		out = append(out, diagnostic)
	}
	return out
}

// locate fills in where a diagnostic is, with its excerpt.
func locate(d *Diagnostic, at hcl.Range, src []byte) {
	d.Line, d.Column = at.Start.Line, at.Start.Column
	if at.End.Line == at.Start.Line && at.End.Column > at.Start.Column {
		d.EndColumn = at.End.Column
	}
	if d.Excerpt = sourceLine(src, at.Start.Byte); envWord.MatchString(d.Excerpt) {
		d.hideExcerpt()
	}
}

// sourceLine is the line of src around a byte offset, cut to maxExcerpt.
func sourceLine(src []byte, offset int) string {
	if offset < 0 || offset > len(src) {
		return ""
	}
	near := max(0, offset-maxLookBack)
	start := near + bytes.LastIndexByte(src[near:offset], '\n') + 1
	if start == near && near > 0 {
		return "" // so long a line has no use as an excerpt
	}
	line, _, _ := bytes.Cut(src[start:min(len(src), start+maxExcerpt+1)], []byte("\n"))
	line = bytes.TrimSuffix(line, []byte("\r"))
	if len(line) > maxExcerpt {
		// Half a character at the cut is dropped.
		return strings.ToValidUTF8(string(line[:maxExcerpt]), "")
	}
	return strings.ToValidUTF8(string(line), "\uFFFD")
}

// maxSentence bounds what a diagnostic says, in bytes: names in it come out of
// the file and may be of any length.
const maxSentence = 1000

// oneLine folds the line breaks of HCL's longer texts.
func oneLine(text string) string {
	if len(text) > maxSentence {
		text = strings.ToValidUTF8(text[:maxSentence], "") + "…"
	}
	return strings.Join(strings.Fields(text), " ")
}
