package arch

import (
	"go/ast"
	"go/token"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/qemu-reconciler/qemu-reconciler/internal/crash"
)

// The crash points of the table and those of the code are the same, each at one
// place: a name tells where a death was.
func TestCrashPointsAreThoseOfTheTable(t *testing.T) {
	places := make(map[string][]string)
	for _, s := range sources(t) {
		if _, product := floors[s.dir()]; !product || s.isTest() || s.dir() == "internal/crash" {
			continue
		}
		ast.Inspect(s.tree, func(n ast.Node) bool {
			call, is := n.(*ast.CallExpr)
			if !is || !isCrashCall(call) {
				return true
			}
			place := s.path + ":" + strconv.Itoa(s.files.Position(call.Pos()).Line)
			literal, is := call.Args[0].(*ast.BasicLit)
			if !is || literal.Kind != token.STRING {
				t.Errorf("%s: the name of a crash point is no literal: no test could find it", place)
				return true
			}
			name, err := strconv.Unquote(literal.Value)
			if err != nil {
				t.Fatal(err)
			}
			places[name] = append(places[name], place)
			return true
		})
	}
	for i, point := range crash.Points {
		switch at := places[point.Name]; {
		case slices.ContainsFunc(crash.Points[:i], func(p crash.Named) bool { return p.Name == point.Name }):
			t.Errorf("the table has %q twice", point.Name)
		case point.Means == "" || !strings.Contains(point.Name, "."):
			t.Errorf("%q lacks a family or a meaning", point.Name)
		case len(at) == 0:
			t.Errorf("no code passes crash point %q", point.Name)
		case len(at) > 1:
			t.Errorf("crash point %q is at several places: %v", point.Name, at)
		}
		delete(places, point.Name)
	}
	for name, at := range places {
		t.Errorf("%v: crash point %q is not in the table of internal/crash", at, name)
	}
}

func isCrashCall(call *ast.CallExpr) bool {
	function, is := call.Fun.(*ast.SelectorExpr)
	if !is || len(call.Args) == 0 {
		return false
	}
	from, is := function.X.(*ast.Ident)
	return is && from.Name == "crash"
}
