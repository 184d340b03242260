package arch

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const (
	module = "github.com/qemu-reconciler/qemu-reconciler"
	root   = "../.."

	maxFunctionLines = 70
	maxFileLines     = 350
)

// floors numbers the packages of the product from the top down: one may import
// only those below it. What is not listed is not part of the product and may
// be imported by tests alone.
var floors = map[string]int{"cmd/qemu-reconciler": 4, "reconcile": 3, "runtime": 2, "spec": 1, "internal/crash": 0}

// allowed says for each package that does things to the world where it may be
// imported: in whole directories, or in single files.
var allowed = map[string][]string{
	"os/exec":                            {"runtime/"},
	"net":                                {"runtime/"},
	"net/http":                           {"cmd/qemu-reconciler/"},
	"golang.org/x/sys/unix":              {"runtime/"},
	"syscall":                            {"runtime/", "cmd/qemu-reconciler/", "spec/read.go", "internal/crash/"},
	"github.com/fsnotify/fsnotify":       {"reconcile/watch.go"},
	"github.com/mitchellh/mapstructure":  {"spec/decode.go", "runtime/monitor.go"},
	"github.com/spf13/cobra":             {"cmd/qemu-reconciler/"},
	"github.com/hashicorp/hcl/v2":        {"spec/"},
	"github.com/hashicorp/hcl/v2/hcldec": {"spec/"},
	module + "/internal/crash":           {"runtime/", "reconcile/"},
}

// source is a parsed Go file.
type source struct {
	path  string // relative to the root, with slashes
	files *token.FileSet
	tree  *ast.File
}

func (s source) dir() string { return path.Dir(s.path) }

func (s source) isTest() bool { return strings.HasSuffix(s.path, "_test.go") }

func (s source) imports() []string {
	var paths []string
	for _, spec := range s.tree.Imports {
		unquoted, err := strconv.Unquote(spec.Path.Value)
		if err == nil {
			paths = append(paths, unquoted)
		}
	}
	return paths
}

func (s source) lines(n ast.Node) int {
	return s.files.Position(n.End()).Line - s.files.Position(n.Pos()).Line + 1
}

// sources parses every Go file of the tree.
func sources(t *testing.T) []source {
	t.Helper()
	var all []source
	err := filepath.WalkDir(root, func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && slices.Contains([]string{".git", "bin", "build", "testdata"}, entry.Name()):
			return filepath.SkipDir
		case entry.IsDir() || filepath.Ext(name) != ".go":
			return nil
		}
		files := token.NewFileSet()
		tree, err := parser.ParseFile(files, name, nil, parser.ParseComments)
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(root, name)
		all = append(all, source{path: filepath.ToSlash(relative), files: files, tree: tree})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 20 {
		t.Fatalf("only %d Go files found: looked in the wrong place", len(all))
	}
	return all
}

func TestImportsRunOneWay(t *testing.T) {
	for _, s := range sources(t) {
		floor, product := floors[s.dir()]
		if !product || s.isTest() {
			continue
		}
		for _, imported := range s.imports() {
			inside, ours := strings.CutPrefix(imported, module+"/")
			if !ours {
				continue
			}
			if below, known := floors[inside]; !known || below >= floor {
				t.Errorf("%s imports %s, which is not below it", s.path, inside)
			}
		}
	}
}

func TestOnlyTheRoomsThatMayTouchTheWorldDo(t *testing.T) {
	for _, s := range sources(t) {
		if _, product := floors[s.dir()]; !product || s.isTest() {
			continue
		}
		for _, imported := range s.imports() {
			places, restricted := allowed[imported]
			if restricted && !slices.ContainsFunc(places, func(place string) bool { return strings.HasPrefix(s.path, place) }) {
				t.Errorf("%s imports %s, which belongs to %s", s.path, imported, strings.Join(places, ", "))
			}
		}
	}
}

func TestEveryDependencyIsUsedWhereItBelongs(t *testing.T) {
	used := make(map[string]bool)
	for _, s := range sources(t) {
		for _, imported := range s.imports() {
			used[imported] = used[imported] || !s.isTest()
		}
	}
	for _, wanted := range []string{"github.com/fsnotify/fsnotify", "github.com/hashicorp/hcl/v2", "github.com/hashicorp/hcl/v2/hcldec",
		"github.com/coreos/go-semver/semver", "github.com/hashicorp/go-hclog", "github.com/mitchellh/mapstructure"} {
		if !used[wanted] {
			t.Errorf("nothing imports %s", wanted)
		}
	}
}

func TestFilesAndFunctionsAreShort(t *testing.T) {
	for _, s := range sources(t) {
		if s.isTest() {
			continue
		}
		if lines := s.files.File(s.tree.Pos()).LineCount(); lines > maxFileLines {
			t.Errorf("%s has %d lines; at most %d", s.path, lines, maxFileLines)
		}
		for _, declaration := range s.tree.Decls {
			f, is := declaration.(*ast.FuncDecl)
			if is && s.lines(f) > maxFunctionLines {
				t.Errorf("%s: %s has %d lines; at most %d", s.path, f.Name.Name, s.lines(f), maxFunctionLines)
			}
		}
	}
}

func TestEveryPackageSaysWhatItIsFor(t *testing.T) {
	documented := make(map[string]bool)
	for _, s := range sources(t) {
		says := path.Base(s.path) == "doc.go" && s.tree.Doc != nil
		documented[s.dir()] = documented[s.dir()] || says
	}
	for dir, says := range documented {
		if !says {
			t.Errorf("%s has no doc.go with a package comment", dir)
		}
	}
}
