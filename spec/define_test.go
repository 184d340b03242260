package spec

import (
	"reflect"
	"sync"
	"testing"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"
)

const twoBound = `
task "a" {
  config {
    image_path = "/a"
    args       = ["-append", join(" ", [for n in range(20) : "${n}=${port.ssh}"])]
  }
  resources {
    network {
      port "ssh" {}
    }
  }
}
task "b" {
  config {
    image_path = "/b-${NOMAD_HOST_PORT_ssh}"
    port_map   = { ssh = 22 }
  }
}
task "c" {
  config {
    image_path = "/c-${NOMAD_PORT_ssh}"
    port_map   = { ssh = 22 }
  }
}
`

// TestBind holds that Bind may be called by several goroutines and any number
// of times, and leaves what it gave before as it was.
func TestBind(t *testing.T) {
	s := Parse("x.hcl", []byte(twoBound), Env{Dir: "/", HostName: "h", HostArch: "x86_64"})
	if len(s.Definitions) != 3 {
		t.Fatalf("errors: %v", s.Errors)
	}
	a, b, c := s.Definitions[0], s.Definitions[1], s.Definitions[2]
	if b.Task.Config.ImagePath != "/b-0" {
		t.Errorf("unallocated: %s", b.Task.Config.ImagePath)
	}
	if bound, _ := c.Bind(map[string]int{"ssh": 20000}); bound != c.Task {
		t.Error("a task that asks for no allocated port was decoded again")
	}
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			// More than the file's budget would allow, were it not renewed.
			for range 200 {
				if _, diags := a.Bind(map[string]int{"ssh": 20001}); len(diags) > 0 {
					t.Errorf("bind: %v", diags)
					return
				}
				if bound, _ := b.Bind(map[string]int{"ssh": 20002}); bound == nil || bound.Config.ImagePath != "/b-20002" {
					t.Errorf("bound: %+v", bound)
				}
			}
		})
	}
	group.Wait()
	if b.Task.Config.ImagePath != "/b-0" {
		t.Errorf("Bind changed the definition: %s", b.Task.Config.ImagePath)
	}
	if bound, diags := b.Bind(nil); bound == nil || bound.Config.ImagePath != "/b-0" {
		t.Errorf("bound to nothing: %v, %v", bound, diags)
	}
}

// TestDiagnose holds where diagnostics about fields are placed.
func TestDiagnose(t *testing.T) {
	s := Parse("x.hcl", []byte(twoBound), Env{Dir: "/", HostName: "h", HostArch: "x86_64"})
	tests := []struct {
		field        string
		line, column int
	}{
		{"config.image_path", 4, 18},
		{"config.args", 5, 18},
		{"config.args.0", 5, 19},
		{"config.args.1", 5, 30},
		{"config.accelerator", 3, 3},
		{"resources.network.port.ssh.static", 9, 7},
		{"resources.network.port.http", 8, 5},
		{"restart.delay", 2, 6},
		{"", 2, 6},
	}
	for _, tt := range tests {
		d := s.Definitions[0].Diagnose(tt.field, "summary", "detail")
		if d.Line != tt.line || d.Column != tt.column || d.File != "x.hcl" || d.Task != "a" || d.Excerpt == "" {
			t.Errorf("%q is at %d:%d, want %d:%d (%+v)", tt.field, d.Line, d.Column, tt.line, tt.column, d)
		}
	}
	if d := s.Definitions[1].Diagnose("config.port_map.ssh", "s", "d"); d.Line != 16 || d.Column != 26 {
		t.Errorf("an entry of a map is at %d:%d", d.Line, d.Column)
	}
}

// TestPanic holds that a panic of the libraries is a diagnostic of the task.
func TestPanic(t *testing.T) {
	label := hcl.Range{Start: hcl.Pos{Line: 2, Column: 3, Byte: 4}, End: hcl.Pos{Line: 2, Column: 5, Byte: 6}}
	w := &written{name: "a", file: &file{}, places: newPlaces("x.hcl", []byte("#\n  abc\n"), label)}
	out := w.guarded(func() outcome { panic("broken") })
	if out.task != nil || len(out.errors) != 1 || out.errors[0].Line != 2 || out.errors[0].Excerpt != "  abc" {
		t.Errorf("%+v", out)
	}
}

// TestSchemaMatchesTask holds that every word of the schema has a field of
// Task, and every field a word.
func TestSchemaMatchesTask(t *testing.T) {
	task, err := toTask("x", fullest(taskSchema))
	if err != nil {
		t.Fatal(err)
	}
	var unset func(path string, v reflect.Value)
	unset = func(path string, v reflect.Value) {
		switch v.Kind() {
		case reflect.Struct:
			for i := range v.NumField() {
				unset(join(path, v.Type().Field(i).Name), v.Field(i))
			}
		case reflect.Slice:
			if v.Len() > 0 {
				unset(path+".0", v.Index(0))
				return
			}
			fallthrough
		default:
			if v.IsZero() {
				t.Errorf("%s has no word in the schema", path)
			}
		}
	}
	unset("", reflect.ValueOf(*task))
}

// fullest is a block in which everything is written.
func fullest(b block) cty.Value {
	samples := map[cty.Type]cty.Value{
		cty.String: cty.StringVal("1s"), cty.Number: cty.NumberIntVal(1), cty.Bool: cty.True,
		stringList: cty.ListVal([]cty.Value{cty.StringVal("a")}),
		stringMap:  cty.MapVal(map[string]cty.Value{"a": cty.StringVal("b")}),
		numberMap:  cty.MapVal(map[string]cty.Value{"a": cty.NumberIntVal(1)}),
	}
	values := map[string]cty.Value{}
	if b.many {
		values[labelKey] = cty.StringVal("a")
	}
	for _, a := range b.attributes {
		values[a.name] = samples[a.kind]
	}
	for _, inner := range b.blocks {
		values[inner.name] = fullest(inner)
		if inner.many {
			values[inner.name] = cty.TupleVal([]cty.Value{fullest(inner)})
		}
	}
	return cty.ObjectVal(values)
}

func BenchmarkParse(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		Parse("x.hcl", []byte(twoBound), Env{Dir: "/", HostName: "h", HostArch: "x86_64"})
	}
}
