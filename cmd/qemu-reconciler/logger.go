package main

import (
	"fmt"
	"io"

	"github.com/hashicorp/go-hclog"

	"github.com/qemu-reconciler/qemu-reconciler/spec"
)

// newLogger writes one line per thing that happened. flag is --log-level, or
// empty.
func newLogger(w io.Writer, flag string, config *spec.DaemonConfig, s style) hclog.Logger {
	colour := hclog.ColorOff
	if s.colour {
		colour = hclog.ForceColor
	}
	return hclog.New(&hclog.LoggerOptions{
		Level: logLevel(flag, config), Output: w, JSONFormat: config.LogFormat == "json", Color: colour, ColorHeaderOnly: true,
	})
}

// logLevel is the flag's, else config.hcl's. Both were checked when they were
// read.
func logLevel(flag string, config *spec.DaemonConfig) hclog.Level {
	word := config.LogLevel
	if flag != "" {
		word = flag
	}
	if level := hclog.LevelFromString(word); level != hclog.NoLevel {
		return level
	}
	return hclog.Info
}

// checkLevel refuses a word that is no log level.
func checkLevel(word string) error {
	if hclog.LevelFromString(word) == hclog.NoLevel {
		return fmt.Errorf("unknown log level %q: one of trace, debug, info, warn, error, off", word)
	}
	return nil
}
