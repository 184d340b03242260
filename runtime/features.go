package runtime

import (
	"fmt"

	"github.com/coreos/go-semver/semver"
)

// Features is what of an emulator makes a difference to its command line.
type Features struct {
	Version semver.Version
	// Sandbox says that it was built with a seccomp filter.
	Sandbox bool
}

// gate is one condition that an emulator meets or not.
type gate struct {
	name string
	// since is the first version that has it; zero means that all have.
	since semver.Version
	// option is the command line option that must have been compiled in; empty
	// means none.
	option string
	// enable notes that the gate is open; nil means that no emulator without it
	// can be used at all.
	enable func(*Features)
}

// gates is the one table of what depends on the emulator.
var gates = []gate{
	// The oldest version whose chardevs, fdsets and monitor were judged good
	// enough for what the command line asks of them.
	{name: "QEMU", since: semver.Version{Major: 5, Minor: 2}},
	{name: "sandbox", option: "sandbox", enable: func(f *Features) { f.Sandbox = true }},
}

// judge takes an emulator's version and compiled-in options through the gates.
// The error says which gate that nobody can do without is closed.
func judge(version semver.Version, options map[string]bool) (Features, error) {
	features := Features{Version: version}
	for _, g := range gates {
		open := !version.LessThan(g.since) && (g.option == "" || options[g.option])
		switch {
		case open && g.enable != nil:
			g.enable(&features)
		case !open && g.enable == nil:
			return Features{}, fmt.Errorf("is version %s; %s %s or later is needed", version, g.name, g.since)
		}
	}
	return features, nil
}
