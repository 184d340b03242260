package spec

import "fmt"

// Severity tells an error, which keeps a definition from being applied, from a
// warning, which changes nothing but is shown.
type Severity string

// The severities.
const (
	SeverityError   Severity = "error"
	SeverityWarning Severity = "warning"
)

// Position is a place in a file; lines and columns count from 1, columns in
// characters. Zero means the file as a whole.
type Position struct {
	Line   int `json:"line"`
	Column int `json:"column"`
}

// Diagnostic is one mistake of an operator: where it is, what is wrong, and in
// Detail what would be right.
type Diagnostic struct {
	Severity Severity `json:"-"`
	// File is the path relative to the task directory.
	File string `json:"-"`
	Position
	// EndColumn is the column after the last character at fault when that is
	// on the same line; zero otherwise.
	EndColumn int    `json:"end_column,omitempty"`
	Summary   string `json:"summary"`
	Detail    string `json:"detail"`
	// Excerpt is the source line at Position, without its newline.
	Excerpt string `json:"excerpt,omitempty"`
	// Task names the task at fault, or is empty when the file as a whole is.
	Task string `json:"task,omitempty"`
}

// Error makes a Diagnostic usable as an error: "file:line:column: summary".
func (d Diagnostic) Error() string {
	if d.Line == 0 {
		return fmt.Sprintf("%s: %s", d.File, d.Summary)
	}
	return fmt.Sprintf("%s:%d:%d: %s", d.File, d.Line, d.Column, d.Summary)
}
