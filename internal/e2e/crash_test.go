package e2e

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"

	"github.com/qemu-reconciler/qemu-reconciler/internal/crash"
)

// How many deaths one host sees in turn, on quick ways and on slow ones.
const (
	laneLength     = 10
	slowLaneLength = 2
)

// The daemon dies by its own SIGKILL at every crash point: once, and on the same
// way once more, then again and again while it recovers. Whatever the point,
// afterwards every task that is wanted has one QEMU, the same where one was, and
// nothing is left of others.
func TestCrashPoints(t *testing.T) {
	t.Parallel()
	tally := &crashTally{first: map[string]int{}, later: map[string]int{}}
	// After the last of the lanes, which are parallel.
	t.Cleanup(func() { tally.show(t) })
	for name, lane := range crashLanes(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newCrashLane(t, tally)
			for _, c := range lane {
				l.cross(c)
				if t.Failed() {
					t.Fatalf("after a death at %s", c)
				}
			}
		})
	}
}

// crossing is one way through one crash point.
type crossing struct {
	point string
	pass  int
	way   *crashWay
	// again has the daemon die several times before it may live.
	again bool
}

func (c crossing) String() string {
	text := fmt.Sprintf("%s#%d on the way %q", c.point, c.pass, c.way.name)
	if c.again {
		text += ", again and again"
	}
	return text
}

// crashLanes spreads all crossings over hosts. The first way through a point is
// gone twice, others once: they differ in what the task has behind it, and to die
// again and again takes the longest.
func crashLanes(t *testing.T) map[string][]crossing {
	lanes := map[string][]crossing{}
	planned := map[string]int{}
	for _, point := range crash.Points {
		paths := crashPathsOf(point.Name)
		if len(paths) == 0 {
			t.Errorf("no way leads through %q: crashPaths needs a line for it", point.Name)
		}
		for i, path := range paths {
			length := laneLength
			if path.way.slow {
				length = slowLaneLength
			}
			for pass := range path.passes {
				variants := []bool{planned[path.way.name]%2 == 0}
				if i == 0 && pass == 0 && !path.way.slow {
					variants = []bool{false, true}
				}
				for _, again := range variants {
					name := fmt.Sprintf("%s-%d", path.way.name, planned[path.way.name]/length)
					planned[path.way.name]++
					lanes[name] = append(lanes[name], crossing{point.Name, pass + 1, path.way, again})
				}
			}
		}
	}
	return lanes
}

// crashPathsOf gives the lines of crashPaths that are most particular to a point.
func crashPathsOf(point string) []crashPath {
	var found []crashPath
	longest := 0
	for _, path := range crashPaths {
		switch length := len(path.points); {
		case !strings.HasPrefix(point, path.points) || length < longest:
		case length > longest:
			found, longest = []crashPath{path}, length
		default:
			found = append(found, path)
		}
	}
	return found
}

// crashTally counts deaths by point.
type crashTally struct {
	mu sync.Mutex
	// first are the deaths that a way was for, later those on the way back.
	first, later map[string]int
	// rest counts daemons that were killed when they had recovered.
	rest int
}

func (c *crashTally) count(deaths map[string]int, point string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	deaths[point]++
}

func (c *crashTally) countRest() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.rest++
}

// show tells how many deaths there were at each point.
func (c *crashTally) show(t *testing.T) {
	var rows strings.Builder
	table := tabwriter.NewWriter(&rows, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(table, "deaths\twhile recovering\t\n")
	first, later := 0, 0
	for _, point := range crash.Points {
		fmt.Fprintf(table, "%d\t%d\t %s: %s\n", c.first[point.Name], c.later[point.Name], point.Name, point.Means)
		first, later = first+c.first[point.Name], later+c.later[point.Name]
	}
	table.Flush()
	t.Logf("%d crash points, %d deaths on the way there, %d while recovering, %d kills at rest:\n%s", len(crash.Points), first, later, c.rest, &rows)
}

// The program that is shipped has nothing of all this.
func TestShippedProgramHasNoCrashPoints(t *testing.T) {
	t.Parallel()
	const symbol = "qemu-reconciler/internal/crash."
	traces := []string{crash.Variable, symbol}
	for _, point := range crash.Points {
		traces = append(traces, point.Name, point.Means)
	}
	for name, path := range map[string]string{"shipped": LaterBinary(t), "tested": Binary(t)} {
		for _, trace := range traces {
			if bytes.Contains(readProgram(t, path), []byte(trace)) {
				t.Errorf("the program that is %s has %q in it", name, trace)
			}
		}
	}
	for _, trace := range []string{crash.Variable, symbol, crash.Points[0].Name} {
		if !bytes.Contains(readProgram(t, CrashBinary(t)), []byte(trace)) {
			t.Errorf("%q is looked for in vain: it is not in the program with crash points", trace)
		}
	}
}

// maxProgramSize is what the shipped program may have in bytes: it had 11 MB when
// this was written, and a library that doubles it is noticed here.
const maxProgramSize = 25 << 20

// The shipped program is small.
func TestShippedProgramIsSmall(t *testing.T) {
	t.Parallel()
	if size := len(readProgram(t, LaterBinary(t))); size > maxProgramSize {
		t.Errorf("the program has %d bytes", size)
	}
}

func readProgram(t *testing.T, path string) []byte {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return content
}
