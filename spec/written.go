package spec

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hcldec"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"
)

// file is what the tasks of one file have in common while they are decoded.
type file struct {
	path      string
	src       []byte
	env       Env
	functions map[string]function.Function
	locals    *locals

	// mu guards the meter, which sits inside the expressions: a file's tasks
	// may be bound by several goroutines.
	mu    sync.Mutex
	meter *meter
}

// written is a task as it stands in its file, ready to be decoded.
type written struct {
	name   string
	file   *file
	body   *hclsyntax.Body
	places *places
	refs   []reference
}

// outcome is what decoding a task gives.
type outcome struct {
	task *Task // nil when there is an error
	// allocated says that expressions ask for an allocated port.
	allocated        bool
	errors, warnings []Diagnostic
}

// decode makes the task. ports are the allocated ports; nil while there are
// none, when an expression may give what is not sound yet.
func (w *written) decode(ports map[string]int) (out outcome) {
	v, known, diags := w.evaluate(ports)
	out.errors = w.places.convert(w.name, diags)
	out.allocated = known.asksForAllocated(w.refs)
	taskSchema.inspect(v, "", func(field string, p problem) {
		if len(out.errors) > maxMistakes {
			return
		}
		// A guest's port that is computed from an allocated one is zero yet.
		if ports == nil && out.allocated && strings.HasPrefix(field, "config.port_map.") {
			return
		}
		out.errors = append(out.errors, w.places.diagnose(w.name, field, p.summary, p.detail))
	})
	if image := part(v, "config", "image_path"); image.IsNull() && w.places.has("config.image_path") {
		out.errors = append(out.errors, w.places.diagnose(w.name, "config.image_path", "image_path is null", "Write the path of the disk image."))
	}
	if len(out.errors) > 0 {
		return out
	}
	task, err := toTask(w.name, v)
	if err != nil {
		out.errors = append(out.errors, w.places.diagnose(w.name, "", "Task cannot be decoded", err.Error()))
		return out
	}
	complete := completion{task: task, env: w.file.env, written: w.places.has, network: w.places.has("resources.network")}
	complete.wrong = func(field, summary, detail string) {
		out.errors = append(out.errors, w.places.diagnose(w.name, field, summary, detail))
	}
	complete.warn = func(field, summary, detail string) {
		warning := w.places.diagnose(w.name, field, summary, detail)
		warning.Severity = SeverityWarning
		out.warnings = append(out.warnings, warning)
	}
	complete.run()
	if len(out.errors) == 0 {
		out.task = task
	}
	return out
}

// evaluate decodes the task's block until all that its expressions ask of the
// task itself is known, or until another pass would find nothing more.
func (w *written) evaluate(ports map[string]int) (v cty.Value, known facts, diags hcl.Diagnostics) {
	overrun := w.file.meter.run(func() hcl.Diagnostics {
		v, diags = w.pass(noFacts)
		known = factsOf(v, ports)
		if !slices.ContainsFunc(w.refs, isFact) {
			return nil
		}
		for left := math.MaxInt; known.unknowns() < left; known = factsOf(v, ports) {
			left = known.unknowns()
			v, diags = w.pass(known)
			if left == 0 {
				break
			}
		}
		return nil
	})
	if overrun.HasErrors() {
		return cty.DynamicVal, known, overrun
	}
	diags = w.atElements(diags)
	if slices.ContainsFunc(w.refs, isFact) && known.unknowns() > 0 && !diags.HasErrors() {
		diags = append(diags, w.circle(known))
	}
	return v, known, diags
}

// circle is the error for facts that are computed from themselves: at the
// first attribute that gives a fact and asks for one that stayed unknown.
func (w *written) circle(known facts) *hcl.Diagnostic {
	visible := w.scope(known)
	at, what := w.places.label, "A port, the memory or an entry of meta"
	looks := 0
	for _, ref := range w.refs {
		if !isFact(ref) || visible.value(ref).IsKnown() {
			continue
		}
		if looks++; looks > maxMistakes { // each goes through all fields
			break
		}
		if field := w.places.around(ref.at); givesFact(field) {
			at, what = ref.at, field
			break
		}
	}
	return &hcl.Diagnostic{Severity: hcl.DiagError, Subject: at.Ptr(), Summary: "Task refers to itself in a circle",
		Detail: what + " is computed from itself; give it, or what it is computed from, a value of its own."}
}

// pass decodes the block once.
func (w *written) pass(known facts) (cty.Value, hcl.Diagnostics) {
	visible := w.scope(known)
	judged := w.refs
	if known.open { // it is not known yet which facts there are
		judged = slices.DeleteFunc(slices.Clone(judged), isFact)
	}
	diags := append(w.faultyLocals(), visible.checkAll(judged)...)
	if slices.ContainsFunc(w.refs, func(r reference) bool { return r.root == "local" && r.step == "" }) {
		w.file.meter.spend(len(w.file.locals.values), w.places.label)
	}
	ctx := visible.context(w.refs)
	ctx.Functions = w.file.functions
	v, decodeDiags := hcldec.Decode(w.body, taskSpec, ctx)
	return v, append(diags, explainCalls(decodeDiags, w.file.functions)...)
}

// scope is what the expressions of the task can see.
func (w *written) scope(known facts) scope {
	name := cty.StringVal(w.name)
	visible := scope{
		objects: map[string]map[string]cty.Value{
			"local": w.file.locals.values,
			"task":  {"name": name},
			"host":  w.file.locals.host,
		},
		flat:  map[string]cty.Value{nomadTask: name},
		hints: hints,
	}
	known.put(visible)
	return visible
}

// faultyLocals reports the uses of locals that have a mistake of their own.
func (w *written) faultyLocals() hcl.Diagnostics {
	var diags hcl.Diagnostics
	for _, ref := range w.refs {
		if !refersTo(w.file.locals.faulty, []reference{ref}) {
			continue
		}
		what := "A local"
		if ref.step != "" {
			what = fmt.Sprintf("local.%s, set on line %d,", ref.step, w.file.locals.attributes[ref.step].NameRange.Start.Line)
		}
		diags = diags.Append(&hcl.Diagnostic{Severity: hcl.DiagError, Subject: ref.at.Ptr(),
			Summary: "Local has a mistake", Detail: what + " has a mistake of its own; mend it there."})
	}
	return diags
}
