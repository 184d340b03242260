package e2e

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/qemu-reconciler/qemu-reconciler/internal/guest"
	"github.com/qemu-reconciler/qemu-reconciler/reconcile"
)

const (
	// enoughKills is how many kills each step is to get, as far as there is
	// time; one is the least, and enough for rare steps.
	enoughKills = 2
	// killBudget bounds the search for steps without enough kills; while there
	// is one that has none it goes on for as long again.
	killBudget = 50 * time.Second
	// killRounds bounds it as well, and maxHunt the kills in one change.
	killRounds = 25
	maxHunt    = 20
)

// The daemon is killed in every step of a start and of a stop. To fall into
// steps of microseconds it is driven in slices: SIGCONT, a short random while,
// SIGSTOP, a look at what it has written so far; when that is a step without
// enough kills it gets its SIGKILL right there. The count goes by what is left
// behind after its death alone. Several tasks are under way at once, so that a
// kill falls into several steps.
func TestKillInEveryStep(t *testing.T) {
	t.Parallel()
	k := newKillings(t)
	began := time.Now()
	defer func() { t.Log(k.table()) }()
	k.begin()
	for round := 0; round < killRounds && len(k.missing(killSteps...)) > 0; round++ {
		if late := time.Since(began); late > killBudget && len(k.missed()) == 0 || late > 2*killBudget {
			break
		}
		k.starts()
		k.stops(round)
		if len(k.missing(stepAgent)) > 0 {
			k.asksAgent()
		}
		if len(k.missing(stepSIGTERM, stepSIGKILL)) > 0 {
			k.stopsHung()
		}
	}
	for _, step := range k.missed() {
		t.Errorf("no kill fell into %q", step)
	}
	for _, e := range k.h.Events() {
		// A second QEMU on an image fails for the first one's lock on it, and
		// one is found by its environment when no record leads to it.
		if e.Type == "start-failed" || e.Type == "record-corrupt" || e.Type == "adopted" && e.Says("by", "environment") {
			t.Errorf("after a kill: %s", e.Line)
		}
	}
}

// killings is the kill test under way.
type killings struct {
	h       *Host
	random  *rand.Rand
	victims []*victim
	kills   int
	counts  map[killStep]int
	// settling is when nothing can have been stopped before yet.
	settling time.Time
}

func newKillings(t *testing.T) *killings {
	seed := killSeed(t)
	k := &killings{h: Start(t), random: rand.New(rand.NewPCG(seed, seed)), counts: map[killStep]int{}}
	const port, graceful = "port_map = { web = 80 }", "graceful_shutdown = true"
	k.add("bystander", guest.Deaf, port)
	k.add("blunt", guest.Deaf, port)
	k.add("asked", guest.Button, port, graceful)
	k.add("deaf", guest.Deaf, port, graceful)
	k.add("hung", guest.Deaf, port)
	k.add("agent", guest.Button, port, graceful, "guest_agent = true", k.h.LinuxArgs(guest.LinuxOptions{Agent: true, Deaf: true}))
	t.Cleanup(func() { // a failed test may have left it halted
		if k.h.daemonRuns() {
			k.h.thaw()
		}
	})
	k.victim("deaf").giveUpAfter("400ms")
	k.victim("agent").giveUpAfter("8s")
	return k
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

func (k *killings) add(name string, behaviour guest.Variant, lines ...string) {
	k.victims = append(k.victims, &victim{name: name, memory: 128, text: k.h.Task(name, behaviour, lines...)})
}

func (k *killings) victim(name string) *victim {
	return k.victims[slices.IndexFunc(k.victims, func(v *victim) bool { return v.name == name })]
}

func (k *killings) names() []string {
	var names []string
	for _, v := range k.victims {
		names = append(names, v.name)
	}
	return names
}

// missing are those of the steps without enough kills.
func (k *killings) missing(steps ...killStep) []killStep {
	return slices.DeleteFunc(slices.Clone(steps), func(step killStep) bool {
		return k.counts[step] >= enoughKills || k.counts[step] > 0 && slices.Contains(rare, step)
	})
}

// missed are the steps without any kill.
func (k *killings) missed() []killStep {
	return slices.DeleteFunc(slices.Clone(killSteps), func(step killStep) bool { return k.counts[step] > 0 })
}

func (k *killings) drop(names ...string) {
	for _, name := range names {
		v := k.victim(name)
		v.present = true
		k.h.Write(name+".hcl", v.file())
	}
}

func (k *killings) remove(names ...string) {
	for _, name := range names {
		v := k.victim(name)
		v.present, v.former, v.pid, v.port = false, v.pid, 0, 0
		k.h.Remove(name + ".hcl")
	}
	k.settling = time.Now().Add(reconcile.RemovalSettle)
}

// edit makes a stop and a start due.
func (k *killings) edit(name string) {
	v := k.victim(name)
	v.memory, v.former, v.pid = 128+136-v.memory, v.pid, 0
	k.h.Write(name+".hcl", v.file())
}

// begin has a VM that no kill may ever touch.
func (k *killings) begin() {
	k.drop("bystander")
	k.verify()
}

// starts kills while VMs start.
func (k *killings) starts() {
	k.drop("blunt", "asked", "deaf")
	k.hunt(stepNothing, stepCopy, stepAnnounced, stepUnrecorded, stepUnanswered, stepRunning)
	k.verify()
}

// stops kills while the VMs of starts are stopped, some of them to be started
// anew.
func (k *killings) stops(round int) {
	names := []string{"blunt", "asked", "deaf"}
	edited := names[round%len(names)]
	k.edit(edited)
	k.remove(slices.DeleteFunc(names, func(name string) bool { return name == edited })...)
	k.hunt(stepDue, stepStopAnnounced, stepACPI, stepQuit, stepGone, stepEnded, stepHalf, stepForgotten)
	k.verify()
	k.remove(edited)
	k.hunt(stepGone, stepEnded, stepHalf)
	k.verify()
}

// asksAgent kills while a guest agent is asked to power its guest off.
func (k *killings) asksAgent() {
	boots := strings.Count(k.h.Console("agent"), guest.SaysReady)
	k.drop("agent")
	k.verify()
	k.h.Await("another boot of the agent's guest", func() bool { return strings.Count(k.h.Console("agent"), guest.SaysReady) > boots })
	k.remove("agent")
	k.hunt(stepAgent)
	k.verify()
}

// stopsHung kills while a QEMU that does nothing any more is forced off.
func (k *killings) stopsHung() {
	k.drop("hung")
	k.verify()
	k.h.halt(QEMU{k.victim("hung").pid, "hung"})
	k.remove("hung")
	k.hunt(stepSIGTERM, stepSIGKILL)
	k.verify()
}

// postMortem counts what the killed daemon has left behind, and checks it
// against what is known from before.
func (k *killings) postMortem() {
	k.h.t.Helper()
	// A process that ends just now was there when the daemon died; one that
	// was forked becomes known by its exec.
	atOnce := k.h.remnants(k.names()...)
	k.h.awaitForks()
	left := k.h.remnants(k.names()...)
	k.kills++
	for _, v := range k.victims {
		l := left[v.name]
		step := v.stepOf(l)
		if seen := atOnce[v.name].pids; len(l.pids) == 0 && len(seen) > 0 {
			step = v.stepOf(remnant{l.record, l.copy, seen})
		}
		if v.concerned(step) {
			k.counts[step]++
		}
		k.checkProcesses(v, step, l.pids)
		if l.record == nil {
			continue
		}
		if v.uuid == "" {
			v.uuid = l.record.UUID
		}
		port := l.record.Ports["web"]
		if v.present && v.port == 0 {
			v.port = port
		}
		if l.record.UUID != v.uuid || v.present && port != v.port {
			k.h.t.Errorf("%s in %q: uuid %s and port %d, before %s and %d", v.name, step, l.record.UUID, port, v.uuid, v.port)
		}
	}
}

// checkProcesses wants one process at most, and the same one where the task is
// still wanted as it is.
func (k *killings) checkProcesses(v *victim, step killStep, pids []int) {
	k.h.t.Helper()
	if unrecorded := []killStep{stepNothing, stepCopy, stepEnded, stepHalf, stepForgotten}; len(pids) > 0 && slices.Contains(unrecorded, step) {
		k.h.t.Errorf("%s in %q: QEMU %v is an orphan", v.name, step, pids)
	}
	if len(pids) > 1 {
		k.h.t.Errorf("%s in %q: QEMUs %v at once", v.name, step, pids)
	}
	if v.pid != 0 && !slices.Equal(pids, []int{v.pid}) {
		k.h.t.Errorf("%s in %q: pid %d became %v", v.name, step, v.pid, pids)
	}
	starting := step == stepUnrecorded || step == stepUnanswered || step == stepRunning
	if starting && v.present && len(pids) == 1 && pids[0] != v.former {
		v.pid = pids[0]
	}
}

// verify waits until all is as wanted, and checks that it is: one QEMU for each
// task that is wanted and none for another, the same as before where it could
// stay, its ports and its uuid the same.
func (k *killings) verify() {
	k.h.t.Helper()
	st := k.h.AwaitStatus("convergence after kills", func(st Status) bool {
		k.h.checkDoubles()
		present := 0
		for _, v := range k.victims {
			task, there := st.Task(v.name)
			if there != v.present || there && (task.Phase != "running" || task.PID == v.former) {
				return false
			}
			if there {
				present++
			}
		}
		return st.Converged && len(k.h.QEMUs()) == present
	})
	left := k.h.remnants(k.names()...)
	for _, v := range k.victims {
		if !v.present {
			v.former = 0
			continue
		}
		task, _ := st.Task(v.name)
		k.checkProcesses(v, stepRunning, left[v.name].pids)
		if v.uuid == "" {
			v.uuid = task.UUID
		}
		if v.port == 0 {
			v.port = task.Ports[0].Host
		}
		v.former = 0
		if task.PID != v.pid || task.UUID != v.uuid || task.Ports[0].Host != v.port || task.Restarts != 0 {
			k.h.t.Errorf("after kills %+v, before pid %d, uuid %s, port %d", task, v.pid, v.uuid, v.port)
		}
		k.h.checkCommandLine(v)
	}
}

// table is how many kills fell into which step.
func (k *killings) table() string {
	var text strings.Builder
	table := tabwriter.NewWriter(&text, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(&text, "%d kills fell into these steps of tasks:\n", k.kills)
	for _, step := range killSteps {
		fmt.Fprintf(table, "%d\t %s\n", k.counts[step], step)
	}
	table.Flush()
	return text.String()
}
