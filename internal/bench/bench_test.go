package bench

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
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
	// The daemon's rarest deed at rest, a question to a quarter of all QEMUs, comes
	// every five minutes (probeSpread in runtime/life.go).
	o := Options{Repeats: 9, Stops: 4, Sizes: []int{50, 200}, Many: []int{1000, 3000, 10000}, Files: 10000, Parallel: []int{2, 4, 8, 0},
		Rest: 5 * time.Minute, Settle: 15 * time.Second, Pause: 3 * time.Second, Seed: uint64(time.Now().UnixNano() % 1e6)}
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
	if text := os.Getenv("BENCH_SEED"); text != "" {
		seed, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatalf("BENCH_SEED: %v", err)
		}
		o.Seed = seed
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
	fmt.Printf("%sseed %d (BENCH_SEED)\n", report.Table(), o.Seed)
}

// TestSmoke runs everything once with a few VMs. What it takes does not matter,
// only that every row has figures that make sense, and fits into the tables.
func TestSmoke(t *testing.T) {
	o := Options{Repeats: 1, Stops: 2, Sizes: []int{2, 3}, Many: []int{4, 8}, Files: 10, Parallel: []int{2, 0}, Rest: time.Second}
	report := Run(t, o)
	if got, want := len(report.Rows), len(newRows(o)); got != want {
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
	for _, text := range []string{Markdown([]*Report{report, again}), PeerMarkdown([]*Report{report})} {
		if strings.Count(text, "\n|") != len(report.Rows)+2 {
			t.Errorf("not one line for each row:\n%s", text)
		}
	}
}

func TestGoals(t *testing.T) {
	// Of the setting 4, which was given up, the one figure does not count.
	floor := map[string][]float64{"2": {10, 30, 20}, "4": {5}, "8": {40, 40, 40}}
	row := &Row{Ours: []float64{21, 23, 22}}
	for _, test := range []struct {
		goal           Goal
		floor, without string // the verdicts
	}{
		{Goal{}, "", ""}, {Goal{AtMost, 22}, "met", "met"}, {Goal{AtMost, 21.9}, "MISSED", "MISSED"},
		{Goal{TimesFloor, 1.1}, "met", "no floor"}, {Goal{TimesFloor, 1.09}, "MISSED", "no floor"},
		{Goal{EachAtMost, 23}, "met", "met"}, {Goal{EachAtMost, 22}, "MISSED", "MISSED"},
		{Goal{OverFloor, 2}, "met", "no floor"}, {Goal{OverFloor, 1.9}, "MISSED", "no floor"},
	} {
		row.Goal, row.Floor = test.goal, floor
		with := row.Verdict()
		row.Floor = nil
		if without := row.Verdict(); with != test.floor || without != test.without || row.Met() && without != "met" {
			t.Errorf("%+v: %q, and %q without a floor", test.goal, with, without)
		}
	}
	row.Floor = floor
	if setting, _ := row.BestFloor(); setting != "2" {
		t.Errorf("best setting is %q", setting)
	}
	for figures, want := range map[*[]float64]string{
		{}: "-", {3}: "3 (n=1)", {4, 1, 3, 2}: "2.50 (n=4)", {5, 4, 1, 3, 2}: "3 (2-4)", {7, 7, 7, 7, 7}: "7",
	} {
		if got := figure(SpreadOf(*figures)); got != want {
			t.Errorf("%v is shown as %q, want %q", *figures, got, want)
		}
	}
}

// The moments at which guests are stopped are spread over the whole of a tick, and
// are the same again for the same seed.
func TestPhases(t *testing.T) {
	const n = 20
	draw := func(seed uint64) []time.Duration {
		return (&run{random: rand.New(rand.NewPCG(seed, 0))}).phases(n)
	}
	first := draw(1)
	if !slices.Equal(first, draw(1)) || slices.Equal(first, draw(2)) || slices.IsSorted(first) {
		t.Errorf("the seed 1 gives %v and %v, 2 gives %v", first, draw(1), draw(2))
	}
	for i, delay := range slices.Sorted(slices.Values(first)) {
		if part := tick / n; delay < time.Duration(i)*part || delay > time.Duration(i+1)*part+n {
			t.Errorf("delay %d is %v", i, delay)
		}
	}
}
