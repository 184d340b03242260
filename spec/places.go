package spec

import (
	"fmt"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// places knows where in a file each field of one task is written. Fields are
// named by their path, e.g. "config.args.3".
type places struct {
	file string
	src  []byte
	// label is where the task's name stands.
	label  hcl.Range
	ranges map[string]hcl.Range
	// secret are the ranges whose text is never shown.
	secret []hcl.Range
}

func newPlaces(file string, src []byte, label hcl.Range) *places {
	return &places{file: file, src: src, label: label, ranges: map[string]hcl.Range{}}
}

// add notes where a field is written; the first place counts.
func (p *places) add(field string, at hcl.Range) {
	if _, known := p.ranges[field]; !known {
		p.ranges[field] = at
	}
}

// addValue notes where the value of a field is, and those of its elements as
// far as they are written out.
func (p *places) addValue(field string, expr hclsyntax.Expression) {
	p.add(field, expr.Range())
	switch e := expr.(type) {
	case *hclsyntax.TupleConsExpr:
		for i, element := range e.Exprs {
			p.add(fmt.Sprintf("%s.%d", field, i), element.Range())
		}
	case *hclsyntax.ObjectConsExpr:
		for _, item := range e.Items {
			if key, ok := literalKey(item.KeyExpr); ok {
				p.add(join(field, key), item.ValueExpr.Range())
			}
		}
	}
}

// has says whether a field itself is written in the file.
func (p *places) has(field string) bool {
	_, ok := p.ranges[field]
	return ok
}

// find gives the place of a field, or of what is around it.
func (p *places) find(field string) hcl.Range {
	for {
		if at, ok := p.ranges[field]; ok {
			return at
		}
		i := strings.LastIndexByte(field, '.')
		if i < 0 {
			return p.label
		}
		field = field[:i]
	}
}

// around names the innermost field whose value a place is in, "" for none.
func (p *places) around(at hcl.Range) string {
	innermost := ""
	for field, r := range p.ranges {
		inside := r.Start.Byte <= at.Start.Byte && at.End.Byte <= r.End.Byte
		if inside && len(field) > len(innermost) {
			innermost = field
		}
	}
	return innermost
}

// diagnose makes a diagnostic at a field of the task.
func (p *places) diagnose(task, field, summary, detail string) Diagnostic {
	d := Diagnostic{Severity: SeverityError, File: p.file, Summary: oneLine(summary), Detail: oneLine(detail), Task: task}
	locate(&d, p.find(field), p.src)
	return p.mask(d)
}

// convert turns what HCL found in the task into its diagnostics.
func (p *places) convert(task string, found hcl.Diagnostics) []Diagnostic {
	out := convertDiagnostics(found, p.file, p.src)
	for i := range out {
		d := &out[i]
		d.Task = task
		if !p.inSecret(d.Line) {
			continue
		}
		// HCL's messages quote what they are about.
		d.hideExcerpt()
		d.Summary, d.Detail = conceal(d.Summary, p.isSecretName), conceal(d.Detail, p.isSecretName)
		if strings.HasPrefix(d.Summary, unknownVariable) {
			d.Summary = unknownVariable // a text without its quotes, as a rule
		}
	}
	return out
}

// mask takes the source line out of a diagnostic that would show a secret.
func (p *places) mask(d Diagnostic) Diagnostic {
	if p.inSecret(d.Line) {
		d.hideExcerpt()
	}
	return d
}

func (p *places) inSecret(line int) bool {
	return slices.ContainsFunc(p.secret, func(r hcl.Range) bool { return r.Start.Line <= line && line <= r.End.Line })
}

// isSecretName says whether a word is the name of a secret or of the attribute
// around it, which may be shown.
func (p *places) isSecretName(word string) bool {
	return word == "env" || p.has("env."+word)
}

// join puts a name below a path; either may be empty.
func join(path, name string) string {
	switch {
	case path == "":
		return name
	case name == "":
		return path
	}
	return path + "." + name
}

// literalKey is the name of an object's key when it is written out.
func literalKey(expr hclsyntax.Expression) (string, bool) {
	key, ok := expr.(*hclsyntax.ObjectConsKeyExpr)
	if !ok {
		return "", false
	}
	if !key.ForceNonLiteral {
		if name := hcl.ExprAsKeyword(key.Wrapped); name != "" {
			return name, true
		}
	}
	if template, ok := key.Wrapped.(*hclsyntax.TemplateExpr); ok && template.IsStringLiteral() {
		if literal, ok := template.Parts[0].(*hclsyntax.LiteralValueExpr); ok {
			return literal.Val.AsString(), true
		}
	}
	return "", false
}
