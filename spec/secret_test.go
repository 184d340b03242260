package spec

import (
	"fmt"
	"strings"
	"testing"
)

// TestEnvIsNeverShown breaks files at every place in and near an env, and as a
// whole: no diagnostic repeats what is secret.
func TestEnvIsNeverShown(t *testing.T) {
	const rest = "\n  config { image_path = \"/a\" }\n}\n"
	for _, src := range []string{
		"task \"a\" {\n  env { A = \"geheim }" + rest,
		"task \"a\" {\n  env {\n    A = \"geheim\n    B = 1\n  }" + rest,
		"task \"a\" {\n  env {\n    A = \"geheim\"\n    B = = \"geheim\"\n  }" + rest,
		"task \"a\" {\n  env = { A = \"geheim\" B = \"geheim\" }" + rest,
		"task \"a\" {\n  env = { A = \"geheim\"\n" + rest,
		"task \"a\" {\n  env = {\n    A = \"\\geheim\"\n  }" + rest,
		"task \"a\" {\n  env = {\n    A : \"x\"\n  }}\n    B : \"geheim\"\n  }" + rest,
		"task \"a\" {\n  env {\n    \"A\" = \"geheim\"\n  }" + rest,
		"task \"a\" {\n  env {\n    A \"geheim\"\n  }" + rest,
		"task \"a\" {\n  env {\n    A = <<EOT\ngeheim\nEOT\n    B = ${geheim}\n  }" + rest,
		"task \"a\" {\n  Env { A = \"geheim\" ]" + rest,
		"task \"a\" {\n  env {\n    A = geheim\n  }" + rest,
		"task \"a\" {\n  env = { A = geheim.geheim, B = local.geheim, C = \"${geheim}\" }" + rest,
		"task \"a\" {\n  env {\n    A = geheim(\"geheim\")\n    B = tonumber(\"geheim\")\n    C = file(\"geheim\")\n  }" + rest,
		"task \"a\" {\n  env {\n    A = jsondecode(\"{geheim\")\n    B = regex(\"[geheim\", \"\")\n    C = format(\"%d\", \"geheim\")\n  }" + rest,
		"task \"a\" {\n  env {\n    A = {\"x\" = 1}[\"geheim\"]\n    B = [1].geheim\n  }" + rest,
		"task \"a\" {\n  env = { \"A=geheim\" = \"\", \"B=geheim\" = null, \"C=geheim\" = \"\\u0001\" }" + rest,
		"task \"a\" {\n  env = \"geheim\"" + rest,
		"task \"a\" {\n  evn = { A = \"geheim\" }" + rest,
		"task \"a\" {\n  environment { A = \"geheim\" }" + rest,
		"task \"a\" {\n  config { env = { A = \"geheim\" } }" + rest,
		"env { A = \"geheim\" }\n",
		"job \"x\" { group \"g\" { env { A = \"geheim\" } } }\n",
	} {
		source := Parse("a.hcl", []byte(src), Env{Dir: t.TempDir(), HostName: "h", HostArch: "x86_64"})
		if len(source.Errors) == 0 {
			t.Errorf("no error in:\n%s", src)
		}
		for _, d := range source.Errors {
			var b strings.Builder
			d.Render(&b, false)
			if text := b.String() + fmt.Sprintf("%+v", d); strings.Contains(text, "geheim") {
				t.Errorf("%s\nsays:\n%s", src, text)
			}
		}
	}
}

// TestExcerptBesideEnv holds that what is not secret is shown as ever.
func TestExcerptBesideEnv(t *testing.T) {
	for _, src := range []string{
		"task \"a\" {\n  memroy = 5\n  env { A = \"geheim\" }\n  config { image_path = \"/a\" }\n}\n",
		"task \"a\" {\n  memroy = = 5\n  env { A = \"geheim\" }\n}\n",
		"task \"a\" {\n  memroy = 5\n  environs_of = 3\n  config { image_path = \"/a\" }\n}\n",
	} {
		source := Parse("a.hcl", []byte(src), Env{Dir: t.TempDir(), HostName: "h", HostArch: "x86_64"})
		if len(source.Errors) == 0 || !strings.Contains(source.Errors[0].Excerpt, "memroy") {
			t.Errorf("no excerpt: %+v", source.Errors)
		}
	}
}
