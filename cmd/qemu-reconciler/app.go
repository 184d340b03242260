package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/mattn/go-isatty"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/qemu-reconciler/qemu-reconciler/runtime"
	"github.com/qemu-reconciler/qemu-reconciler/spec"
)

// app is what every command is given: where to write, and the global flags.
type app struct {
	stdout, stderr io.Writer
	configFlag     string
	dirFlags       spec.Dirs
}

func newApp(stdout, stderr io.Writer) *app {
	return &app{stdout: stdout, stderr: stderr}
}

func (a *app) globalFlags(flags *pflag.FlagSet) {
	flags.StringVar(&a.configFlag, "config", "", "daemon config `FILE` (env QEMU_RECONCILER_CONFIG)")
	flags.StringVar(&a.dirFlags.VMs, "vms-dir", "", "`DIR` of the task files (env QEMU_RECONCILER_VMS_DIR)")
	flags.StringVar(&a.dirFlags.State, "state-dir", "", "`DIR` of records, logs and events (env QEMU_RECONCILER_STATE_DIR)")
	flags.StringVar(&a.dirFlags.Run, "run-dir", "", "`DIR` of the sockets (env QEMU_RECONCILER_RUN_DIR)")
}

// setup is what flags, environment and config.hcl come to.
type setup struct {
	// configPath is empty when there is no place for a config file;
	// configGiven says that somebody named it.
	configPath  string
	configGiven bool
	config      *spec.DaemonConfig
	dirs        spec.Dirs
	hostName    string
	// uid is who asks, and system where the system's own directories are.
	uid    int
	system spec.Dirs
}

func (s *setup) layout() runtime.Layout {
	return runtime.Layout{State: s.dirs.State, Run: s.dirs.Run}
}

func (s *setup) controlSocket() string { return s.layout().ControlSocket() }

// client is the way to the daemon.
func (s *setup) client() *client {
	c := newClient(s.controlSocket())
	c.holder = func(ctx context.Context) int {
		snapshot, err := runtime.View(ctx, s.layout())
		if err != nil {
			return 0
		}
		return snapshot.DaemonPID
	}
	return c
}

// settle reads config.hcl and chooses the directories. Mistakes in config.hcl
// are printed as diagnostics, and are an error.
func (a *app) settle() (*setup, error) { return a.settleOn(a.readConfig) }

// settleAnyway is for a command that only looks: mistakes in config.hcl are
// printed, and what is right in it counts. One that cannot be read is an error
// all the same.
func (a *app) settleAnyway() (*setup, error) {
	return a.settleOn(func(path string, given bool) (*spec.DaemonConfig, error) {
		config, diags := loadConfig(path, given)
		if slices.ContainsFunc(diags, func(d spec.Diagnostic) bool { return d.Line == 0 }) {
			return a.readConfig(path, given)
		}
		for _, d := range diags {
			d.Render(a.stderr, a.errStyle().colour)
		}
		return config, nil
	})
}

// settleOn is settle with its way to read config.hcl.
func (a *app) settleOn(readConfig func(path string, given bool) (*spec.DaemonConfig, error)) (*setup, error) {
	workDir, err := os.Getwd()
	if err != nil {
		return nil, fmt.Errorf("the working directory is gone: %w; change to one that exists", err)
	}
	uid := os.Geteuid()
	around := spec.Surroundings{Root: uid == 0, Getenv: os.Getenv, WorkDir: workDir}
	s := &setup{uid: uid, system: spec.SystemDirs()}
	// Without a home there is no default config file, which may be all right.
	s.configPath, s.configGiven, _ = around.ConfigPath(a.configFlag)
	if s.config, err = readConfig(s.configPath, s.configGiven); err != nil {
		return nil, err
	}
	if s.dirs, err = around.Dirs(a.dirFlags, s.config); err != nil {
		return nil, err
	}
	if s.hostName = s.config.HostName; s.hostName == "" {
		if s.hostName, err = os.Hostname(); err != nil {
			return nil, fmt.Errorf("the kernel's host name: %w; set host_name in config.hcl", err)
		}
	}
	return s, nil
}

// readConfig gives config.hcl, or its diagnostics on stderr and an error.
func (a *app) readConfig(path string, given bool) (*spec.DaemonConfig, error) {
	config, diags := loadConfig(path, given)
	broken := 0
	for _, d := range diags {
		d.Render(a.stderr, a.errStyle().colour)
		if d.Severity == spec.SeverityError {
			broken++
		}
	}
	if broken > 0 {
		return nil, fmt.Errorf("%s has %s: mend it and try again", path, plural(broken, "error", "errors"))
	}
	return config, nil
}

// loadConfig is spec.LoadConfig for a path that may be empty.
func loadConfig(path string, given bool) (*spec.DaemonConfig, []spec.Diagnostic) {
	if path == "" {
		return spec.DefaultConfig(), nil
	}
	return spec.LoadConfig(path, given)
}

// style is the colours of stdout: none unless a person looks at it.
func (a *app) style() style { return styleFor(a.stdout, os.Getenv) }

func (a *app) errStyle() style { return styleFor(a.stderr, os.Getenv) }

// styleFor follows no-color.org: any value of NO_COLOR but the empty one.
func styleFor(w io.Writer, getenv func(string) string) style {
	return style{colour: isTerminal(w, getenv) && getenv("NO_COLOR") == ""}
}

// isTerminal says whether w understands more than text.
func isTerminal(w io.Writer, getenv func(string) string) bool {
	f, ok := w.(*os.File)
	return ok && isatty.IsTerminal(f.Fd()) && getenv("TERM") != "dumb"
}

func (a *app) printJSON(v any) error {
	enc := json.NewEncoder(a.stdout)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

func jsonFlag(cmd *cobra.Command, to *bool) {
	cmd.Flags().BoolVar(to, "json", false, "print JSON")
}
