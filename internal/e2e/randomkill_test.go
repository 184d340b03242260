package e2e

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/qemu-reconciler/qemu-reconciler/internal/guest"
)

// defaultKills is how often TestRandomKills kills unless E2E_KILLS says
// otherwise.
const defaultKills = 25

// While task files come, change, break and go, the daemon is killed at random
// moments, those of its own start among them. Every VM runs once, and one whose
// definition did not change stays the same process through all of it.
func TestRandomKills(t *testing.T) {
	t.Parallel()
	kills := defaultKills
	if given := os.Getenv("E2E_KILLS"); given != "" {
		var err error
		if kills, err = strconv.Atoi(given); err != nil {
			t.Fatal(err)
		}
	}
	seed := killSeed(t)
	m := &mayhem{h: Start(t), random: rand.New(rand.NewPCG(seed, seed)), wanted: map[string]int{}, pids: map[string]int{}, broken: map[string]bool{}}
	m.begin()
	for m.kills < kills {
		m.round()
	}
	m.settle()
	t.Logf("%d kills, %d of them before the daemon answered; %d files written, %d broken, %d removed; %d checks of %d VMs that never changed and %d that did; adopted %d times by record, %d by socket",
		m.kills, m.early, m.writes, m.breaks, m.removals, m.checks, len(steady), len(m.changing()), m.adopted("record"), m.adopted("socket"))
	if other := m.adopted("environment"); other > 0 {
		t.Errorf("%d VMs were adopted by their environment: their records were lost", other)
	}
}

// steady are the tasks that never change.
var steady = []string{"steady-a", "steady-b"}

// mayhem is the test of random kills under way.
type mayhem struct {
	h      *Host
	random *rand.Rand
	// wanted is the memory of each task that is in a file, pids are the
	// processes that must stay, and broken the tasks whose files are.
	wanted map[string]int
	pids   map[string]int
	broken map[string]bool
	texts  map[string]string

	kills, early, writes, breaks, removals, checks int
}

func (m *mayhem) begin() {
	m.texts = map[string]string{}
	for i, name := range slices.Concat(steady, m.changing()) {
		variant := []guest.Variant{guest.Deaf, guest.Button, guest.Quiet}[i%3]
		m.texts[name] = m.h.Task(name, variant, fmt.Sprintf("graceful_shutdown = %v", variant != guest.Deaf), "port_map = { web = 80 }")
	}
	for _, name := range steady {
		m.write(name, 128)
	}
	m.settle()
}

func (m *mayhem) changing() []string { return []string{"change-a", "change-b", "change-c", "change-d"} }

// round changes some files, with a kill somewhere in between or after.
func (m *mayhem) round() {
	for range 1 + m.random.IntN(3) {
		m.mess()
		if m.random.IntN(4) == 0 {
			m.kill()
		}
	}
	m.wait(700 * time.Millisecond)
	m.kill()
	if m.random.IntN(3) == 0 {
		m.settle()
	}
}

// wait is for a random while: what is random cannot be awaited.
func (m *mayhem) wait(most time.Duration) {
	<-time.After(time.Duration(m.random.Int64N(int64(most))))
}

// kill kills the daemon, at times again while it starts.
func (m *mayhem) kill() {
	for again := true; again; again = m.random.IntN(5) == 0 {
		if !m.h.daemonRuns() {
			m.h.t.Fatalf("the daemon has ended by itself: %v", m.h.daemon.err)
		}
		if _, err := m.h.fetchStatus(); err != nil {
			m.early++
		}
		m.h.Kill()
		m.kills++
		m.h.checkDoubles()
		m.h.StartDaemonOnly()
		m.wait(150 * time.Millisecond)
	}
}

// mess changes one file.
func (m *mayhem) mess() {
	names := m.changing()
	name := names[m.random.IntN(len(names))]
	_, there := m.wanted[name]
	switch action := m.random.IntN(10); {
	case !there:
		m.write(name, 128)
	case action < 3:
		delete(m.pids, name)
		m.write(name, 128+136-m.wanted[name])
	case action < 6:
		delete(m.pids, name)
		delete(m.wanted, name)
		delete(m.broken, name)
		m.removals++
		m.h.Remove(name + ".hcl")
	case action < 8: // the same with other words
		m.write(name, m.wanted[name])
	default:
		m.breaks++
		m.broken[name] = true
		m.h.WritePlain(name+".hcl", m.text(name)+"\ntask {")
	}
}

func (m *mayhem) text(name string) string {
	text := strings.Replace(m.texts[name], "memory = 128", fmt.Sprintf("memory = %d", m.wanted[name]), 1)
	return fmt.Sprintf("# %d\n%s", m.random.Uint32(), text)
}

// write puts a task's file in place, in one of two ways.
func (m *mayhem) write(name string, memory int) {
	m.writes++
	m.wanted[name] = memory
	delete(m.broken, name)
	if m.random.IntN(2) == 0 {
		m.h.WritePlain(name+".hcl", m.text(name))
	} else {
		m.h.Write(name+".hcl", m.text(name))
	}
}

// settle mends what is broken, waits until all is as wanted and checks it.
func (m *mayhem) settle() {
	h := m.h
	h.t.Helper()
	for _, name := range slices.Sorted(maps.Keys(m.broken)) {
		m.write(name, m.wanted[name])
	}
	st := h.AwaitStatus("convergence after random kills", func(st Status) bool {
		h.checkDoubles()
		return st.Converged && len(st.Tasks) == len(m.wanted) && m.asWanted()
	})
	m.checks++
	for _, task := range st.Tasks {
		pid := m.pids[task.Name]
		if pid != 0 && task.PID != pid {
			h.t.Errorf("%s did not change and is pid %d, before %d", task.Name, task.PID, pid)
		}
		if task.Phase != "running" || task.Restarts != 0 {
			h.t.Errorf("after kills: %+v", task)
		}
		m.pids[task.Name] = task.PID
	}
}

// asWanted says whether the QEMUs that run are those that are wanted, with the
// memory that is wanted.
func (m *mayhem) asWanted() bool {
	running := m.h.QEMUs()
	for _, q := range running {
		line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", q.PID))
		if err != nil || !strings.Contains(string(line), fmt.Sprintf("\x00-m\x00%dM\x00", m.wanted[q.Task])) {
			return false
		}
	}
	return len(running) == len(m.wanted)
}

// adopted counts adoptions by what they were found by.
func (m *mayhem) adopted(by string) int {
	n := 0
	for _, e := range m.h.Events() {
		if e.Type == "adopted" && e.Says("by", by) {
			n++
		}
	}
	return n
}

// killSeed is random, and told, or what E2E_SEED says.
func killSeed(t *testing.T) uint64 {
	seed := rand.Uint64()
	if given := os.Getenv("E2E_SEED"); given != "" {
		var err error
		if seed, err = strconv.ParseUint(given, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("E2E_SEED=%d", seed)
	return seed
}
