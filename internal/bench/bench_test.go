package bench

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

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
	o := Options{Repeats: 9, Sizes: []int{50, 200}, Many: []int{1000, 3000, 10000}, Parallel: []int{2, 4, 8, 0},
		Rest: time.Minute, Settle: 15 * time.Second, Pause: 3 * time.Second}
	if os.Getenv("BENCH_PEERS") != "" {
		o.Peer, o.Sizes, o.Many, o.Rows = true, o.Sizes[:1], nil, regexp.MustCompile(peerRows)
	}
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

// TestSmoke runs everything once with a few VMs. What it takes does not matter,
// only that every row has figures that make sense, and fits into the tables.
func TestSmoke(t *testing.T) {
	report := Run(t, Options{Repeats: 1, Sizes: []int{2, 3}, Many: []int{4, 8}, Parallel: []int{2, 0}, Rest: time.Second})
	if got, want := len(report.Rows), len(newRows([]int{2, 3}, []int{4, 8})); got != want {
		t.Errorf("%d rows have figures of %d", got, want)
	}
	for _, row := range report.Rows {
		for _, figure := range row.Ours {
			if figure < -10 || figure > 60000 { // what is noted here may be noted late
				t.Errorf("%s: %v %s", row.ID, figure, row.Unit)
			}
		}
		if limit := row.Limit(); row.Goal.Kind != NoGoal && math.IsNaN(limit) {
			t.Errorf("%s has the goal %+v and nothing to compare with", row.ID, row.Goal)
		}
	}
	for line := range strings.Lines(report.Table()) {
		if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > 80 {
			t.Errorf("%d columns: %s", n, line)
		}
	}
	path := filepath.Join(t.TempDir(), "new", "bench.json")
	if err := report.Write(path); err != nil {
		t.Fatal(err)
	}
	again, err := ReadReport(path)
	if err != nil {
		t.Fatal(err)
	}
	if again.Table() != report.Table() {
		t.Errorf("written and read:\n%s\nwas\n%s", again.Table(), report.Table())
	}
	if text := Markdown([]*Report{report, again}); strings.Count(text, "\n|") != len(report.Rows)+2 {
		t.Errorf("not one line for each row:\n%s", text)
	}
}

func TestGoals(t *testing.T) {
	row := &Row{Floor: map[string][]float64{"2": {10, 30, 20}, "8": {40, 40, 40}}, Ours: []float64{21, 23, 22}}
	for _, test := range []struct {
		goal Goal
		met  bool
	}{
		{Goal{}, true}, {Goal{AtMost, 22}, true}, {Goal{AtMost, 21.9}, false},
		{Goal{TimesFloor, 1.1}, true}, {Goal{TimesFloor, 1.09}, false},
		{Goal{OverFloor, 2}, true}, {Goal{OverFloor, 1.9}, false},
	} {
		row.Goal = test.goal
		if row.Met() != test.met {
			t.Errorf("%+v: met is %v, limit %v", test.goal, row.Met(), row.Limit())
		}
	}
	if setting, _ := row.BestFloor(); setting != "2" {
		t.Errorf("best setting is %q", setting)
	}
	if got := SpreadOf([]float64{4, 1, 3, 2}); got != (Spread{1.75, 2.5, 3.25}) {
		t.Errorf("spread is %+v", got)
	}
}
