package spec

import (
	"bytes"
	"fmt"
	"unicode/utf8"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// The bounds of a file's form. HCL's parser and evaluator recurse once for
// every bracket and operator that they are inside of, and a Go stack that
// overflows cannot be recovered from; so a file is measured before it is
// parsed. A file that people write is far below every one of them.
const (
	maxNesting      = 64      // brackets, braces and ${…} within one another
	maxOperators    = 1000    // operators and further indices in one argument
	maxNumberDigits = 64      // characters of one number
	maxTokens       = 400_000 // words and signs in a file
	maxPieces       = 1 << 30 // bytes moved while texts are put together
)

// guard measures a file that is not parsed yet; nil means that parsing it is
// safe.
func guard(src []byte, path string) *hcl.Diagnostic {
	if d := notText(src); d != nil {
		return d
	}
	tokens, crowded := scan(src, path)
	if crowded != nil {
		return crowded
	}
	g := gauge{before: hclsyntax.TokenNewline}
	for _, token := range tokens {
		if broken := g.take(token); broken != "" {
			return tooMuch(token.Range, broken)
		}
	}
	return nil
}

// firstScan is how much of a file is scanned at first, in bytes.
const firstScan = 256 << 10

// scan gives the tokens of a file, unless there are too many. A token takes a
// hundred bytes and may stand for one, so twice as much is scanned each time
// only after what is before it has been found to be bearable.
func scan(src []byte, path string) (hclsyntax.Tokens, *hcl.Diagnostic) {
	for size := firstScan; ; size *= 2 {
		part := src[:min(size, len(src))]
		// What the scanner finds wrong is said by the parser, which scans again.
		tokens, _ := hclsyntax.LexConfig(part, path, hcl.InitialPos)
		if len(tokens) > maxTokens {
			return nil, tooMuch(tokens[maxTokens].Range, fmt.Sprintf("A file may have %d words and signs; split it into several files.", maxTokens))
		}
		if len(part) == len(src) {
			return tokens, nil
		}
	}
}

// notText refuses what no editor wrote, before the scanner makes a token of
// every byte.
func notText(src []byte) *hcl.Diagnostic {
	at := bytes.IndexByte(src, 0)
	if at < 0 {
		if utf8.Valid(src) {
			return nil
		}
		for at = 0; ; {
			r, size := utf8.DecodeRune(src[at:])
			if r == utf8.RuneError && size <= 1 {
				break
			}
			at += size
		}
	}
	start := bytes.LastIndexByte(src[:at], '\n') + 1
	column := utf8.RuneCount(src[start:at]) + 1
	place := hcl.Pos{Line: bytes.Count(src[:at], []byte("\n")) + 1, Column: column, Byte: at}
	return &hcl.Diagnostic{Severity: hcl.DiagError, Summary: "File is not text", Subject: &hcl.Range{Start: place, End: place},
		Detail: "It has a byte here that is not UTF-8 text; a file that is half written or half copied looks like that."}
}

// gauge adds up what the tokens of a file cost the parser.
type gauge struct {
	open      []bracket
	operators int
	pieces    int // work of joining the pieces of templates
	before    hclsyntax.TokenType
}

// bracket is a bracket that is open.
type bracket struct {
	// block says that it is a block's, where a newline ends an argument.
	block bool
	// pieces and text are the literal parts of a template so far.
	pieces, text int
}

// take adds a token; the result says which bound it breaks.
func (g *gauge) take(token hclsyntax.Token) string {
	if token.Type == hclsyntax.TokenComment {
		if !bytes.HasSuffix(token.Bytes, []byte("\n")) {
			return ""
		}
		token.Type = hclsyntax.TokenNewline // it swallows the line's end
	}
	before := g.before
	g.before = token.Type
	switch kindOf(token.Type, before) {
	case opens:
		if token.Type == hclsyntax.TokenOBrack && endsTerm(before) {
			g.operators++ // the indices of x[0][1] nest like operators
		}
		g.open = append(g.open, bracket{block: token.Type == hclsyntax.TokenOBrace && (before == hclsyntax.TokenIdent || before == hclsyntax.TokenCQuote)})
	case closes:
		g.open = g.open[:max(0, len(g.open)-1)]
	case operates:
		g.operators++
	case newline:
		if len(g.open) == 0 || g.open[len(g.open)-1].block {
			g.operators = 0
		}
	case number:
		if len(token.Bytes) > maxNumberDigits {
			return fmt.Sprintf("A number may have %d digits.", maxNumberDigits)
		}
	case piece:
		if len(g.open) > 0 {
			g.pieces += g.open[len(g.open)-1].add(len(token.Bytes))
		}
	}
	switch {
	case len(g.open) > maxNesting:
		return fmt.Sprintf("Brackets may be nested %d deep.", maxNesting)
	case g.operators > maxOperators:
		return fmt.Sprintf("One argument may have %d operators; split it with locals.", maxOperators)
	case g.pieces > maxPieces:
		return "A text has too many lines or parts; put it into a file, and read it with file(…)."
	}
	return ""
}

// add counts one more piece of a template. The parser joins them one by one,
// and moves all those behind each time.
func (b *bracket) add(length int) int {
	b.pieces++
	b.text += length
	return b.text + 16*b.pieces
}

func tooMuch(at hcl.Range, detail string) *hcl.Diagnostic {
	return &hcl.Diagnostic{Severity: hcl.DiagError, Summary: "Too much", Detail: detail, Subject: at.Ptr()}
}

type tokenKind int

const (
	plain tokenKind = iota
	opens
	closes
	operates
	newline
	number
	piece
)

// kindOf sorts tokens by what they do to the depth of the syntax tree.
func kindOf(token, before hclsyntax.TokenType) tokenKind {
	switch token {
	case hclsyntax.TokenOBrace, hclsyntax.TokenOBrack, hclsyntax.TokenOParen, hclsyntax.TokenOQuote,
		hclsyntax.TokenOHeredoc, hclsyntax.TokenTemplateInterp:
		return opens
	case hclsyntax.TokenCBrace, hclsyntax.TokenCBrack, hclsyntax.TokenCParen, hclsyntax.TokenCQuote,
		hclsyntax.TokenCHeredoc, hclsyntax.TokenTemplateSeqEnd:
		return closes
	case hclsyntax.TokenStar, hclsyntax.TokenSlash, hclsyntax.TokenPlus, hclsyntax.TokenMinus, hclsyntax.TokenPercent,
		hclsyntax.TokenEqualOp, hclsyntax.TokenNotEqual, hclsyntax.TokenLessThan, hclsyntax.TokenLessThanEq,
		hclsyntax.TokenGreaterThan, hclsyntax.TokenGreaterThanEq, hclsyntax.TokenAnd, hclsyntax.TokenOr,
		hclsyntax.TokenBang, hclsyntax.TokenQuestion:
		return operates
	case hclsyntax.TokenTemplateControl:
		// %{ if … } … %{ endif } nests without a bracket that stays open: it
		// counts as an operator, and its own brackets balance.
		return opens
	case hclsyntax.TokenNewline:
		return newline
	case hclsyntax.TokenNumberLit:
		return number
	case hclsyntax.TokenQuotedLit, hclsyntax.TokenStringLit:
		return piece
	}
	if before == hclsyntax.TokenTemplateControl {
		return operates
	}
	return plain
}

func endsTerm(token hclsyntax.TokenType) bool {
	switch token {
	case hclsyntax.TokenIdent, hclsyntax.TokenCBrack, hclsyntax.TokenCParen, hclsyntax.TokenCBrace,
		hclsyntax.TokenCQuote, hclsyntax.TokenNumberLit, hclsyntax.TokenStar:
		return true
	}
	return false
}
