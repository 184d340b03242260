package spec

import (
	"strings"
	"testing"
)

func TestSuggest(t *testing.T) {
	words := []string{"image_path", "image_format", "memory", "cores", "args", "on"}
	tests := []struct{ word, want string }{
		{"imagepath", "image_path"},
		{"image_fromat", "image_format"},
		{"memroy", "memory"},
		{"core", "cores"},
		{"arsg", "args"},
		{"no", "on"},
		{"memory", ""},
		{"disk", ""},
		{"", ""},
		{strings.Repeat("m", 1000), ""},
	}
	for _, tt := range tests {
		if got := suggest(tt.word, words); got != tt.want {
			t.Errorf("suggest(%q) = %q, want %q", tt.word, got, tt.want)
		}
	}
}
