package main

import (
	"os/exec"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestShellQuote(t *testing.T) {
	for want, argv := range map[string][]string{
		"/usr/bin/qemu-system-x86_64 -m 512M -machine pc,accel=tcg": {"/usr/bin/qemu-system-x86_64", "-m", "512M", "-machine", "pc,accel=tcg"},
		`qemu ''`:                     {"qemu", ""},
		`qemu 'a b'`:                  {"qemu", "a b"},
		`qemu 'it'\''s'`:              {"qemu", "it's"},
		`qemu '$HOME;rm *'`:           {"qemu", "$HOME;rm *"},
		`qemu '~/x' '#' '!'`:          {"qemu", "~/x", "#", "!"},
		`qemu $'\033[31m\012it\'s\\'`: {"qemu", "\x1b[31m\nit's\\"},
	} {
		if got := shellQuote(argv); got != want {
			t.Errorf("shellQuote(%q)\n got %s\nwant %s", argv, got, want)
		}
	}
}

// A shell is asked, since it alone knows what it does.
func TestShellQuoteReadBack(t *testing.T) {
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringMatching(`[a-z0-9 '"\\$` + "`" + `!*?~#&|;<>(){}\[\]\x01-\x1fäé-]{0,12}`)
		words := rapid.SliceOfN(text, 1, 5).Draw(t, "words")
		out, err := exec.Command(bash, "-c", "printf '%s\\0' "+shellQuote(words)).Output()
		if err != nil {
			t.Fatal(err)
		}
		got := strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00")
		if !slices.Equal(got, words) {
			t.Fatalf("%q came back as %q", words, got)
		}
	})
}
