package spec

import (
	"fmt"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// The bounds of what the expressions of a file may do. A step is about a tenth
// of a microsecond to a microsecond of work.
const (
	maxSteps     = 100_000 // for one task or one local
	maxFileSteps = 500_000 // for a whole file
	maxElements  = 10_000  // in one value, counting those inside others
	maxValueText = 1 << 20 // bytes of text in one value
	maxDepth     = 64      // values inside values
	// maxText bounds one string, in bytes: Linux passes no longer one to a
	// program (MAX_ARG_STRLEN), so it could not be used.
	maxText = 128 << 10
	// maxBits bounds the exponent of a number: written out it has at most
	// about 1200 digits.
	maxBits = 4096
	// textPerStep is how many bytes of text are handled in one step.
	textPerStep = 64
)

// tooExpensive is what a meter panics with. HCL's evaluator goes on to the
// next element after an error, so only a panic ends nested loops at once.
type tooExpensive struct{ diagnostic *hcl.Diagnostic }

// meter counts the work of evaluating expressions. It belongs to one file and
// is used under its lock.
type meter struct {
	steps     int // left for what is being evaluated
	fileSteps int // left for the file
	// dear is called, if it is not nil, once the file has taken quickSteps. It
	// may wait, and says whether to go on.
	dear func() bool
}

// run evaluates under the budget of one task or local.
func (m *meter) run(evaluate func() hcl.Diagnostics) (diags hcl.Diagnostics) {
	m.steps = maxSteps
	defer func() {
		switch reason := recover().(type) {
		case nil:
		case tooExpensive:
			diags = hcl.Diagnostics{reason.diagnostic}
		default:
			panic(reason)
		}
	}()
	return evaluate()
}

func (m *meter) spend(steps int, at hcl.Range) {
	m.steps -= steps
	m.fileSteps -= steps
	if m.dear != nil && m.fileSteps < maxFileSteps-quickSteps {
		if !m.dear() {
			m.stop(at, "Evaluation was given up", "The file has changed meanwhile.")
		}
		m.dear = nil
	}
	if m.steps < 0 || m.fileSteps < 0 {
		m.stop(at, "Expression takes too long", "It does far more work than a task needs: loop over less, or write the result down.")
	}
}

func (m *meter) stop(at hcl.Range, summary, detail string) {
	panic(tooExpensive{&hcl.Diagnostic{Severity: hcl.DiagError, Summary: summary, Detail: detail, Subject: at.Ptr()}})
}

// metered evaluates an expression under a meter.
type metered struct {
	hclsyntax.Expression
	meter *meter
	// whole measures all of a value and not only its top: for values that are
	// made here, or that are about to be gone through.
	whole bool
	// number says that the value is taken for a number, if it is a text.
	number bool
	price  int // in steps, besides what the value's size costs
}

// callSteps is the price of a call of a function, in steps: most so for one
// that does not exist, whose name HCL likens to all others.
const callSteps = 10

// Value implements hcl.Expression.
func (e metered) Value(ctx *hcl.EvalContext) (cty.Value, hcl.Diagnostics) {
	e.meter.spend(e.price, e.Range())
	v, diags := e.Expression.Value(ctx)
	size, problem := measure(v, e.whole)
	if e.number && !fitsNumber(v) {
		problem = hugeNumber
	}
	if problem != "" {
		e.meter.stop(e.Range(), "Value is too large", problem)
	}
	e.meter.spend(size.steps(), e.Range())
	return v, diags
}

// extent is the size of a value, counting what is inside it.
type extent struct{ elements, text int }

func (x extent) steps() int { return x.elements/4 + x.text/textPerStep }

// measure gives the size of a value; problem says which bound it breaks.
func measure(v cty.Value, whole bool) (size extent, problem string) {
	problem = size.add(v, whole, 0)
	return size, problem
}

func (x *extent) add(v cty.Value, whole bool, depth int) string {
	x.elements++
	if x.elements > maxElements {
		return fmt.Sprintf("A value may have %d elements.", maxElements)
	}
	if depth > maxDepth {
		return fmt.Sprintf("Values may be nested %d deep.", maxDepth)
	}
	if v == cty.NilVal || v.IsNull() || !v.IsKnown() {
		return ""
	}
	switch t := v.Type(); {
	case t == cty.String:
		return x.addText(len(v.AsString()))
	case t == cty.Number:
		n := v.AsBigFloat()
		if n.IsInf() {
			return "The number is infinite, or too large to be written out. Nothing can be divided by zero."
		}
		if e := n.MantExp(nil); e > maxBits || e < -maxBits {
			return hugeNumber
		}
	case whole && v.CanIterateElements():
		for key, element := range v.Elements() {
			if key.Type() == cty.String {
				if problem := x.addText(len(key.AsString())); problem != "" {
					return problem
				}
			}
			if problem := x.add(element, true, depth+1); problem != "" {
				return problem
			}
		}
	}
	return ""
}

const hugeNumber = "A number may have about 1200 digits."

// fitsNumber says whether a text, if it is that of a number, gives one that is
// within bounds: a few letters are enough for a number of any size.
func fitsNumber(v cty.Value) bool {
	if v == cty.NilVal || v.IsNull() || !v.IsKnown() || v.Type() != cty.String {
		return true
	}
	n, err := cty.ParseNumberVal(v.AsString())
	if err != nil {
		return true
	}
	_, problem := measure(n, false)
	return problem == ""
}

func (x *extent) addText(length int) string {
	if length > maxText {
		return fmt.Sprintf("A text may have %d bytes; no longer one can be passed to a program.", maxText)
	}
	x.text += length
	if x.text > maxValueText {
		return fmt.Sprintf("The texts in a value may have %d bytes together.", maxValueText)
	}
	return ""
}

// wrap puts a meter on an expression and on all that is inside it.
func (m *meter) wrap(expr hclsyntax.Expression) hclsyntax.Expression {
	switch e := expr.(type) {
	case *hclsyntax.LiteralValueExpr:
		// Text in quotes is looked at by HCL as the type that it is; only a
		// number can be large without being long.
		if e.Val.Type() != cty.Number {
			return e
		}
	case *hclsyntax.TemplateExpr:
		m.wrapAll(e.Parts)
	case *hclsyntax.TemplateWrapExpr:
		e.Wrapped = m.wrap(e.Wrapped)
	case *hclsyntax.TemplateJoinExpr:
		e.Tuple = m.wrap(e.Tuple)
	case *hclsyntax.FunctionCallExpr:
		m.wrapAll(e.Args)
		for i := range e.Args {
			e.Args[i] = m.whole(e.Args[i])
		}
	case *hclsyntax.BinaryOpExpr:
		e.LHS, e.RHS = m.operand(e.LHS, e.Op), m.operand(e.RHS, e.Op)
	case *hclsyntax.UnaryOpExpr:
		e.Val = m.operand(e.Val, e.Op)
	case *hclsyntax.ConditionalExpr:
		e.Condition = m.wrap(e.Condition)
		e.TrueResult, e.FalseResult = m.whole(m.wrap(e.TrueResult)), m.whole(m.wrap(e.FalseResult))
	case *hclsyntax.IndexExpr:
		e.Collection, e.Key = m.wrap(e.Collection), m.wrap(e.Key)
	case *hclsyntax.RelativeTraversalExpr:
		e.Source = m.wrap(e.Source)
	case *hclsyntax.ParenthesesExpr:
		e.Expression = m.wrap(e.Expression)
	case *hclsyntax.SplatExpr:
		e.Source, e.Each = m.whole(m.wrap(e.Source)), m.wrap(e.Each)
	case *hclsyntax.TupleConsExpr:
		m.wrapAll(e.Exprs)
	case *hclsyntax.ObjectConsExpr:
		m.wrapItems(e.Items)
	case *hclsyntax.ForExpr:
		m.wrapFor(e)
	}
	out := metered{Expression: expr, meter: m, whole: makesValues(expr), price: 1}
	if _, call := expr.(*hclsyntax.FunctionCallExpr); call {
		out.price = callSteps
	}
	return out
}

// makesValues says whether the value of an expression is new, rather than part
// of one that has been measured.
func makesValues(expr hclsyntax.Expression) bool {
	switch expr.(type) {
	case *hclsyntax.ScopeTraversalExpr, *hclsyntax.RelativeTraversalExpr, *hclsyntax.IndexExpr, *hclsyntax.ParenthesesExpr,
		*hclsyntax.ConditionalExpr, *hclsyntax.TemplateWrapExpr, *hclsyntax.AnonSymbolExpr:
		return false
	}
	return true
}

// whole makes a wrapped expression measure all of its value.
func (m *meter) whole(expr hclsyntax.Expression) hclsyntax.Expression {
	if e, ok := expr.(metered); ok {
		e.whole = true
		return e
	}
	return expr
}

// operand wraps what an operator works on. A literal text is wrapped, too,
// where a number is wanted.
func (m *meter) operand(expr hclsyntax.Expression, op *hclsyntax.Operation) hclsyntax.Expression {
	e, ok := m.wrap(expr).(metered)
	if !ok {
		return expr
	}
	e.whole = true
	e.number = op.Impl.Params()[0].Type == cty.Number
	return e
}

func (m *meter) wrapAll(exprs []hclsyntax.Expression) {
	for i := range exprs {
		exprs[i] = m.wrap(exprs[i])
	}
}

func (m *meter) wrapItems(items []hclsyntax.ObjectConsItem) {
	for i, item := range items {
		items[i].ValueExpr = m.wrap(item.ValueExpr)
		// A key that is a plain word is recognised by its type.
		key, ok := item.KeyExpr.(*hclsyntax.ObjectConsKeyExpr)
		if !ok {
			continue
		}
		if _, word := key.Wrapped.(*hclsyntax.ScopeTraversalExpr); !word {
			key.Wrapped = m.wrap(key.Wrapped)
		}
	}
}

func (m *meter) wrapFor(e *hclsyntax.ForExpr) {
	e.CollExpr = m.whole(m.wrap(e.CollExpr))
	e.ValExpr = m.wrap(e.ValExpr)
	if e.KeyExpr != nil {
		e.KeyExpr = m.wrap(e.KeyExpr)
	}
	if e.CondExpr != nil {
		e.CondExpr = m.wrap(e.CondExpr)
	}
}
