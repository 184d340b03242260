package spec

import (
	"bytes"
	"cmp"
	"fmt"
	"runtime/debug"
	"slices"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// maxMistakes bounds the errors and the warnings that are listed for a file.
const maxMistakes = 200

// Env is what a task file may know besides its own bytes.
type Env struct {
	// Dir is the absolute path of the task directory: relative image paths
	// are joined to it, and file() reads inside it.
	Dir string
	// HostName is the host's name, in full.
	HostName string
	// HostArch is the machine as uname says it, e.g. "x86_64" or "aarch64".
	HostArch string
	// Crashed is told when a bug made the parse of a file panic: the file has
	// an error for it, and all others are none the worse. Nil tells nobody.
	Crashed func(file string, reason any, stack []byte)
}

func (e Env) crashed(file string, reason any) {
	if e.Crashed != nil {
		e.Crashed(file, reason, debug.Stack())
	}
}

// Source is one parsed file: its sound tasks, and what is wrong with the rest.
type Source struct {
	// Path is the path that was given to Parse.
	Path string
	// Definitions are the sound tasks, in the order of the file.
	Definitions []*Definition
	// Errors and Warnings are sorted by position.
	Errors, Warnings []Diagnostic
	// Faulty names the tasks that have an error of their own, sorted. It is
	// empty when the file as a whole could not be parsed.
	Faulty []string
	// Mentioned is that of File.
	Mentioned []string

	files *fileReader
}

// Reads lists the absolute paths of the files that the file's expressions
// read (also those that are missing), sorted: when one of them changes, the
// file is to be parsed again.
func (s *Source) Reads() []string { return s.files.paths() }

// Diagnose makes an error about one field of the task, placed where the field
// is written. field is the path in the file, e.g. "config.image_path",
// "config.args.3" or "resources.network.port.ssh.static"; what is not written
// there falls back to the block around it, and at last to the task's label.
func (d *Definition) Diagnose(field, summary, detail string) Diagnostic {
	return d.places.diagnose(d.Task.Name, field, summary, detail)
}

// Parse turns the bytes of one task file into checked tasks. path is relative
// to the task directory and only shown. It reads nothing but what the file()
// function of an expression asks for. It never panics, and what the file may
// cost is bounded: a hostile one is refused in well under a second.
func Parse(path string, src []byte, env Env) *Source {
	return parseMetered(path, src, env, &meter{fileSteps: maxFileSteps})
}

func parseMetered(path string, src []byte, env Env, m *meter) *Source {
	defer func() { m.dear = nil }() // what Bind evaluates later waits for nobody
	reader := newFileReader(env.Dir)
	s := &Source{Path: path, files: reader}
	calls := functions(reader)
	p := &parser{source: s, file: &file{path: path, src: src, env: env, functions: calls, meter: m, locals: newLocals(m, calls, env)}}
	p.parse()
	slices.SortStableFunc(s.Errors, byPosition)
	slices.SortStableFunc(s.Warnings, byPosition)
	s.Errors, s.Warnings = slices.Compact(s.Errors), slices.Compact(s.Warnings)
	slices.Sort(s.Faulty)
	s.Faulty = slices.Compact(s.Faulty)
	if wholly(s.Errors) {
		s.Mentioned = mentions(src)
	}
	return s
}

func byPosition(a, b Diagnostic) int {
	return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column), cmp.Compare(a.Summary, b.Summary))
}

// parser is the way through one file.
type parser struct {
	source *Source
	file   *file
	tasks  []*hclsyntax.Block
}

// parse goes from the bytes to tasks. A panic of the libraries underneath is
// one more mistake of the file, and spoils no other.
func (p *parser) parse() {
	defer func() {
		if reason := recover(); reason != nil {
			p.file.env.crashed(p.file.path, reason)
			p.source.Definitions, p.source.Faulty = nil, nil
			p.report(crashedSource(p.file.path, reason).Errors)
		}
	}()
	if len(bytes.TrimSpace(p.file.src)) == 0 {
		p.whole(hcl.Range{Start: hcl.InitialPos, End: hcl.InitialPos}, "File is empty",
			"An empty file may be one that is half written, so nothing is removed for it. Remove the file, or leave a comment in it.")
		return
	}
	if found := guard(p.file.src, p.file.path); found != nil {
		p.unparsed(hcl.Diagnostics{found})
		return
	}
	parsed, diags := hclsyntax.ParseConfig(p.file.src, p.file.path, hcl.InitialPos)
	double, broken := splitRedefined(diags)
	body, ok := parsed.Body.(*hclsyntax.Body)
	if len(broken) > 0 || !ok {
		p.unparsed(diags)
		return
	}
	if !p.top(body) {
		return
	}
	left := p.redefinedLocals(body, double)
	p.file.locals.evaluate()
	p.fileErrors(p.file.locals.found)
	p.defineAll(left)
}

// crashedSource is a file of which nothing is known because of a bug.
func crashedSource(path string, reason any) *Source {
	return &Source{Path: path, files: newFileReader(""), Errors: []Diagnostic{{
		Severity: SeverityError, File: path, Position: Position{Line: 1, Column: 1}, Summary: "File cannot be parsed",
		Detail: oneLine(fmt.Sprintf("It makes the parser fail (%v); simplify it, and please report this.", reason)),
	}}}
}

// top sorts what stands at the top of the file. It is false for a file that is
// no task file at all.
func (p *parser) top(body *hclsyntax.Body) bool {
	allowed := []string{"task", "locals"}
	for _, attr := range inOrder(body.Attributes) {
		p.fileErrors(hcl.Diagnostics{unknownWord("file", attr.Name, "attribute", allowed, attr.NameRange)})
	}
	for _, b := range body.Blocks {
		switch b.Type {
		case "task":
			p.tasks = append(p.tasks, b)
		case "locals":
			p.file.locals.add(b)
		case "job":
			p.source.Errors = nil
			p.whole(b.DefRange(), "A job block is not a task",
				"This is a job file of Nomad. Convert it with: qemu-reconciler import nomad FILE")
			return false
		default:
			p.fileErrors(hcl.Diagnostics{unknownWord("file", b.Type, "block", allowed, b.TypeRange)})
		}
	}
	return true
}

// splitRedefined takes the arguments that are set twice out of what the parser
// found: the rest of the file is sound all the same.
func splitRedefined(diags hcl.Diagnostics) (double, broken hcl.Diagnostics) {
	for _, d := range diags {
		if d.Summary == "Attribute redefined" && d.Subject != nil {
			double = append(double, d)
		} else {
			broken = append(broken, d)
		}
	}
	return double, broken
}

// redefinedLocals reports what is set twice outside tasks, and gives the rest.
func (p *parser) redefinedLocals(body *hclsyntax.Body, double hcl.Diagnostics) (left hcl.Diagnostics) {
	for _, d := range double {
		i := slices.IndexFunc(body.Blocks, func(b *hclsyntax.Block) bool {
			return b.Range().Overlaps(*d.Subject) || b.Body.SrcRange.Overlaps(*d.Subject)
		})
		switch {
		case i >= 0 && body.Blocks[i].Type == "task":
			left = append(left, d)
		case i >= 0 && body.Blocks[i].Type == "locals":
			p.file.locals.faulty[string(d.Subject.SliceBytes(p.file.src))] = true
			fallthrough
		default:
			p.fileErrors(hcl.Diagnostics{d})
		}
	}
	return left
}

// whole reports an error of the file as a whole.
func (p *parser) whole(at hcl.Range, summary, detail string) {
	p.fileErrors(hcl.Diagnostics{{Severity: hcl.DiagError, Summary: summary, Detail: detail, Subject: &at}})
}

func (p *parser) fileErrors(diags hcl.Diagnostics) {
	p.report(convertDiagnostics(diags, p.file.path, p.file.src))
}

// unparsed reports why nothing is known of what stands where in the file.
func (p *parser) unparsed(diags hcl.Diagnostics) {
	found := convertDiagnostics(diags, p.file.path, p.file.src)
	hideSecrets(found, p.file.src)
	p.report(found)
}

// report takes in diagnostics of either severity, but no flood of them.
func (p *parser) report(found []Diagnostic) {
	for _, d := range found {
		list := &p.source.Errors
		if d.Severity == SeverityWarning {
			list = &p.source.Warnings
		}
		if len(*list) == maxMistakes {
			d.Summary, d.Detail = "And more", fmt.Sprintf("There are more than %d of these in the file; the others are not listed.", maxMistakes)
		}
		if len(*list) <= maxMistakes {
			*list = append(*list, d)
		}
	}
}
