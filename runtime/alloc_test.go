package runtime

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/qemu-reconciler/qemu-reconciler/spec"
)

// occupy listens on a port for the rest of the test.
func occupy(t *testing.T, port int) {
	t.Helper()
	listener, err := net.Listen("tcp4", fmt.Sprintf("0.0.0.0:%d", port))
	must(t, err)
	t.Cleanup(func() { listener.Close() })
}

// idleTable is a table on a host where nobody listens but on the given ports.
func idleTable(ports spec.PortRange, busy ...int) *portTable {
	table := newPortTable(ports)
	table.free = func(port int) bool { return !slices.Contains(busy, port) }
	return table
}

func TestAllocateIsDeterministic(t *testing.T) {
	t.Parallel()
	ports := spec.PortRange{First: 20000, Last: 32000}
	first, err := idleTable(ports).allocate("web", []string{"http", "ssh"}, nil, nil)
	must(t, err)
	again, err := idleTable(ports).allocate("web", []string{"ssh", "http"}, nil, nil)
	must(t, err)
	if !cmp.Equal(first, again) {
		t.Errorf("%v, then %v", first, again)
	}
	if predicted := predictPorts(ports, "web", []string{"http", "ssh"}, nil); !cmp.Equal(predicted, first) {
		t.Errorf("predicted %v, given %v", predicted, first)
	}
	if kept := predictPorts(ports, "web", []string{"ssh"}, map[string]int{"ssh": 7}); kept["ssh"] != 7 {
		t.Errorf("predicted %v for a port that was given", kept)
	}
}

func TestAllocateSkips(t *testing.T) {
	t.Parallel()
	ports := spec.PortRange{First: 100, Last: 104}
	table := idleTable(ports, 100)
	table.offer("other", map[string]int{"a": 101})
	reserved := map[int]string{102: "third"}
	given, err := table.allocate("web", []string{"a", "b"}, nil, reserved)
	must(t, err)
	if given["a"] == given["b"] || min(given["a"], given["b"]) != 103 || max(given["a"], given["b"]) != 104 {
		t.Errorf("given: %v", given)
	}
	if _, err := table.allocate("late", []string{"x"}, nil, reserved); err == nil {
		t.Error("a sixth port of five")
	}
	table.release("web", given)
	if _, err := table.allocate("late", []string{"x", "y", "z"}, nil, reserved); err == nil {
		t.Error("three ports of two")
	}
	if got, err := table.allocate("late", []string{"x", "y"}, nil, reserved); err != nil || len(got) != 2 {
		t.Errorf("what a failed allocation took is not given back: %v, %v", got, err)
	}
}

// TestAllocateKeeps: a port that was given stays, whoever wants or has it now.
func TestAllocateKeeps(t *testing.T) {
	t.Parallel()
	table := idleTable(spec.PortRange{First: 100, Last: 110}, 105)
	had := map[string]int{"a": 105, "b": 99, "gone": 107}
	table.offer("web", had)
	given, err := table.allocate("web", []string{"a", "b"}, had, map[int]string{99: "greedy"})
	must(t, err)
	if !cmp.Equal(given, map[string]int{"a": 105, "b": 99}) {
		t.Errorf("given: %v", given)
	}
	if _, taken := table.owner[107]; taken {
		t.Error("the port of a label that is gone is not free again")
	}
}

// TestAllocateNeverSwaps: a kept port that another task has, too, is an error
// that names it, and nothing is given instead.
func TestAllocateNeverSwaps(t *testing.T) {
	t.Parallel()
	table := idleTable(spec.PortRange{First: 100, Last: 110})
	table.offer("first", map[string]int{"a": 105})
	given, err := table.allocate("second", []string{"b", "c"}, map[string]int{"b": 105}, nil)
	if err == nil || given != nil || !strings.Contains(err.Error(), "105") || !strings.Contains(err.Error(), "task first") {
		t.Errorf("given %v, %v", given, err)
	}
	if fresh, err := table.adopt("second", map[string]int{"a": 104, "b": 105}); err == nil {
		t.Errorf("adopted %v", fresh)
	}
	if !cmp.Equal(table.owner, map[int]string{105: "first"}) {
		t.Errorf("owners: %v", table.owner)
	}
}

// TestAllocateNeverTwice: whatever tasks come and go, no port has two owners
// and none changes while its label stays.
func TestAllocateNeverTwice(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		table := idleTable(spec.PortRange{First: 1, Last: rapid.IntRange(1, 12).Draw(t, "size")})
		held := map[string]map[string]int{}
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			task := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "task")
			if rapid.Bool().Draw(t, "leaves") {
				table.release(task, held[task])
				delete(held, task)
				continue
			}
			labels := rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"u", "v", "w", "x"}), 0, 4, rapid.ID).Draw(t, "labels")
			given, err := table.allocate(task, labels, held[task], nil)
			if err != nil {
				continue
			}
			for label, port := range held[task] {
				if now, still := given[label]; still && now != port {
					t.Fatalf("%s.%s moved from %d to %d", task, label, port, now)
				}
			}
			held[task] = given
			owners := map[int]string{}
			for owner, ports := range held {
				for label, port := range ports {
					if other, taken := owners[port]; taken {
						t.Fatalf("%d belongs to %s and to %s.%s", port, other, owner, label)
					}
					owners[port] = owner + "." + label
				}
			}
		}
	})
}

// TestSearchOnlyTriesToBind: who has a port is nothing to a search that goes on
// with the next one. To find it out takes a look at every process.
func TestSearchOnlyTriesToBind(t *testing.T) {
	port := unusedPorts(t, 1)[0]
	table := newPortTable(spec.PortRange{First: port, Last: port})
	occupy(t, port)
	allocations := testing.AllocsPerRun(5, func() {
		if given, err := table.allocate("web", []string{"ssh"}, nil, nil); err == nil {
			t.Errorf("given: %v", given)
		}
	})
	if allocations > 40 {
		t.Errorf("%v allocations for a port that is taken", allocations)
	}
}
