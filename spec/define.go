package spec

import (
	"fmt"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// defineAll makes definitions of the file's task blocks. double are arguments
// that are set twice in one of them.
func (p *parser) defineAll(double hcl.Diagnostics) {
	lines := map[string]int{}
	twice := map[string]bool{}
	for _, b := range p.tasks {
		if !p.labelled(b) {
			continue
		}
		name, line := b.Labels[0], b.DefRange().Start.Line
		if first, seen := lines[name]; seen {
			twice[name] = true
			p.duplicate(b, first)
		} else {
			lines[name] = line
		}
	}
	var sound []*Definition
	for _, b := range p.tasks {
		if !p.isNamed(b) {
			continue
		}
		d := p.define(b, double)
		if d == nil || twice[b.Labels[0]] {
			p.source.Faulty = append(p.source.Faulty, b.Labels[0])
			continue
		}
		sound = append(sound, d)
	}
	p.source.Definitions = sound
}

// labelled reports a task block without a proper name.
func (p *parser) labelled(b *hclsyntax.Block) bool {
	switch {
	case len(b.Labels) == 0:
		p.whole(b.TypeRange, "Task without a name", `Write it behind the word: task "NAME" { … }`)
	case len(b.Labels) > 1:
		p.whole(b.LabelRanges[1], "Task with more than one name", `Write one: task "NAME" { … }`)
	default:
		for _, found := range taskName(cty.StringVal(b.Labels[0])) {
			p.whole(b.LabelRanges[0], fmt.Sprintf("%q %s", b.Labels[0], found.summary), found.detail)
		}
	}
	return p.isNamed(b)
}

func (p *parser) isNamed(b *hclsyntax.Block) bool {
	return len(b.Labels) == 1 && len(taskName(cty.StringVal(b.Labels[0]))) == 0
}

func (p *parser) duplicate(b *hclsyntax.Block, first int) {
	name := b.Labels[0]
	d := Diagnostic{Severity: SeverityError, File: p.file.path, Task: name, Summary: fmt.Sprintf("Duplicate task %q", name),
		Detail: fmt.Sprintf("It is also defined on line %d of %s; rename or remove one of them.", first, p.file.path)}
	locate(&d, b.LabelRanges[0], p.file.src)
	p.report([]Diagnostic{d})
}

// define makes the definition of one task block, nil when it has an error.
func (p *parser) define(b *hclsyntax.Block, double hcl.Diagnostics) *Definition {
	name := b.Labels[0]
	w := &written{name: name, file: p.file, body: b.Body, places: newPlaces(p.file.path, p.file.src, b.LabelRanges[0])}
	out := w.guarded(func() outcome {
		first := w.prepare(double, b)
		out := w.decode(nil)
		out.add(first)
		return out
	})
	p.report(out.errors)
	p.report(out.warnings)
	if len(out.errors) > 0 {
		return nil
	}
	d := &Definition{Task: out.task, File: p.file.path, Here: wantedOn(out.task.Hosts, p.file.env.HostName), places: w.places}
	if out.allocated {
		d.bind = w.bind
	}
	return d
}

// prepare sifts the block's words and puts meters on its expressions.
func (w *written) prepare(double hcl.Diagnostics, b *hclsyntax.Block) []Diagnostic {
	s := &sift{places: w.places}
	s.body(taskSchema, w.body, "")
	for _, d := range double {
		if b.Body.SrcRange.Overlaps(*d.Subject) {
			s.found = append(s.found, d)
		}
	}
	for _, attr := range bodyAttributes(w.body) {
		w.refs = append(w.refs, references(attr.Expr)...)
		s.found = append(s.found, doubleKeys(attr.Expr)...)
		attr.Expr = w.file.meter.wrap(attr.Expr)
	}
	return w.places.convert(w.name, s.found)
}

// bind decodes the task again with its allocated ports.
func (w *written) bind(ports map[string]int) (*Task, []Diagnostic) {
	w.file.mu.Lock()
	defer w.file.mu.Unlock()
	if ports == nil {
		ports = map[string]int{}
	}
	w.file.meter.fileSteps = maxFileSteps
	out := w.guarded(func() outcome { return w.decode(ports) })
	return out.task, out.errors
}

// guarded turns a panic of the libraries underneath into an error of the task.
func (w *written) guarded(decode func() outcome) (out outcome) {
	defer func() {
		if reason := recover(); reason != nil {
			w.file.env.crashed(w.file.path, reason)
			out = outcome{errors: []Diagnostic{w.places.diagnose(w.name, "", "Task cannot be decoded",
				fmt.Sprintf("It makes the decoder fail (%v); simplify it, and please report this.", reason))}}
		}
	}()
	return decode()
}

// add takes in diagnostics of either severity.
func (o *outcome) add(found []Diagnostic) {
	for _, d := range found {
		if d.Severity == SeverityWarning {
			o.warnings = append(o.warnings, d)
		} else {
			o.errors = append(o.errors, d)
		}
	}
}
