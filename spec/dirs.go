package spec

import (
	"cmp"
	"errors"
	"path/filepath"
)

// programName is the last part of every default directory.
const programName = "qemu-reconciler"

// Dirs are the directories of one daemon. In a result they are absolute; as
// flags or in config.hcl an empty one was not given.
type Dirs struct {
	// VMs holds the task files, State the records, logs and events, and Run
	// the sockets.
	VMs, State, Run string
}

// SystemDirs are the defaults of a daemon that runs as root.
func SystemDirs() Dirs {
	return Dirs{VMs: "/etc/" + programName + "/vms.d", State: "/var/lib/" + programName, Run: "/run/" + programName}
}

// Surroundings are what the choice of directories depends on beside flags and
// config.hcl.
type Surroundings struct {
	// Root says that the program runs with uid 0.
	Root bool
	// Getenv is os.Getenv or a test's own.
	Getenv func(string) string
	// WorkDir is the absolute path that relative flags and variables begin at.
	WorkDir string
}

// ErrNoHome says that a default directory would be in the home directory and
// that there is none.
var ErrNoHome = errors.New("HOME is not set: set it, or name the directories with flags")

// ConfigPath chooses the daemon's config file: the flag, then
// QEMU_RECONCILER_CONFIG, then the default. given says that somebody named it,
// and that it must exist therefore.
func (s Surroundings) ConfigPath(flag string) (path string, given bool, err error) {
	if path = s.first(flag, "QEMU_RECONCILER_CONFIG", ""); path != "" {
		return path, true, nil
	}
	if s.Root {
		return "/etc/" + programName + "/config.hcl", false, nil
	}
	path, err = s.home("XDG_CONFIG_HOME", ".config", "config.hcl")
	return path, false, err
}

// Dirs chooses each directory: a flag beats the environment, which beats
// config.hcl, which beats the default. config may be nil.
func (s Surroundings) Dirs(flags Dirs, config *DaemonConfig) (Dirs, error) {
	var configured Dirs
	if config != nil {
		configured = config.Dirs
	}
	out := Dirs{
		VMs:   s.first(flags.VMs, "QEMU_RECONCILER_VMS_DIR", configured.VMs),
		State: s.first(flags.State, "QEMU_RECONCILER_STATE_DIR", configured.State),
		Run:   s.first(flags.Run, "QEMU_RECONCILER_RUN_DIR", configured.Run),
	}
	defaults, err := s.defaults(out)
	out.VMs = cmp.Or(out.VMs, defaults.VMs)
	out.State = cmp.Or(out.State, defaults.State)
	out.Run = cmp.Or(out.Run, defaults.Run)
	return out, err
}

// defaults gives the directories that stand in for those that chosen lacks.
// XDG names no fallback for the runtime directory: sockets go below the state
// then, which is as private.
func (s Surroundings) defaults(chosen Dirs) (Dirs, error) {
	if s.Root {
		return SystemDirs(), nil
	}
	var out Dirs
	var err error
	if chosen.VMs == "" {
		if out.VMs, err = s.home("XDG_CONFIG_HOME", ".config", "vms.d"); err != nil {
			return Dirs{}, err
		}
	}
	if chosen.State == "" {
		if out.State, err = s.home("XDG_STATE_HOME", ".local/state", ""); err != nil {
			return Dirs{}, err
		}
	}
	out.Run = filepath.Join(cmp.Or(chosen.State, out.State), "run")
	if base := s.Getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(base) {
		out.Run = filepath.Join(base, programName)
	}
	return out, nil
}

// home gives the program's path below one of XDG's base directories. The XDG
// specification has relative values ignored.
func (s Surroundings) home(variable, fallback, name string) (string, error) {
	if base := s.Getenv(variable); filepath.IsAbs(base) {
		return filepath.Join(base, programName, name), nil
	}
	if home := s.Getenv("HOME"); filepath.IsAbs(home) {
		return filepath.Join(home, fallback, programName, name), nil
	}
	return "", ErrNoHome
}

// first gives the flag, the variable or the configured path, made absolute;
// empty when none of them is set.
func (s Surroundings) first(flag, variable, configured string) string {
	for _, path := range []string{flag, s.Getenv(variable), configured} {
		switch {
		case path == "":
		case filepath.IsAbs(path):
			return filepath.Clean(path)
		default:
			return filepath.Join(s.WorkDir, path)
		}
	}
	return ""
}
