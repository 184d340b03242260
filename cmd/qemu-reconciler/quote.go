package main

import (
	"fmt"
	"strings"
	"unicode"
)

// shellWords are the characters that no shell gives a meaning to within a word.
const shellWords = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_@%+=:,./-"

// shellQuote joins a command line so that a shell splits it into the same
// words again.
func shellQuote(argv []string) string {
	words := make([]string, len(argv))
	for i, arg := range argv {
		words[i] = quoteWord(arg)
	}
	return strings.Join(words, " ")
}

func quoteWord(word string) string {
	if word != "" && strings.Trim(word, shellWords) == "" {
		return word
	}
	if strings.ContainsFunc(word, unicode.IsControl) {
		return quoteControls(word)
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

// quoteControls writes control characters by their octal codes ($'…'), so that
// the result stays on one line and does nothing to a terminal.
func quoteControls(word string) string {
	var b strings.Builder
	b.WriteString("$'")
	for _, c := range []byte(word) {
		switch {
		case c == '\'' || c == '\\':
			b.WriteByte('\\')
			b.WriteByte(c)
		case c < ' ' || c >= 0x7f:
			fmt.Fprintf(&b, `\%03o`, c)
		default:
			b.WriteByte(c)
		}
	}
	b.WriteByte('\'')
	return b.String()
}
