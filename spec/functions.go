package spec

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"
	"strings"
	"unicode/utf8"

	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"
	"github.com/zclconf/go-cty/cty/function/stdlib"
)

// functions are those that an expression may call: none gives another result
// on another day, so that a definition is the same in every pass. Reading is
// done by files.
func functions(files *fileReader) map[string]function.Function {
	table := map[string]function.Function{
		"abs": stdlib.AbsoluteFunc, "ceil": stdlib.CeilFunc, "floor": stdlib.FloorFunc, "max": stdlib.MaxFunc, "min": stdlib.MinFunc,

		"lower": stdlib.LowerFunc, "upper": stdlib.UpperFunc, "title": stdlib.TitleFunc,
		"trimspace": stdlib.TrimSpaceFunc, "trimprefix": stdlib.TrimPrefixFunc, "trimsuffix": stdlib.TrimSuffixFunc,
		"trim":    priced(stdlib.TrimFunc, priceTrim),
		"replace": priced(stdlib.ReplaceFunc, priceReplace),
		"regex":   priced(stdlib.RegexFunc, priceRegex),
		"split":   stdlib.SplitFunc,
		"join":    priced(stdlib.JoinFunc, priceJoin),
		"format":  priced(stdlib.FormatFunc, priceFormat),
		"substr":  stdlib.SubstrFunc,

		"concat": stdlib.ConcatFunc, "contains": stdlib.ContainsFunc, "distinct": priced(stdlib.DistinctFunc, priceDistinct),
		"element": stdlib.ElementFunc, "flatten": stdlib.FlattenFunc, "keys": stdlib.KeysFunc, "length": lengthFunc,
		"lookup": stdlib.LookupFunc, "merge": stdlib.MergeFunc, "range": stdlib.RangeFunc, "reverse": stdlib.ReverseListFunc,
		"slice": stdlib.SliceFunc, "sort": stdlib.SortFunc, "values": stdlib.ValuesFunc, "zipmap": stdlib.ZipmapFunc,
		"coalesce": stdlib.CoalesceFunc,

		"jsonencode": stdlib.JSONEncodeFunc, "jsondecode": priced(stdlib.JSONDecodeFunc, priceJSON),
		"base64encode": textFunction(func(s string) (string, error) { return base64.StdEncoding.EncodeToString([]byte(s)), nil }),
		"base64decode": textFunction(decodeBase64),
		"sha256": textFunction(func(s string) (string, error) {
			sum := sha256.Sum256([]byte(s))
			return hex.EncodeToString(sum[:]), nil
		}),

		"tonumber": stdlib.MakeToFunc(cty.Number), "tostring": stdlib.MakeToFunc(cty.String), "tobool": stdlib.MakeToFunc(cty.Bool),

		"file": textFunction(files.read),
	}
	for name, f := range table {
		table[name] = priced(f, priceNumbers)
	}
	return table
}

// textFunction makes a function from text to text.
func textFunction(do func(string) (string, error)) function.Function {
	return function.New(&function.Spec{
		Params: []function.Parameter{{Name: "text", Type: cty.String}},
		Type:   function.StaticReturnType(cty.String),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			text, err := do(args[0].AsString())
			if err != nil {
				return cty.NilVal, err
			}
			return cty.StringVal(text), nil
		},
	})
}

func decodeBase64(text string) (string, error) {
	plain, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return "", fmt.Errorf("not base64: %w", err)
	}
	if !utf8.Valid(plain) {
		return "", errors.New("what is encoded is not UTF-8 text")
	}
	return string(plain), nil
}

// errDear refuses a call whose cost grows faster than its arguments, before it
// is made: what comes out of all others is measured afterwards.
var errDear = errors.New("the result would be too large, or take too long to compute")

// priced puts a price on a function. price sees only known arguments that are
// not null; it returns errDear for a call that is not to be made.
func priced(f function.Function, price func(args []cty.Value) error) function.Function {
	return function.New(&function.Spec{
		Params:   f.Params(),
		VarParam: f.VarParam(),
		Type: func(args []cty.Value) (cty.Type, error) {
			for _, arg := range args {
				if !arg.IsWhollyKnown() || arg.IsNull() {
					return f.ReturnTypeForValues(args)
				}
			}
			if err := price(args); err != nil {
				return cty.NilType, err
			}
			return f.ReturnTypeForValues(args)
		},
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) { return f.Call(args) },
	})
}

// priceNumbers refuses numbers that are huge though their text was short:
// "1e600000000" is turned into a number only when a function is called.
func priceNumbers(args []cty.Value) error {
	for _, arg := range args {
		if arg.Type() != cty.Number {
			continue
		}
		if _, problem := measure(arg, false); problem != "" {
			return errDear
		}
	}
	return nil
}

// priceTrim keeps the product of both texts small: each letter of one is
// looked for in the other.
func priceTrim(args []cty.Value) error {
	return affordable(len(args[1].AsString()), 1024)
}

func priceReplace(args []cty.Value) error {
	text, old, replacement := args[0].AsString(), args[1].AsString(), args[2].AsString()
	return affordable(len(text)+strings.Count(text, old)*len(replacement), maxText)
}

func priceJoin(args []cty.Value) error {
	total, separator := 0, len(args[0].AsString())
	for _, list := range args[1:] {
		for _, element := range list.Elements() {
			total += separator
			if !element.IsNull() {
				total += len(element.AsString())
			}
		}
	}
	return affordable(total, maxText)
}

// wideVerb is a width or precision of four digits or more: flags, perhaps the
// argument's index, then the digits.
var wideVerb = regexp.MustCompile(`%[-+ #0]*(\[[0-9]*\])?([0-9]{4}|[0-9]*\.[0-9]{4})`)

func priceFormat(args []cty.Value) error {
	format, longest := args[0].AsString(), 0
	if wideVerb.MatchString(format) {
		return errors.New("a width or precision may be 999 at most")
	}
	for _, arg := range args[1:] {
		size, problem := measure(arg, true)
		if problem != "" {
			return errDear
		}
		if !fitsNumber(arg) {
			return errDear // %d would write it out
		}
		longest = max(longest, size.text+size.elements*8)
	}
	return affordable(len(format)+strings.Count(format, "%")*longest, 8*maxText)
}

// priceRegex bounds what RE2 may cost: the size of the compiled pattern times
// the length of the text.
func priceRegex(args []cty.Value) error {
	pattern, text := args[0].AsString(), args[1].AsString()
	if len(pattern) > 1024 {
		return errors.New("a pattern may have 1024 bytes at most")
	}
	parsed, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		return fmt.Errorf("not a pattern: %w", err)
	}
	program, err := syntax.Compile(parsed.Simplify())
	if err != nil {
		return fmt.Errorf("not a pattern: %w", err)
	}
	return affordable(len(program.Inst)*(len(text)+1), 4<<20)
}

// priceDistinct bounds the comparisons, each element with all others.
func priceDistinct(args []cty.Value) error {
	size, problem := measure(args[0], true)
	if problem != "" {
		return errDear
	}
	return affordable(args[0].LengthInt()*size.elements, 1<<20)
}

// priceJSON bounds the depth, which the decoder of types recurses into.
func priceJSON(args []cty.Value) error {
	depth, deepest := 0, 0
	for _, c := range []byte(args[0].AsString()) {
		switch c {
		case '[', '{':
			depth++
			deepest = max(deepest, depth)
		case ']', '}':
			depth--
		}
	}
	return affordable(deepest, maxDepth)
}

func affordable(cost, most int) error {
	if cost > most {
		return errDear
	}
	return nil
}

// lengthFunc is the length of a list or map; an object, which is what a map is
// until it is converted, counts as one.
var lengthFunc = function.New(&function.Spec{
	Params: []function.Parameter{{Name: "collection", Type: cty.DynamicPseudoType, AllowDynamicType: true}},
	Type: func(args []cty.Value) (cty.Type, error) {
		if args[0].Type().IsObjectType() {
			return cty.Number, nil
		}
		return stdlib.LengthFunc.ReturnTypeForValues(args)
	},
	Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
		if t := args[0].Type(); t.IsObjectType() {
			return cty.NumberIntVal(int64(len(t.AttributeTypes()))), nil
		}
		return stdlib.LengthFunc.Call(args)
	},
})
