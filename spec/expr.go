package spec

import (
	"fmt"
	"maps"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"
)

// Nomad's names for what expressions may know of a task.
const (
	nomadPrefix   = "NOMAD_"
	nomadTask     = "NOMAD_TASK_NAME"
	nomadMemory   = "NOMAD_MEMORY_LIMIT"
	nomadHostPort = "NOMAD_HOST_PORT_"
	nomadPort     = "NOMAD_PORT_"
	nomadMeta     = "NOMAD_META_"
)

// maxLocalChain bounds how many locals may stand behind one another, each of
// which is evaluated inside the next.
const maxLocalChain = 200

// hints explain roots that are known elsewhere, but not here.
var hints = map[string]string{
	"var":  "There are no variables; use locals { … }.",
	"env":  "The daemon's environment is not read; write the value down, or use locals { … }.",
	"attr": "The host is known as host.name and host.arch.",
	"node": "The host is known as host.name and host.arch.",
	"meta": "The task's own meta is NOMAD_META_x.",
	"each": "There is no for_each; write a task block for every VM.",
	"path": "file(\"NAME\") reads from the task directory.",
}

// hostParts is what expressions know of the host.
func hostParts(env Env) map[string]cty.Value {
	return map[string]cty.Value{"name": cty.StringVal(env.HostName), "arch": cty.StringVal(env.HostArch)}
}

// locals evaluates the locals of a file, each once, when it is first asked for
// or at the end.
type locals struct {
	meter     *meter
	functions map[string]function.Function
	host      map[string]cty.Value

	attributes map[string]*hclsyntax.Attribute
	refs       map[string][]reference
	values     map[string]cty.Value
	// under are the locals that are being evaluated, in order.
	under []string
	// faulty are those with a mistake; their value is unknown.
	faulty map[string]bool
	found  hcl.Diagnostics
}

func newLocals(m *meter, calls map[string]function.Function, env Env) *locals {
	return &locals{
		meter: m, functions: calls, host: hostParts(env),
		attributes: map[string]*hclsyntax.Attribute{}, refs: map[string][]reference{},
		values: map[string]cty.Value{}, faulty: map[string]bool{},
	}
}

// add takes in one locals block.
func (l *locals) add(b *hclsyntax.Block) {
	if len(b.Labels) > 0 {
		l.complain(b.LabelRanges[0], "locals has no label", "Write locals { … }.")
	}
	for _, inner := range b.Body.Blocks {
		l.complain(inner.TypeRange, fmt.Sprintf("Unknown block %q in a locals block", inner.Type),
			fmt.Sprintf("Write %s = { … }, with an equals sign.", inner.Type))
	}
	for _, attr := range inOrder(b.Body.Attributes) {
		if other, twice := l.attributes[attr.Name]; twice {
			l.complain(attr.NameRange, fmt.Sprintf("Duplicate local %q", attr.Name),
				fmt.Sprintf("It is already set on line %d; write it once.", other.NameRange.Start.Line))
			l.faulty[attr.Name] = true
			continue
		}
		l.attributes[attr.Name] = attr
		l.refs[attr.Name] = references(attr.Expr)
		if double := doubleKeys(attr.Expr); double.HasErrors() {
			l.found = append(l.found, double...)
			l.faulty[attr.Name] = true
		}
		attr.Expr = l.meter.whole(l.meter.wrap(attr.Expr))
	}
}

// evaluate makes the values of all locals.
func (l *locals) evaluate() {
	for _, name := range sortedKeys(l.attributes) {
		l.value(name)
	}
}

// value gives one local, evaluating first those that it refers to.
func (l *locals) value(name string) cty.Value {
	if v, done := l.values[name]; done {
		return v
	}
	l.under = append(l.under, name)
	before := len(l.found)
	v := l.compute(name)
	l.under = l.under[:len(l.under)-1]
	if l.found[before:].HasErrors() || l.faulty[name] {
		l.faulty[name] = true
		v = cty.DynamicVal
	}
	l.values[name] = v
	return v
}

func (l *locals) compute(name string) cty.Value {
	attr, refs := l.attributes[name], l.refs[name]
	visible := scope{objects: map[string]map[string]cty.Value{"local": {}, "host": l.host}, hints: maps.Clone(hints)}
	for _, root := range []string{"task", "port"} {
		visible.hints[root] = "It is known only inside a task block."
	}
	for _, ref := range refs {
		if ref.root == "local" && !l.reach(ref, visible.objects["local"]) {
			return cty.DynamicVal
		}
	}
	if refersTo(l.faulty, refs) {
		l.faulty[name] = true // what is wrong with the other has been said
	}
	if visible.checkAll(refs).HasErrors() {
		for other := range l.attributes { // so that the nearest can be named
			visible.objects["local"][other] = cty.DynamicVal
		}
		l.found = append(l.found, visible.checkAll(refs)...)
		return cty.DynamicVal
	}
	v := cty.DynamicVal
	l.found = append(l.found, l.meter.run(func() (diags hcl.Diagnostics) {
		ctx := visible.context(refs)
		ctx.Functions = l.functions
		v, diags = attr.Expr.Value(ctx)
		return explainCalls(diags, l.functions)
	})...)
	return v
}

// reach evaluates what a local refers to; false after a cycle was reported.
func (l *locals) reach(ref reference, into map[string]cty.Value) bool {
	names := []string{ref.step}
	if ref.step == "" {
		names = sortedKeys(l.attributes) // the expression may take any
	}
	for _, name := range names {
		if _, exists := l.attributes[name]; !exists {
			continue
		}
		for i, above := range l.under {
			if above == name {
				l.complain(ref.at, "Locals refer to each other in a circle",
					strings.Join(append(append([]string{}, l.under[i:]...), name), " → ")+": one of them needs a value of its own.")
				return false
			}
		}
		if len(l.under) > maxLocalChain {
			l.complain(ref.at, "Too much", fmt.Sprintf("At most %d locals may refer to one another in a row.", maxLocalChain))
			return false
		}
		into[name] = l.value(name)
	}
	return true
}

func (l *locals) complain(at hcl.Range, summary, detail string) {
	l.found = l.found.Append(&hcl.Diagnostic{Severity: hcl.DiagError, Summary: summary, Detail: detail, Subject: at.Ptr()})
}

// refersTo says whether one of the references is to a faulty local.
func refersTo(faulty map[string]bool, refs []reference) bool {
	for _, ref := range refs {
		if ref.root == "local" && (faulty[ref.step] || ref.step == "" && len(faulty) > 0) {
			return true
		}
	}
	return false
}

func (s scope) checkAll(refs []reference) hcl.Diagnostics {
	var diags hcl.Diagnostics
	for _, ref := range refs {
		if len(diags) > maxMistakes {
			break
		}
		if d := s.check(ref); d != nil {
			diags = append(diags, d)
		}
	}
	return diags
}

// explainCalls adds to HCL's words on an unknown function what there is.
func explainCalls(diags hcl.Diagnostics, known map[string]function.Function) hcl.Diagnostics {
	for _, d := range diags {
		if d.Summary == "Call to unknown function" && !strings.Contains(d.Detail, "Did you mean") {
			d.Detail += " There are: " + strings.Join(sortedKeys(known), ", ") + "."
		}
	}
	return diags
}
