package main

import (
	"errors"
	"os"
	"strconv"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"qemu-reconciler": main})
}

// TestScripts runs the stories of testdata/script with the real program. Each
// gets directories of its own through the environment.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("PATH", os.Getenv("PATH"))
			// The race detector sleeps a second at every exit unless told.
			env.Setenv("GORACE", "atexit_sleep_ms=0")
			env.Setenv("QEMU_RECONCILER_CONFIG", "")
			env.Setenv("XDG_CONFIG_HOME", env.WorkDir+"/config")
			env.Setenv("QEMU_RECONCILER_VMS_DIR", env.WorkDir+"/vms.d")
			env.Setenv("QEMU_RECONCILER_STATE_DIR", env.WorkDir+"/state")
			env.Setenv("QEMU_RECONCILER_RUN_DIR", env.WorkDir+"/run")
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){"exits": exits},
	})
}

// exits runs a command that must end with a code: `exits 3 qemu-reconciler
// status --check`. Its output is there for stdout and stderr.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND [ARG...]")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	code := 0
	var ended interface{ ExitCode() int }
	if err := ts.Exec(args[1], args[2:]...); errors.As(err, &ended) {
		code = ended.ExitCode()
	} else {
		ts.Check(err)
	}
	if code != want {
		ts.Fatalf("exit code %d, want %d", code, want)
	}
}
