package spec

import (
	"fmt"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// sift goes through the body of a block as the schema describes it. It notes
// where everything is written, and takes out of the body every word that does
// not belong there, with an error or, for words of Nomad without a meaning
// here, a warning: what is left is what hcldec decodes. Expressions are not
// looked into.
type sift struct {
	places *places
	found  hcl.Diagnostics
}

func (s *sift) body(schema block, body *hclsyntax.Body, path string) {
	for _, attr := range inOrder(body.Attributes) {
		if !s.attribute(schema, attr, path) {
			delete(body.Attributes, attr.Name)
		}
	}
	body.Blocks = slices.DeleteFunc(body.Blocks, func(b *hclsyntax.Block) bool {
		return !s.block(schema, b, body, path)
	})
}

// attribute says whether the attribute stays.
func (s *sift) attribute(schema block, attr *hclsyntax.Attribute, path string) bool {
	known, ok := schema.attribute(attr.Name)
	if ok {
		field := join(path, attr.Name)
		s.places.addValue(field, attr.Expr)
		if known.secret {
			s.places.secret = append(s.places.secret, attr.SrcRange)
		}
		return true
	}
	if _, ok := schema.block(attr.Name); ok {
		s.add(hcl.DiagError, attr.NameRange, fmt.Sprintf("%s is a block", attr.Name),
			fmt.Sprintf("Write it without the equals sign: %s { … }", attr.Name))
		return false
	}
	s.stranger(schema, attr.Name, "attribute", attr.NameRange, attr.SrcRange)
	return false
}

// block says whether the block stays.
func (s *sift) block(schema block, b *hclsyntax.Block, around *hclsyntax.Body, path string) bool {
	field := join(path, b.Type)
	if known, ok := schema.attribute(b.Type); ok {
		if !known.alsoBlock {
			s.add(hcl.DiagError, b.TypeRange, fmt.Sprintf("%s is not a block", b.Type),
				fmt.Sprintf("Write it with an equals sign: %s = …", b.Type))
			return false
		}
		if other, twice := around.Attributes[b.Type]; twice {
			s.add(hcl.DiagError, b.TypeRange, fmt.Sprintf("Duplicate %s", b.Type),
				fmt.Sprintf("It is already set on line %d; write it once, as a block or as an attribute.", other.NameRange.Start.Line))
			return false
		}
		s.mapBlock(known, b, field)
		return true
	}
	inner, ok := schema.block(b.Type)
	if !ok {
		s.stranger(schema, b.Type, "block", b.TypeRange, b.Range())
		return false
	}
	if inner.many && len(b.Labels) == 1 {
		field = join(field, b.Labels[0])
		if s.places.has(field) {
			s.add(hcl.DiagError, b.LabelRanges[0], fmt.Sprintf("Duplicate %s %q", b.Type, b.Labels[0]),
				fmt.Sprintf("It is already on line %d; write it once.", s.places.find(field).Start.Line))
			return false
		}
	}
	s.places.add(field, b.DefRange())
	s.body(inner, b.Body, field)
	return true
}

// mapBlock notes the places of a map that is written as a block.
func (s *sift) mapBlock(known attribute, b *hclsyntax.Block, field string) {
	s.places.add(field, b.DefRange())
	for _, attr := range inOrder(b.Body.Attributes) {
		s.places.addValue(join(field, attr.Name), attr.Expr)
	}
	if known.secret {
		s.places.secret = append(s.places.secret, b.Range(), b.Body.Range())
	}
}

// stranger reports a word that has no place in the block; whole is all of what
// it begins.
func (s *sift) stranger(schema block, word, kind string, at, whole hcl.Range) {
	if secretWord(word) {
		s.places.secret = append(s.places.secret, whole)
	}
	if len(s.found) > maxMistakes {
		return
	}
	if slices.Contains([]string{"task", "resources", "network"}, schema.name) {
		if reason, ok := ignoredWords[word]; ok {
			s.add(hcl.DiagWarning, at, fmt.Sprintf("%q does nothing", word),
				fmt.Sprintf("This word of Nomad has no meaning here: %s. It can be left out.", reason))
			return
		}
		if mend, ok := refusedWords[word]; ok {
			s.add(hcl.DiagError, at, fmt.Sprintf("%q is not supported", word), mend)
			return
		}
	}
	s.found = s.found.Append(unknownWord(schema.name, word, kind, schema.words(), at))
}

// unknownWord is the diagnostic for a word that is not among those that may
// stand in a block ("file" for the top of a file).
func unknownWord(place, word, kind string, allowed []string, at hcl.Range) *hcl.Diagnostic {
	detail := placedWords[place+"."+word]
	if detail == "" {
		detail = strings.TrimSpace(didYouMean(word, allowed))
	}
	if detail == "" && place != "file" {
		if home := homeOf(taskSchema, word); home != "" {
			detail = fmt.Sprintf("%q is written in the %s block.", word, home)
		}
	}
	if detail == "" {
		detail = fmt.Sprintf("What may stand here: %s.", strings.Join(slices.Sorted(slices.Values(allowed)), ", "))
	}
	where := "in a " + place + " block"
	if place == "file" {
		where = "at the top of a file"
	}
	return &hcl.Diagnostic{Severity: hcl.DiagError, Subject: at.Ptr(),
		Summary: fmt.Sprintf("Unknown %s %q %s", kind, word, where), Detail: detail}
}

// homeOf names the block in which a word may stand, "" when there is none.
func homeOf(schema block, word string) string {
	if slices.Contains(schema.words(), word) {
		return schema.name
	}
	for _, inner := range schema.blocks {
		if home := homeOf(inner, word); home != "" {
			return home
		}
	}
	return ""
}

func (s *sift) add(severity hcl.DiagnosticSeverity, at hcl.Range, summary, detail string) {
	s.found = s.found.Append(&hcl.Diagnostic{Severity: severity, Summary: summary, Detail: detail, Subject: at.Ptr()})
}

// inOrder lists attributes in the order of the file.
func inOrder(attributes hclsyntax.Attributes) []*hclsyntax.Attribute {
	var list []*hclsyntax.Attribute
	for _, attr := range attributes {
		list = append(list, attr)
	}
	slices.SortFunc(list, func(a, b *hclsyntax.Attribute) int { return a.SrcRange.Start.Byte - b.SrcRange.Start.Byte })
	return list
}
