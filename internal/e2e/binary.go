package e2e

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
)

// Root is the top of the tree, as seen from this package's tests.
const Root = "../.."

// atOnce is how many tests run at the same time, unless -parallel says
// otherwise: they wait for guests and timers far more than they compute.
const atOnce = "8"

// built is the program under test, which is built once a test binary.
var built, later, crashing build

// laterVersion is what the second build of the program says it is.
const laterVersion = "v99.1.2"

// build is one build of the program.
type build struct {
	once sync.Once
	dir  string
	err  error
}

// Main is TestMain for packages that use this one: it removes the programs that
// were built. As the emulator of a task it is a stand-in for QEMU, and it launches
// programs whose system calls are counted.
func Main(m *testing.M) {
	if path := os.Getenv(callsSocket); path != "" {
		fmt.Fprintln(os.Stderr, launchCounted(path, os.Args[1:]))
		os.Exit(1)
	}
	if mode := os.Getenv(standInMode); mode != "" {
		fmt.Fprintln(os.Stderr, standIn(mode, os.Args[1:]))
		os.Exit(1)
	}
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if !given {
		if err := flag.Set("test.parallel", atOnce); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, os.Interrupt, syscall.SIGTERM)
	go func() {
		fmt.Fprintln(os.Stderr, <-interrupted)
		endDaemons()
		os.Exit(1)
	}()
	code := m.Run()
	for _, b := range []*build{&built, &later, &crashing} {
		if b.dir == "" {
			continue
		}
		if err := os.RemoveAll(b.dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}
	os.Exit(code)
}

// Binary gives the path of the program, built with the race detector.
func Binary(t testing.TB) string {
	t.Helper()
	return built.path(t, true, "-race")
}

// LaterBinary gives the path of the program as of another version, built as it is
// shipped.
func LaterBinary(t testing.TB) string {
	t.Helper()
	return later.path(t, false, "-trimpath", "-ldflags", "-s -w -X main.version="+laterVersion)
}

// CrashBinary gives the path of the program that dies where package crash is
// told to, built with the race detector, and without symbols as the one that is
// shipped: what is looked for in that one is found in this one.
func CrashBinary(t testing.TB) string {
	t.Helper()
	return crashing.path(t, true, "-race", "-tags", "crashpoints", "-ldflags", "-s -w")
}

// path builds it once; the race detector needs cgo.
func (b *build) path(t testing.TB, cgo bool, flags ...string) string {
	t.Helper()
	b.once.Do(func() { b.dir, b.err = makeProgram(cgo, flags) })
	if b.err != nil {
		t.Fatal(b.err)
	}
	return filepath.Join(b.dir, "qemu-reconciler")
}

func makeProgram(cgo bool, flags []string) (string, error) {
	dir, err := os.MkdirTemp("", "e2e-bin")
	if err != nil {
		return "", err
	}
	// The daemon may run as another user, who must get at it.
	if err := os.Chmod(dir, 0o755); err != nil {
		return dir, err
	}
	args := append([]string{"build", "-o", filepath.Join(dir, "qemu-reconciler")}, flags...)
	cmd := exec.Command("go", append(args, "./cmd/qemu-reconciler")...)
	cmd.Dir = Root
	if !cgo {
		cmd.Env = append(cmd.Environ(), "CGO_ENABLED=0")
	}
	if output, err := cmd.CombinedOutput(); err != nil {
		return dir, errors.Join(fmt.Errorf("the program does not build: %w\n%s", err, output), os.RemoveAll(dir))
	}
	return dir, nil
}
