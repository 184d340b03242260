package spec

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
)

var updateGolden = flag.Bool("update-load", false, "rewrite what is expected in testdata/config, load and rules")

// rendered is what a person would read.
func rendered(diagnostics []Diagnostic) string {
	var b strings.Builder
	for _, d := range diagnostics {
		d.Render(&b, false)
	}
	return b.String()
}

// golden compares got with a part of an archive, or rewrites that part.
func golden(t *testing.T, path string, archive *txtar.Archive, part, got string) {
	t.Helper()
	for i := range archive.Files {
		if archive.Files[i].Name != part {
			continue
		}
		if *updateGolden {
			archive.Files[i].Data = []byte(got)
			if err := os.WriteFile(path, txtar.Format(archive), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if diff := cmp.Diff(string(archive.Files[i].Data), got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", part, diff)
		}
		return
	}
	t.Fatalf("%s has no part %q", path, part)
}

// archives runs a subtest for every archive in a directory below testdata.
func archives(t *testing.T, dir string, run func(t *testing.T, path string, archive *txtar.Archive)) {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join("testdata", dir, "*.txtar"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no archives in testdata/%s: %v", dir, err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(path)
			if err != nil {
				t.Fatal(err)
			}
			run(t, path, archive)
		})
	}
}

// TestConfigErrors reads each config.hcl of testdata/config and compares what
// a person would be told.
func TestConfigErrors(t *testing.T) {
	archives(t, "config", func(t *testing.T, path string, archive *txtar.Archive) {
		_, diagnostics := parseConfig("config.hcl", archive.Files[0].Data)
		golden(t, path, archive, "want", rendered(diagnostics))
	})
}

func TestConfigValues(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.hcl")
	src := `
# every key that this version heeds
vms_dir         = "/v/"
state_dir       = "/s"
run_dir         = "/r"
host_name       = "host-1.example.org"
log_level       = "debug"
log_format      = "json"
resync_interval = "1m30s"
dynamic_ports   = "30000-30010"
max_parallel    = "8"
log_max_size    = "64KiB"
sandbox         = "false"
`
	if err := os.WriteFile(path, []byte(src), 0o644); err != nil {
		t.Fatal(err)
	}
	got, diagnostics := LoadConfig(path, true)
	if len(diagnostics) > 0 {
		t.Fatal(rendered(diagnostics))
	}
	want := &DaemonConfig{
		Dirs: Dirs{VMs: "/v", State: "/s", Run: "/r"}, HostName: "host-1.example.org", LogLevel: "debug", LogFormat: "json",
		ResyncInterval: 90 * time.Second, DynamicPorts: PortRange{30000, 30010}, MaxParallel: 8, LogMaxSize: 64 << 10, Sandbox: false,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestConfigMissing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.hcl")
	got, diagnostics := LoadConfig(path, false)
	if len(diagnostics) > 0 {
		t.Error(rendered(diagnostics))
	}
	if diff := cmp.Diff(DefaultConfig(), got); diff != "" {
		t.Error(diff)
	}
	if _, diagnostics = LoadConfig(path, true); len(diagnostics) != 1 || diagnostics[0].File != path {
		t.Errorf("a config that was asked for and is missing: %v", diagnostics)
	}
	if err := os.Symlink("nowhere", path); err != nil {
		t.Fatal(err)
	}
	if _, diagnostics = LoadConfig(path, false); len(diagnostics) != 1 || diagnostics[0].Summary != "Dangling symlink" {
		t.Errorf("a config that leads nowhere: %v", diagnostics)
	}
}

func TestParseSize(t *testing.T) {
	tests := map[string]int64{
		"10MiB": 10 << 20, "64 KiB": 64 << 10, "1GiB": 1 << 30, "2TiB": 2 << 40, "4096": 4096, "512B": 512,
		"1.5KiB": 1536, "3MB": 3e6, " 1KB ": 1000,
		"": -1, "MiB": -1, "ten": -1, "-1KiB": -1, "10 MiB/s": -1, "1e30": -1, "NaN": -1, "Inf": -1, "10mib": -1,
	}
	for text, want := range tests {
		got, ok := parseSize(text)
		if !ok {
			got = -1
		}
		if got != want {
			t.Errorf("parseSize(%q) = %d, want %d", text, got, want)
		}
	}
}

// FuzzConfig holds that no config makes the parser panic, and that values
// within bounds are all that ever comes out.
func FuzzConfig(f *testing.F) {
	for _, src := range []string{"", `dynamic_ports = "1-2"`, `log_max_size = 1e99`, `max_parallel = 0.5`, "a {}", "\xff", `vms_dir = "/a\u0000"`, `listen = null`} {
		f.Add([]byte(src))
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		c, _ := parseConfig("config.hcl", src)
		ports := c.DynamicPorts
		if ports.First < 1 || ports.First > ports.Last || ports.Last > 65535 {
			t.Errorf("ports %v", ports)
		}
		if c.ResyncInterval < minResync || c.LogMaxSize < minLogSize || c.MaxParallel < 0 || c.MaxParallel > maxParallel {
			t.Errorf("out of bounds: %+v", c)
		}
		for _, dir := range []string{c.Dirs.VMs, c.Dirs.State, c.Dirs.Run} {
			if dir != "" && !filepath.IsAbs(dir) {
				t.Errorf("relative directory %q", dir)
			}
		}
	})
}
