package bench

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/qemu-reconciler/qemu-reconciler/internal/e2e"
)

func TestMain(m *testing.M) { e2e.Main(m) }

// TestBench is `make bench`: it measures everything and writes what it found to
// the file that BENCH_OUT names, as seen from the top of the tree. Without that there is nothing to do.
func TestBench(t *testing.T) {
	out := os.Getenv("BENCH_OUT")
	if out == "" {
		t.Skip("make bench runs this")
	}
	o := Options{Repeats: 9, Sizes: fleetSizes, Parallel: []int{2, 4, 8, 0}, Rest: time.Minute}
	if text := os.Getenv("BENCH_REPEATS"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			t.Fatalf("BENCH_REPEATS is %q, not a number of repeats", text)
		}
		o.Repeats = n
	}
	if text := os.Getenv("BENCH_ROWS"); text != "" {
		rows, err := regexp.Compile(text)
		if err != nil {
			t.Fatalf("BENCH_ROWS: %v", err)
		}
		o.Rows = rows
	}
	if text := os.Getenv("BENCH_PARALLEL"); text != "" {
		o.Parallel = nil
		for word := range strings.SplitSeq(text, ",") {
			n, err := strconv.Atoi(word)
			if err != nil || n < 0 {
				t.Fatalf("BENCH_PARALLEL is %q, not a list of numbers", text)
			}
			o.Parallel = append(o.Parallel, n)
		}
	}
	if !filepath.IsAbs(out) {
		out = filepath.Join(e2e.Root, out)
	}
	report := Run(t, o)
	if err := report.Write(out); err != nil {
		t.Fatal(err)
	}
	fmt.Print(report.Table())
}
