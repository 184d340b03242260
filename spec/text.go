package spec

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Printable replaces what a terminal would obey rather than show, so that no
// text from a file, a guest or QEMU steers it. Line breaks and tabs are left to
// the caller's layout; every character stays one character.
func Printable(text string) string {
	return strings.Map(func(r rune) rune {
		if r != '\t' && r != '\n' && (unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r)) {
			return unicode.ReplacementChar
		}
		return r
	}, text)
}

// Wrap breaks text at its blanks into lines of at most so many characters. A
// word is never broken, since it may be a path or a name that is copied: one
// that is longer has a line of its own.
func Wrap(text string, limit int) []string {
	var lines []string
	line, length := "", 0
	for _, word := range strings.Fields(text) {
		wide := utf8.RuneCountInString(word)
		switch {
		case line == "":
			line, length = word, wide
		case length+1+wide <= limit:
			line, length = line+" "+word, length+1+wide
		default:
			lines = append(lines, line)
			line, length = word, wide
		}
	}
	if line != "" {
		lines = append(lines, line)
	}
	return lines
}
