package spec

import (
	"fmt"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty/convert"
)

// atElements puts what HCL says of a list or map as a whole at the elements
// that are wrong. It stays as it is where to look closer would take too long.
func (w *written) atElements(found hcl.Diagnostics) hcl.Diagnostics {
	out := hcl.Diagnostics{}
	if w.file.meter.run(func() hcl.Diagnostics { out = w.lookCloser(found); return nil }).HasErrors() {
		return found
	}
	return out
}

func (w *written) lookCloser(found hcl.Diagnostics) hcl.Diagnostics {
	var out hcl.Diagnostics
	for i, d := range found {
		if len(out) > maxMistakes {
			return append(out, found[i:]...) // are not listed
		}
		if elements := w.wrongElements(d); len(elements) > 0 {
			out = append(out, elements...)
		} else {
			out = append(out, d)
		}
	}
	return out
}

// wrongElements are the elements of a value that keep it from having its type;
// none when the diagnostic is about something else.
func (w *written) wrongElements(d *hcl.Diagnostic) hcl.Diagnostics {
	if d.Summary != "Incorrect attribute value type" || d.Expression == nil {
		return nil
	}
	field := w.places.around(d.Expression.Range())
	known, ok := taskSchema.attributeAt(field)
	if !ok || !known.kind.IsCollectionType() {
		return nil
	}
	v, diags := d.Expression.Value(d.EvalContext)
	if diags.HasErrors() || v.IsNull() || !v.CanIterateElements() {
		return nil
	}
	var out hcl.Diagnostics
	for key, element := range v.Elements() {
		if len(out) > maxMistakes {
			break
		}
		name := elementName(key)
		if _, err := convert.Convert(element, known.kind.ElementType()); err != nil {
			out = append(out, &hcl.Diagnostic{Severity: hcl.DiagError, Subject: w.places.find(join(field, name)).Ptr(),
				Summary: d.Summary, Detail: fmt.Sprintf("Inappropriate value for element %q of %q: %s.", name, known.name, err)})
		}
	}
	return out
}
