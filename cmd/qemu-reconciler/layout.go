package main

import (
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/qemu-reconciler/qemu-reconciler/spec"
)

// screenWidth is what every table fits into: the narrowest terminal that is in
// use. A wider one is not asked for its size, so that output is the same in a
// pipe.
const screenWidth = 80

// style colours words, or leaves them alone.
type style struct{ colour bool }

// The colours of the terminal's own palette, so that they suit its background.
const (
	red    = "31"
	green  = "32"
	yellow = "33"
)

func (s style) paint(code, text string) string {
	if !s.colour || code == "" {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

func width(s string) int { return utf8.RuneCountInString(s) }

// pad fills a cell with blanks up to a width in characters.
func pad(s string, to int) string {
	return s + strings.Repeat(" ", max(0, to-width(s)))
}

// runeOffset is the byte offset of the n-th character.
func runeOffset(s string, n int) int {
	for i := range s {
		if n == 0 {
			return i
		}
		n--
	}
	return len(s)
}

// indented wraps text under an indent, and breaks no word of it.
func indented(b *strings.Builder, indent int, text string) {
	for _, line := range spec.Wrap(spec.Printable(text), screenWidth-indent) {
		b.WriteString(strings.Repeat(" ", indent) + line + "\n")
	}
}

// chop breaks the words that are longer than a line, for a table that must not
// be wider than the screen whatever stands in it.
func chop(text string, limit int) string {
	words := strings.Fields(text)
	for i, word := range words {
		var parts []string
		for width(word) > limit {
			cut := runeOffset(word, limit)
			parts, word = append(parts, word[:cut]), word[cut:]
		}
		words[i] = strings.Join(append(parts, word), " ")
	}
	return strings.Join(words, " ")
}

// plural counts things in words.
func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return strconv.Itoa(n) + " " + many
}
