package scale

import (
	"context"
	"flag"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

var (
	counts  = flag.String("scale.tasks", "60", "numbers of tasks to measure with, separated by commas")
	files   = flag.Int("scale.files", 70, "how many task files there are at least; those beyond the tasks are of tasks that are off")
	program = flag.String("scale.program", "", "daemon to measure; empty builds it")
	patient = flag.Duration("scale.timeout", 10*time.Minute, "how long one number of tasks may take")
)

// TestScale runs the daemon with many stand-ins for QEMU, and shows what grows
// with their number. By default that is a few: the table is for whoever asks for
// more.
func TestScale(t *testing.T) {
	built := *program
	if built == "" {
		built = filepath.Join(t.TempDir(), "qemu-reconciler")
		build := exec.Command("go", "build", "-o", built, "./cmd/qemu-reconciler")
		build.Dir = "../.."
		if words, err := build.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, words)
		}
	}
	for text := range strings.SplitSeq(*counts, ",") {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), *patient)
		figures, err := Measure(ctx, Options{Program: built, Tasks: n, Files: *files})
		cancel()
		for _, f := range figures {
			if f.Of > 0 {
				t.Logf("%6d tasks: %-48s %10.1f %-3s %8.4f each of %d", n, f.Name, f.Value(), f.Unit, f.Value()/float64(f.Of), f.Of)
			} else {
				t.Logf("%6d tasks: %-48s %10.1f %s", n, f.Name, f.Value(), f.Unit)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}
