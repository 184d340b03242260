package arch

import (
	"go/ast"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// A test that a document names exists: who reads that something is shown by it
// can go and see.
func TestDocumentsNameRealTests(t *testing.T) {
	have := make(map[string]bool)
	for _, s := range sources(t) {
		for _, declaration := range s.tree.Decls {
			if f, is := declaration.(*ast.FuncDecl); is && s.isTest() {
				have[f.Name.Name] = true
			}
		}
	}
	documents, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	if err != nil || len(documents) == 0 {
		t.Fatalf("no documents: %v", err)
	}
	named := regexp.MustCompile("`((?:Test|Fuzz)[A-Z]\\w*)`")
	found := 0
	for _, path := range append(documents, filepath.Join(root, "README.md")) {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range named.FindAllStringSubmatch(string(text), -1) {
			found++
			if !have[match[1]] {
				t.Errorf("%s names %s, which does not exist", strings.TrimPrefix(path, root+"/"), match[1])
			}
		}
	}
	if found == 0 {
		t.Error("no document names any test")
	}
}
