package spec

import (
	"bytes"
	"regexp"
	"strings"
	"unicode"
)

// envWord finds where values of env may begin, also where the word is somewhat
// mistyped: what an operator takes for secret is not shown for that.
var envWord = regexp.MustCompile(`(?im)(^|[\s{;,(])"?env\w*"?\s*[{=:]`)

// quoted finds what a message quotes.
var quoted = regexp.MustCompile("\"(?:[^\"\\\\]|\\\\.)*\"|'[^']*'|`[^`]*`")

// hideSecrets takes the source line and everything that is quoted from it out
// of the diagnostics of a file that does not parse, from the first env on:
// where it ends cannot be known then.
func hideSecrets(found []Diagnostic, src []byte) {
	at := envWord.FindIndex(src)
	if at == nil {
		return
	}
	// The match may begin with the newline before the word.
	word := src[at[0]:at[1]]
	begin := at[0] + len(word) - len(bytes.TrimLeftFunc(word, unicode.IsSpace))
	first := bytes.Count(src[:begin], []byte("\n")) + 1
	rest := string(src[begin:])
	for i := range found {
		if d := &found[i]; d.Line >= first {
			d.hideExcerpt()
			d.Detail = conceal(d.Detail, func(text string) bool { return !strings.Contains(rest, text) })
		}
	}
}

func (d *Diagnostic) hideExcerpt() { d.Excerpt, d.EndColumn = "", 0 }

// conceal hides what a message quotes, but for signs and for what may be shown.
func conceal(message string, shown func(text string) bool) string {
	return quoted.ReplaceAllStringFunc(message, func(found string) string {
		text := found[1 : len(found)-1]
		plain := strings.ContainsFunc(text, func(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) })
		if !plain || shown(text) {
			return found
		}
		return hidden
	})
}

// secretWord says whether a word that has no place where it stands was meant
// to be, or is, one whose values are never shown.
func secretWord(word string) bool {
	return strings.HasPrefix(strings.ToLower(word), "env") || suggest(word, []string{"env"}) != ""
}
