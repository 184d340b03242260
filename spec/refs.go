package spec

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// reference is one variable that an expression mentions, such as local.x.
type reference struct {
	root string
	// step is the name behind the dot (or in literal brackets); empty when the
	// expression takes the whole, or computes which part it takes.
	step string
	at   hcl.Range
}

// references lists the variables of an expression. It sees nothing in one that
// has been wrapped by a meter.
func references(expr hclsyntax.Expression) []reference {
	var list []reference
	for _, traversal := range expr.Variables() {
		ref := reference{root: traversal.RootName(), at: traversal.SourceRange()}
		if len(traversal) > 1 {
			switch step := traversal[1].(type) {
			case hcl.TraverseAttr:
				ref.step = step.Name
			case hcl.TraverseIndex:
				if step.Key.Type() == cty.String {
					ref.step = step.Key.AsString()
				}
			}
		}
		list = append(list, ref)
	}
	return list
}

// bodyAttributes lists the attributes of a body and of the blocks inside it.
func bodyAttributes(body *hclsyntax.Body) []*hclsyntax.Attribute {
	list := inOrder(body.Attributes)
	for _, b := range body.Blocks {
		list = append(list, bodyAttributes(b.Body)...)
	}
	return list
}

// doubleKeys finds names that an object in the expression has twice: HCL would
// take the last one without a word.
func doubleKeys(expr hclsyntax.Expression) hcl.Diagnostics {
	return hclsyntax.VisitAll(expr, func(node hclsyntax.Node) hcl.Diagnostics {
		object, ok := node.(*hclsyntax.ObjectConsExpr)
		if !ok {
			return nil
		}
		var diags hcl.Diagnostics
		lines := map[string]int{}
		for _, item := range object.Items {
			key, ok := literalKey(item.KeyExpr)
			if !ok || len(diags) > maxMistakes {
				continue
			}
			if line, twice := lines[key]; twice {
				diags = append(diags, &hcl.Diagnostic{Severity: hcl.DiagError, Subject: item.KeyExpr.Range().Ptr(),
					Summary: fmt.Sprintf("Duplicate key %q", key), Detail: fmt.Sprintf("It is already set on line %d; write it once.", line)})
				continue
			}
			lines[key] = item.KeyExpr.Range().Start.Line
		}
		return diags
	})
}

// scope is what references are looked up in.
type scope struct {
	// objects are the variables with parts, by root: local.x is a part of
	// local. flat are those without.
	objects map[string]map[string]cty.Value
	flat    map[string]cty.Value
	// hints say more about a root that is not known.
	hints map[string]string
}

// check says what is wrong with a reference; nil means that it is known.
func (s scope) check(ref reference) *hcl.Diagnostic {
	if parts, ok := s.objects[ref.root]; ok {
		if _, known := parts[ref.step]; known || ref.step == "" {
			return nil
		}
		return s.unknown(ref, ref.root+"."+ref.step, "", withRoot(ref.root, parts))
	}
	if _, ok := s.flat[ref.root]; ok {
		return nil
	}
	hint := s.hints[ref.root]
	if hint == "" && ref.step == "" && !strings.HasPrefix(ref.root, nomadPrefix) {
		hint = fmt.Sprintf("A text is written in quotes: %q.", ref.root)
	}
	return s.unknown(ref, ref.root, hint, append(sortedKeys(s.flat), sortedKeys(s.objects)...))
}

// unknownVariable begins the summary of a reference to nothing.
const unknownVariable = "Unknown variable"

func (s scope) unknown(ref reference, name, hint string, near []string) *hcl.Diagnostic {
	detail := strings.TrimSpace(didYouMean(name, near) + " " + hint)
	if detail == "" {
		detail = "There are no others here."
		if len(near) > 0 {
			detail = "Known here: " + strings.Join(near[:min(len(near), 30)], ", ") + "."
		}
	}
	return &hcl.Diagnostic{Severity: hcl.DiagError, Summary: unknownVariable + " " + name, Detail: detail, Subject: ref.at.Ptr()}
}

// context gives HCL the variables that are asked for. What does not exist is
// there as an unknown value: check has spoken of it, once is enough.
func (s scope) context(refs []reference) *hcl.EvalContext {
	variables := map[string]cty.Value{}
	wanted := map[string]map[string]cty.Value{}
	for _, ref := range refs {
		parts, ok := s.objects[ref.root]
		if !ok {
			variables[ref.root] = valueOr(s.flat, ref.root)
			continue
		}
		if wanted[ref.root] == nil {
			wanted[ref.root] = map[string]cty.Value{}
		}
		if ref.step != "" {
			wanted[ref.root][ref.step] = valueOr(parts, ref.step)
		} else {
			maps.Copy(wanted[ref.root], parts)
		}
	}
	for root, parts := range wanted {
		variables[root] = cty.ObjectVal(parts)
	}
	return &hcl.EvalContext{Variables: variables}
}

// value is what a reference leads to; of an object, the part or nothing.
func (s scope) value(ref reference) cty.Value {
	if parts, ok := s.objects[ref.root]; ok {
		return valueOr(parts, ref.step)
	}
	return valueOr(s.flat, ref.root)
}

func valueOr(m map[string]cty.Value, name string) cty.Value {
	if v, ok := m[name]; ok {
		return v
	}
	return cty.DynamicVal
}

func withRoot[V any](root string, parts map[string]V) []string {
	if len(parts) > 500 {
		return nil // to find the nearest of so many takes too long
	}
	names := sortedKeys(parts)
	for i := range names {
		names[i] = root + "." + names[i]
	}
	return names
}

func sortedKeys[V any](m map[string]V) []string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
