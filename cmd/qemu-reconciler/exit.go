package main

import (
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/qemu-reconciler/qemu-reconciler/spec"
)

// The exit codes that scripts rely on. Usage errors are sysexits' EX_USAGE.
const (
	exitOK           = 0
	exitFailed       = 1
	exitChanges      = 2
	exitNotConverged = 3
	exitNoDaemon     = 5
	exitUsage        = 64
)

// exitError ends the program with a code. A nil err says that everything there
// is to say was printed already.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// silently gives the error that only carries an exit code.
func silently(code int) error { return &exitError{code: code} }

// usageError is a mistake in the command line, as opposed to one in a file.
type usageError struct {
	cmd *cobra.Command
	err error
}

func (e *usageError) Error() string { return e.err.Error() }

func (e *usageError) Unwrap() error { return e.err }

func usagef(cmd *cobra.Command, format string, args ...any) error {
	return &usageError{cmd: cmd, err: fmt.Errorf(format, args...)}
}

// exitCode maps what a command returned to the program's exit code.
func exitCode(err error) int {
	var usage *usageError
	var exit *exitError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &usage):
		return exitUsage
	case errors.As(err, &exit):
		return exit.code
	case isNoDaemon(err):
		return exitNoDaemon
	}
	return exitFailed
}

// report prints an error once, as one sentence, and for a usage error how the
// command is used.
func report(w io.Writer, err error) {
	var usage *usageError
	if errors.As(err, &usage) {
		fmt.Fprintf(w, "qemu-reconciler: %s\n", spec.Printable(usage.Error()))
		fmt.Fprintf(w, "Usage: %s\n", usage.cmd.UseLine())
		fmt.Fprintf(w, "See '%s --help'.\n", usage.cmd.CommandPath())
		return
	}
	var exit *exitError
	if errors.As(err, &exit) && exit.err == nil {
		return
	}
	if err != nil {
		fmt.Fprintf(w, "qemu-reconciler: %s\n", spec.Printable(err.Error()))
	}
}
