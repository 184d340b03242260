package spec

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hcldec"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// DaemonConfig is config.hcl with its defaults filled in.
type DaemonConfig struct {
	// Dirs are those that the file names; see Surroundings.Dirs for the rest.
	Dirs Dirs
	// HostName stands for the kernel's host name; empty means the kernel's.
	HostName string
	// LogLevel is trace, debug, info, warn or error; default info.
	LogLevel string
	// LogFormat is text or json; default text.
	LogFormat string
	// ResyncInterval is how often the daemon looks at everything without any
	// event; default 30 s.
	ResyncInterval time.Duration
	// DynamicPorts are the host ports that may be allocated; default
	// 20000-32000.
	DynamicPorts PortRange
	// MaxParallel is how many VMs start at once; zero means the daemon's own
	// measured default.
	MaxParallel int
	// MaxRemovals is how many removals within a minute go unasked; nil holds
	// them when they are three or more and more than half of the VMs that ran.
	MaxRemovals *int
	// LogMaxSize is how large a log file may grow, in bytes, before it is
	// rotated; default 10 MiB.
	LogMaxSize int64
	// Sandbox says whether QEMU runs in its seccomp sandbox where it has one;
	// default true.
	Sandbox bool
}

// PortRange is a range of ports, both ends included.
type PortRange struct{ First, Last int }

// DefaultConfig is what an empty config.hcl means.
func DefaultConfig() *DaemonConfig {
	return &DaemonConfig{
		LogLevel:       "info",
		LogFormat:      "text",
		ResyncInterval: 30 * time.Second,
		DynamicPorts:   PortRange{First: 20000, Last: 32000},
		LogMaxSize:     10 << 20,
		Sandbox:        true,
	}
}

// configKey is one attribute of config.hcl.
type configKey struct {
	name string
	typ  cty.Type
	// set puts a value that is neither null nor unknown into the config; the
	// error says what would be right.
	set func(c *DaemonConfig, v cty.Value) error
}

// errNotBuilt is what a key answers that the contract has and this version
// does not heed: to ignore it would be to pretend.
var errNotBuilt = errors.New("not built yet")

// configKeys are all attributes that config.hcl may have.
var configKeys = []configKey{
	{"vms_dir", cty.String, setDir(func(c *DaemonConfig) *string { return &c.Dirs.VMs })},
	{"state_dir", cty.String, setDir(func(c *DaemonConfig) *string { return &c.Dirs.State })},
	{"run_dir", cty.String, setDir(func(c *DaemonConfig) *string { return &c.Dirs.Run })},
	{"host_name", cty.String, setHostName},
	{"log_level", cty.String, setWord(func(c *DaemonConfig) *string { return &c.LogLevel }, "trace", "debug", "info", "warn", "error")},
	{"log_format", cty.String, setWord(func(c *DaemonConfig) *string { return &c.LogFormat }, "text", "json")},
	{"resync_interval", cty.String, setResyncInterval},
	{"dynamic_ports", cty.String, setDynamicPorts},
	{"max_parallel", cty.Number, setMaxParallel},
	{"log_max_size", cty.String, setLogMaxSize},
	{"sandbox", cty.Bool, func(c *DaemonConfig, v cty.Value) error { c.Sandbox = v.True(); return nil }},
	{"image_paths", cty.List(cty.String), answerNotBuilt},
	{"args_allowlist", cty.List(cty.String), answerNotBuilt},
	{"emulators_allowlist", cty.List(cty.String), answerNotBuilt},
	{"max_removals", cty.Number, setMaxRemovals},
	{"listen", cty.String, answerNotBuilt},
}

func answerNotBuilt(*DaemonConfig, cty.Value) error { return errNotBuilt }

// configSpec is the hcldec form of configKeys.
func configSpec() hcldec.ObjectSpec {
	out := hcldec.ObjectSpec{}
	for _, key := range configKeys {
		out[key.name] = &hcldec.AttrSpec{Name: key.name, Type: key.typ}
	}
	return out
}

// LoadConfig reads config.hcl. A missing file means the defaults unless
// mustExist is set. The config is never nil; what an error concerns has its
// default in it.
func LoadConfig(path string, mustExist bool) (*DaemonConfig, []Diagnostic) {
	src, err := readConfig(path)
	if errors.Is(err, fs.ErrNotExist) && !mustExist {
		return DefaultConfig(), nil
	}
	if err != nil {
		problem := &fileProblem{"Cannot read config", withoutPath(err).Error()}
		errors.As(err, &problem)
		return DefaultConfig(), []Diagnostic{problem.diagnostic(path)}
	}
	return parseConfig(path, src)
}

// readConfig reads the file with the care that task files are read with.
func readConfig(path string) ([]byte, error) {
	if _, err := os.Lstat(path); err != nil {
		return nil, err
	}
	src, _, err := readFile(filepath.Clean(path), nil)
	if errors.Is(err, errVanished) {
		return nil, fs.ErrNotExist
	}
	return src, err
}

// parseConfig checks the bytes of a config file; path is only shown.
func parseConfig(path string, src []byte) (*DaemonConfig, []Diagnostic) {
	c := DefaultConfig()
	file, found := hclsyntax.ParseConfig(src, path, hcl.InitialPos)
	if found.HasErrors() {
		return c, convertDiagnostics(found, path, src)
	}
	value, problems := hcldec.Decode(file.Body, configSpec(), nil)
	found = append(found, problems...)
	attributes := file.Body.(*hclsyntax.Body).Attributes
	for _, key := range configKeys {
		attribute := attributes[key.name]
		if attribute == nil || !value.Type().HasAttribute(key.name) {
			continue
		}
		v := value.GetAttr(key.name)
		if v.IsNull() || !v.IsKnown() {
			continue
		}
		if err := key.set(c, v); err != nil {
			found = append(found, configError(attribute, err))
		}
	}
	diagnostics := convertDiagnostics(found, path, src)
	sortByPlace(diagnostics)
	return c, diagnostics
}

// configError places an error of a key: at its value, or at its name when no
// value would do.
func configError(attribute *hclsyntax.Attribute, err error) *hcl.Diagnostic {
	at, summary, detail := attribute.Expr.Range(), fmt.Sprintf("Invalid %s", attribute.Name), sentence(err.Error())
	if errors.Is(err, errNotBuilt) {
		at = attribute.NameRange
		summary = fmt.Sprintf("%s is not built yet", attribute.Name)
		detail = "This version does not heed it. Remove it, so that nobody relies on it."
	}
	return &hcl.Diagnostic{Severity: hcl.DiagError, Summary: summary, Detail: detail, Subject: &at}
}
