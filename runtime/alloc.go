package runtime

import (
	"fmt"
	"hash/fnv"
	"maps"
	"net/netip"
	"slices"
	"sync"

	"github.com/qemu-reconciler/qemu-reconciler/internal/crash"
	"github.com/qemu-reconciler/qemu-reconciler/spec"
)

// portTable knows which task has which allocated host port. A port that was
// given stays given while the task keeps the label.
type portTable struct {
	// free asks the host whether a port could be bound right now.
	free func(port int) bool

	mu    sync.Mutex
	ports spec.PortRange
	owner map[int]string
}

func newPortTable(ports spec.PortRange) *portTable {
	free := func(port int) bool {
		_, err := tryPort(netip.IPv4Unspecified(), port, []string{"tcp", "udp"})
		return err == nil
	}
	return &portTable{ports: ports, free: free, owner: map[int]string{}}
}

// allocate gives every label a port: the one that it had, or a new one that no
// task has, nobody reserved and nobody on the host listens on. What the task
// had under other labels is given back. A port that the task had is never
// swapped for another: when it turns out to be another task's, that is an error.
func (t *portTable) allocate(task string, labels []string, had map[string]int, reserved map[int]string) (map[string]int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	given, fresh := map[string]int{}, map[string]int{}
	for _, label := range labels {
		port, ok := had[label]
		if !ok {
			continue
		}
		if err := t.claim(port, task); err != nil {
			return nil, fmt.Errorf("port %q: %w", label, err)
		}
		given[label] = port
	}
	for _, label := range slices.Sorted(slices.Values(labels)) {
		if _, ok := given[label]; ok {
			continue
		}
		port, err := t.search(task, label, reserved)
		if err != nil {
			t.drop(task, fresh)
			return nil, err
		}
		given[label], fresh[label] = port, port
	}
	gone := maps.Clone(had)
	maps.DeleteFunc(gone, func(label string, port int) bool { return given[label] == port })
	t.drop(task, gone)
	crash.Point("ports.given")
	return given, nil
}

// claim makes a port the task's, unless it is another's: then it says whose.
func (t *portTable) claim(port int, task string) error {
	if owner, taken := t.owner[port]; taken && owner != task {
		return fmt.Errorf("host port %d was allocated to task %s, too, which keeps it until it is removed", port, owner)
	}
	t.owner[port] = task
	return nil
}

// search begins at a point that depends on task and label alone, so that a
// task whose record was lost has a good chance of its old ports.
func (t *portTable) search(task, label string, reserved map[int]string) (int, error) {
	size := t.ports.Last - t.ports.First + 1
	start := startOffset(task, label, size)
	for i := range size {
		port := t.ports.First + (start+i)%size
		_, owned := t.owner[port]
		_, static := reserved[port]
		if owned || static || !t.free(port) {
			continue
		}
		t.owner[port] = task
		crash.Point("ports.found")
		return port, nil
	}
	return 0, fmt.Errorf("no host port for %q: all of %d-%d (dynamic_ports) are taken", label, t.ports.First, t.ports.Last)
}

func startOffset(task, label string, size int) int {
	hash := fnv.New64a()
	hash.Write([]byte(task + "\x00" + label))
	return int(hash.Sum64() % uint64(size))
}

func (t *portTable) drop(task string, ports map[string]int) {
	for _, port := range ports {
		if t.owner[port] == task {
			delete(t.owner, port)
		}
	}
}

// adopt makes ports the task's, all or none. fresh are those that were not its
// own before.
func (t *portTable) adopt(task string, ports map[string]int) (fresh map[string]int, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	fresh = map[string]int{}
	for _, label := range slices.Sorted(maps.Keys(ports)) {
		port := ports[label]
		before := t.owner[port]
		if err := t.claim(port, task); err != nil {
			t.drop(task, fresh)
			return nil, fmt.Errorf("port %q: %w", label, err)
		}
		if before != task {
			fresh[label] = port
		}
	}
	return fresh, nil
}

// offer is adopt for ports of which each is taken that can be had; it gives
// those.
func (t *portTable) offer(task string, ports map[string]int) map[string]int {
	t.mu.Lock()
	defer t.mu.Unlock()
	had := maps.Clone(ports)
	maps.DeleteFunc(had, func(_ string, port int) bool { return t.claim(port, task) != nil })
	return had
}

// setRange changes where new ports are searched.
func (t *portTable) setRange(ports spec.PortRange) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ports = ports
}

// release gives ports of a task back.
func (t *portTable) release(task string, ports map[string]int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.drop(task, ports)
}

// predictPorts fills in the ports that allocate would give to labels without one
// on an idle host. It claims nothing.
func predictPorts(from spec.PortRange, task string, labels []string, had map[string]int) map[string]int {
	out := make(map[string]int, len(labels))
	for _, label := range labels {
		if port, ok := had[label]; ok {
			out[label] = port
			continue
		}
		out[label] = from.First + startOffset(task, label, from.Last-from.First+1)
	}
	return out
}
