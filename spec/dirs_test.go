package spec

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func surroundings(root bool, env map[string]string) Surroundings {
	return Surroundings{Root: root, Getenv: func(name string) string { return env[name] }, WorkDir: "/cwd"}
}

func TestDirs(t *testing.T) {
	home := map[string]string{"HOME": "/home/u"}
	xdg := map[string]string{"HOME": "/home/u", "XDG_CONFIG_HOME": "/c", "XDG_STATE_HOME": "/s", "XDG_RUNTIME_DIR": "/r"}
	tests := []struct {
		name   string
		root   bool
		env    map[string]string
		flags  Dirs
		config Dirs
		want   Dirs
	}{
		{"root", true, xdg, Dirs{}, Dirs{},
			Dirs{"/etc/qemu-reconciler/vms.d", "/var/lib/qemu-reconciler", "/run/qemu-reconciler"}},
		{"user", false, xdg, Dirs{}, Dirs{},
			Dirs{"/c/qemu-reconciler/vms.d", "/s/qemu-reconciler", "/r/qemu-reconciler"}},
		{"XDG's own fallbacks", false, home, Dirs{}, Dirs{},
			Dirs{"/home/u/.config/qemu-reconciler/vms.d", "/home/u/.local/state/qemu-reconciler", "/home/u/.local/state/qemu-reconciler/run"}},
		{"relative XDG values are ignored", false, map[string]string{"HOME": "/home/u", "XDG_CONFIG_HOME": "c", "XDG_STATE_HOME": "s", "XDG_RUNTIME_DIR": "r"}, Dirs{}, Dirs{},
			Dirs{"/home/u/.config/qemu-reconciler/vms.d", "/home/u/.local/state/qemu-reconciler", "/home/u/.local/state/qemu-reconciler/run"}},
		{"sockets go below a state directory that was chosen", false, home, Dirs{State: "/state"}, Dirs{},
			Dirs{"/home/u/.config/qemu-reconciler/vms.d", "/state", "/state/run"}},
		{"config beats the default", true, nil, Dirs{}, Dirs{"/cv", "/cs", "/cr"}, Dirs{"/cv", "/cs", "/cr"}},
		{"environment beats config", true,
			map[string]string{"QEMU_RECONCILER_VMS_DIR": "/ev", "QEMU_RECONCILER_STATE_DIR": "es", "QEMU_RECONCILER_RUN_DIR": "/er/"},
			Dirs{}, Dirs{"/cv", "/cs", "/cr"}, Dirs{"/ev", "/cwd/es", "/er"}},
		{"a flag beats all", true,
			map[string]string{"QEMU_RECONCILER_VMS_DIR": "/ev", "QEMU_RECONCILER_STATE_DIR": "/es", "QEMU_RECONCILER_RUN_DIR": "/er"},
			Dirs{"fv", "/fs", "../fr"}, Dirs{"/cv", "/cs", "/cr"}, Dirs{"/cwd/fv", "/fs", "/fr"}},
		{"nothing is needed of HOME when all are named", false, nil, Dirs{"/v", "/s", "/r"}, Dirs{}, Dirs{"/v", "/s", "/r"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			config := DefaultConfig()
			config.Dirs = test.config
			got, err := surroundings(test.root, test.env).Dirs(test.flags, config)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestDirsWithoutHome(t *testing.T) {
	nowhere := surroundings(false, nil)
	if _, err := nowhere.Dirs(Dirs{}, nil); !errors.Is(err, ErrNoHome) {
		t.Errorf("directories: %v", err)
	}
	if _, _, err := nowhere.ConfigPath(""); !errors.Is(err, ErrNoHome) {
		t.Errorf("config: %v", err)
	}
}

func TestConfigPath(t *testing.T) {
	tests := []struct {
		name, flag string
		root       bool
		env        map[string]string
		want       string
		given      bool
	}{
		{"root", "", true, nil, "/etc/qemu-reconciler/config.hcl", false},
		{"user", "", false, map[string]string{"HOME": "/h"}, "/h/.config/qemu-reconciler/config.hcl", false},
		{"XDG", "", false, map[string]string{"XDG_CONFIG_HOME": "/c"}, "/c/qemu-reconciler/config.hcl", false},
		{"environment", "", true, map[string]string{"QEMU_RECONCILER_CONFIG": "e.hcl"}, "/cwd/e.hcl", true},
		{"flag", "/f.hcl", true, map[string]string{"QEMU_RECONCILER_CONFIG": "e.hcl"}, "/f.hcl", true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, given, err := surroundings(test.root, test.env).ConfigPath(test.flag)
			if err != nil || got != test.want || given != test.given {
				t.Errorf("got %q given %v error %v, want %q given %v", got, given, err, test.want, test.given)
			}
		})
	}
}
