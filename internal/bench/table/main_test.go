package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/qemu-reconciler/qemu-reconciler/internal/bench"
)

// Each kind of run goes into its own place, and the other's is left alone.
func TestSections(t *testing.T) {
	dir := t.TempDir()
	doc := filepath.Join(dir, "doc.md")
	own := "<!-- written by internal/bench/table: begin -->\nold own\n<!-- written by internal/bench/table: end -->\n"
	peers := "<!-- written by internal/bench/table: peers begin -->\nold peers\n<!-- written by internal/bench/table: peers end -->\n"
	write := func(name, peer string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		row := &bench.Row{ID: "a.b", Work: "work", Measure: "measure", Ours: []float64{1, 2, 3, 4, 5}, Peer: []float64{7, 7, 7, 7, 7}}
		if err := (&bench.Report{Peer: peer, Rows: []*bench.Row{row}}).Write(path); err != nil {
			t.Fatal(err)
		}
		return path
	}
	ours, theirs := write("own.json", ""), write("peers.json", "libvirt")
	for _, test := range []struct {
		paths       []string
		there, gone string
	}{
		{[]string{ours}, "old peers", "old own"}, {[]string{theirs}, "| - | 3 (2-4) | 7 |", "old peers"},
		{[]string{ours, theirs}, "| libvirt |", "old"},
	} {
		if err := os.WriteFile(doc, []byte("top\n"+own+"middle\n"+peers+"bottom\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := run(doc, test.paths); err != nil {
			t.Fatal(err)
		}
		raw, err := os.ReadFile(doc)
		if err != nil {
			t.Fatal(err)
		}
		text := string(raw)
		for _, kept := range []string{"top\n", "middle\n", "bottom\n", test.there} {
			if !strings.Contains(text, kept) {
				t.Errorf("%v: no %q in\n%s", test.paths, kept, text)
			}
		}
		if strings.Contains(text, test.gone) {
			t.Errorf("%v: %q is left in\n%s", test.paths, test.gone, text)
		}
	}
	if err := run(filepath.Join(dir, "own.json"), []string{ours}); err == nil {
		t.Error("a file without a place for tables was written")
	}
}
