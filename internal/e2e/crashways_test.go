package e2e

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/qemu-reconciler/qemu-reconciler/internal/guest"
	"github.com/qemu-reconciler/qemu-reconciler/runtime"
)

// What is wanted of the task of a way in the end.
type ending int

const (
	running ending = iota
	absent         // neither record nor process
	kept           // its process runs and is no business of the status
	off            // in the status, without a process
	held           // in the status, with its process, until an approval
)

// crashWay leads a task through crash points.
type crashWay struct {
	name    string
	variant guest.Variant
	config  []string // lines of the config block
	task    []string // lines of the task block
	// ready brings the task to where the way begins, with the daemon running or
	// not; walk leads through the points, and a daemon that is not there is
	// started after it; died is done as soon as the daemon has died; repeat leads
	// the next daemon there, should it not go by itself; mend takes away what is in
	// the way of the ending.
	ready, walk, died, repeat, mend func(*crashed)
	end                             ending
	// replaces says that the task gets another process than it had.
	replaces bool
	// restarts is how often policy starts it; less than zero is any number.
	restarts int
	// cause is that of the last exit, where there is evidence of it whoever saw
	// it; empty is any.
	cause string
	// recordless says that processes may be left that no record leads to.
	recordless bool
	// slow ways take seconds and hosts of their own.
	slow bool
}

const crashPort = "port_map = { web = 80 }"

// The ways.
var (
	wayStart   = &crashWay{name: "start", variant: guest.Button, config: []string{"port_map = {\n web = 80\n extra = 81\n }", graceful}, walk: (*crashed).drop, replaces: true}
	wayFailing = &crashWay{name: "failing", variant: guest.Deaf, config: []string{crashPort}, ready: (*crashed).occupy, walk: (*crashed).drop, mend: (*crashed).vacate, replaces: true, restarts: -1}
	wayRemoval = &crashWay{name: "removal", variant: guest.Button, config: []string{crashPort, graceful}, ready: (*crashed).run, walk: (*crashed).remove, end: absent}
	wayBlunt   = &crashWay{name: "blunt", variant: guest.Deaf, ready: (*crashed).run, walk: (*crashed).remove, end: absent}
	wayHung    = &crashWay{name: "hung", variant: guest.Deaf, ready: (*crashed).hang, walk: (*crashed).remove, end: absent, slow: true}
	wayAgent   = &crashWay{name: "agent", variant: guest.Button, config: []string{graceful, "guest_agent = true"}, ready: (*crashed).runLinux, walk: (*crashed).remove, end: absent, slow: true}
	wayReplace = &crashWay{name: "replace", variant: guest.Button, config: []string{crashPort, graceful}, ready: (*crashed).run, walk: (*crashed).edit, replaces: true}
	wayDefine  = &crashWay{name: "define", variant: guest.Deaf, config: []string{crashPort}, ready: (*crashed).run, walk: (*crashed).label}
	wayKeep    = &crashWay{name: "keep", variant: guest.Deaf, task: []string{`on_remove = "keep"`}, ready: (*crashed).run, walk: (*crashed).remove, end: kept}
	wayReturn  = &crashWay{name: "return", variant: guest.Deaf, task: []string{`on_remove = "keep"`}, ready: (*crashed).letGo, walk: (*crashed).drop}
	wayKilled  = &crashWay{name: "killed", variant: guest.Deaf, config: []string{crashPort}, ready: (*crashed).run, walk: (*crashed).kill, replaces: true, restarts: 1}
	wayOff     = &crashWay{name: "poweroff", variant: guest.PowerOff, task: []string{"restart {\n on = \"failure\"\n }"}, walk: (*crashed).drop, end: off, cause: runtime.CauseGuestShutdown}

	// On these the brake holds the task's removal. What is held before that is
	// written down is held by the limit once more, afterwards by memory alone: the
	// limit is lifted. An approval that is not written down is none, and one that is
	// holds under the limit.
	wayHolding   = &crashWay{name: "holding", variant: guest.Button, config: []string{crashPort, graceful}, ready: (*crashed).brake, walk: (*crashed).remove, end: held}
	wayHeld      = &crashWay{name: "held", variant: guest.Button, config: []string{crashPort, graceful}, ready: (*crashed).brake, walk: (*crashed).remove, died: (*crashed).lift, end: held}
	wayApproving = &crashWay{name: "approving", variant: guest.Button, config: []string{crashPort, graceful}, ready: (*crashed).hold, walk: (*crashed).approve, died: (*crashed).lift, repeat: (*crashed).approveHeld, end: held}
	wayApproved  = &crashWay{name: "approved", variant: guest.Button, config: []string{crashPort, graceful}, ready: (*crashed).hold, walk: (*crashed).approve, end: absent}

	// On these the daemon dies while it takes over from one that is dead.
	wayRecord      = &crashWay{name: "record", variant: guest.Deaf, config: []string{crashPort}, ready: (*crashed).widow}
	waySocket      = &crashWay{name: "socket", variant: guest.Deaf, config: []string{crashPort}, ready: dying("start.forked", (*crashed).drop)}
	wayNobody      = &crashWay{name: "nobody", variant: guest.Deaf, config: []string{crashPort}, ready: dying("start.announced", (*crashed).drop), replaces: true}
	wayUnseen      = &crashWay{name: "unseen", variant: guest.Deaf, config: []string{crashPort}, ready: (*crashed).bereave, replaces: true, restarts: 1}
	wayLost        = &crashWay{name: "lost", variant: guest.Deaf, config: []string{crashPort}, ready: (*crashed).lose, recordless: true}
	wayCorrupt     = &crashWay{name: "corrupt", variant: guest.Deaf, config: []string{crashPort}, ready: (*crashed).corrupt, recordless: true}
	wayCorruptHeld = &crashWay{name: "corrupt-held", variant: guest.Deaf, config: []string{crashPort}, ready: (*crashed).corruptHeld, end: off, recordless: true}
	wayLostHeld    = &crashWay{name: "lost-held", variant: guest.Deaf, config: []string{crashPort}, ready: (*crashed).loseHeld, end: off}
)

// crashPath says which way leads through the points whose names begin so, and
// how often it passes each. The longest beginnings count.
type crashPath struct {
	points string
	way    *crashWay
	passes int
}

var crashPaths = []crashPath{
	{"ports.", wayStart, 1},
	{"ports.found", wayStart, 2},
	{"socket.", wayStart, 2},
	{"start.", wayStart, 1},
	{"start.bound", wayStart, 2},
	{"start.announced", wayStart, 1},
	{"start.announced", wayKilled, 1},
	{"start.forked", wayStart, 1},
	{"start.forked", wayKilled, 1},
	{"start.fail", wayFailing, 1},
	{"process.", wayStart, 1},
	{"session.", wayStart, 1},
	{"session.replied", wayStart, 2},

	// What is left behind before a write has its effect and after it: for every
	// write of every way. Of a durable one the copy is written first; what nobody
	// waits for comes last.
	{"record.", wayStart, 1},
	{"record.half", wayStart, 4},
	{"record.half", wayKilled, 5},
	{"record.secured", wayKilled, 1},
	{"record.half", wayRemoval, 2},
	{"record.half", wayReplace, 4},
	{"record.half", wayDefine, 2},
	{"record.half", wayKeep, 2},
	{"record.half", wayReturn, 2},
	{"record.copied", wayStart, 1},
	{"record.copied", wayReplace, 2},
	{"record.saved", wayStart, 3},
	{"record.saved", wayRemoval, 2},
	{"record.saved", wayReplace, 3},

	{"define.", wayDefine, 1},
	{"replace.", wayReplace, 1},
	{"stop.", wayRemoval, 1},
	{"stop.announced", wayRemoval, 1},
	{"stop.announced", wayReplace, 1},
	{"stop.climbed", wayRemoval, 1},
	{"stop.climbed", wayReplace, 1},
	{"stop.rung", wayRemoval, 1},
	{"stop.rung", wayHung, 2},
	{"stop.agent.", wayAgent, 1},
	{"stop.acpi.", wayRemoval, 1},
	{"stop.quit.", wayBlunt, 1},
	{"stop.sigterm.", wayHung, 1},
	{"stop.sigkill.", wayHung, 1},
	{"end.", wayRemoval, 1},
	{"end.", wayKilled, 1},
	{"end.", wayOff, 1},
	{"end.recorded", wayRemoval, 1},
	{"end.recorded", wayKilled, 1},
	{"end.recorded", wayOff, 1},
	{"end.recorded", wayUnseen, 1},
	{"removals.changed", wayHolding, 1},
	{"removals.changed", wayApproved, 1},
	{"removals.saved", wayHeld, 1},
	{"removals.saved", wayApproved, 1},
	{"approve.began", wayApproving, 1},
	{"approve.", wayApproved, 1},
	{"forget.", wayRemoval, 1},
	{"keep.", wayKeep, 1},
	{"return.", wayReturn, 1},

	{"adopt.", wayRecord, 1},
	{"adopt.recorded", wayRecord, 2},
	{"adopt.told", wayRecord, 2},
	{"adopt.socket.", waySocket, 1},
	{"adopt.nobody", wayNobody, 1},
	{"adopt.cleared", wayNobody, 1},
	{"adopt.unseen", wayUnseen, 1},
	{"adopt.environment.", wayLost, 1},
	{"adopt.environment.", wayCorrupt, 1},
	{"adopt.aside", wayCorrupt, 1},
	{"adopt.aside", wayCorruptHeld, 1},
	{"adopt.restored", wayRecord, 1},
	{"adopt.restored", wayLost, 1},
	{"adopt.restored", wayCorrupt, 1},
	{"adopt.restored", wayCorruptHeld, 1},
	{"adopt.restored", wayLostHeld, 1},
	{"adopt.rewritten", wayLost, 1},
	{"adopt.rewritten", wayCorrupt, 1},
	{"adopt.rewritten", wayCorruptHeld, 1},
	{"adopt.rewritten", wayLostHeld, 1},
}

func (c *crashed) drop() { c.h.Write(c.name+".hcl", c.text) }

func (c *crashed) remove() {
	c.h.Remove(c.name + ".hcl")
	if c.way.end == absent {
		c.pid = 0
	}
}

// run has the task running.
func (c *crashed) run() {
	c.drop()
	c.h.AwaitConsole(c.name, guest.SaysReady)
	c.running()
}

// running takes note of the process that the task has.
func (c *crashed) running() {
	task := c.h.AwaitPhase(c.name, "running")
	c.h.AwaitConverged()
	c.pid, c.uuid = task.PID, task.UUID
	for _, port := range task.Ports {
		c.port = port.Host
	}
	if c.way.replaces {
		c.pid, c.former = 0, task.PID
	}
}

// hang has it running and then do nothing any more.
func (c *crashed) hang() {
	c.run()
	c.h.SignalQEMU(c.name, syscall.SIGSTOP)
}

func (c *crashed) runLinux() {
	c.text = strings.Replace(c.text, "guest_agent", c.h.LinuxArgs(guest.LinuxOptions{Agent: true, Deaf: true})+"\n    guest_agent", 1)
	c.run()
}

// edit needs a restart, and another port beside the one that stays.
func (c *crashed) edit() {
	c.memory = 160
	c.text = strings.Replace(moreMemory(c.text), crashPort, "port_map = {\n web = 80\n extra = 81\n }", 1)
	c.drop()
}

// label changes nothing about the machine.
func (c *crashed) label() {
	c.text = with(c.text, `meta = { owner = "ops" }`)
	c.drop()
}

func (c *crashed) letGo() {
	c.run()
	c.remove()
	c.h.AwaitEvent("kept", c.name)
}

func (c *crashed) kill() { c.h.SignalQEMU(c.name, syscall.SIGKILL) }

// occupy has a stranger on the task's port, and vacate sends him away.
func (c *crashed) occupy() {
	var err error
	c.stranger, err = net.Listen("tcp4", "0.0.0.0:0")
	c.h.must(err)
	c.port = c.stranger.Addr().(*net.TCPAddr).Port
	c.text = strings.Replace(c.text, "memory = 128\n", fmt.Sprintf("memory = 128\n    network {\n port \"web\" { static = %d }\n }\n", c.port), 1)
}

func (c *crashed) vacate() { c.h.must(c.stranger.Close()) }

// widow leaves a task without a daemon.
func (c *crashed) widow() {
	c.run()
	c.h.Kill()
}

// bereave has its process end as well.
func (c *crashed) bereave() {
	c.widow()
	c.kill()
	c.h.Await("end of "+c.name, func() bool { return len(c.pids()) == 0 })
}

// lose takes its record away, and the record's copy.
func (c *crashed) lose() {
	c.run()
	c.h.AwaitSecured()
	c.h.Kill()
	c.h.must(os.Remove(c.record()))
	c.h.must(os.Remove(c.record() + ".durable"))
}

// corrupt leaves nothing in its record, as a power cut may.
func (c *crashed) corrupt() {
	c.widow()
	c.h.must(os.Truncate(c.record(), 0))
}

// corruptHeld does so to a task that an operator has stopped.
func (c *crashed) corruptHeld() {
	c.holdStopped()
	c.h.must(os.Truncate(c.record(), 0))
}

// loseHeld takes away the record of such a task, and leaves the copy.
func (c *crashed) loseHeld() {
	c.holdStopped()
	c.h.must(os.Remove(c.record()))
}

// holdStopped leaves a task that an operator has stopped without a daemon.
func (c *crashed) holdStopped() {
	c.run()
	c.h.Act("stop", c.name, true)
	c.pid = 0
	c.h.AwaitConverged()
	c.h.Kill()
}

// dying gives the deed of dying at a point on the way, once.
func dying(point string, walk func(*crashed)) func(*crashed) {
	return func(c *crashed) {
		c.h.orderDeath(point, 1)
		walk(c)
		c.die(point, c.tally.first)
		c.look()
	}
}

func (c *crashed) record() string { return filepath.Join(c.h.State, "tasks", c.name+".json") }
