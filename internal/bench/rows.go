package bench

import "fmt"

// alone is the floor's setting where it has but one.
const alone = "alone"

// newRows are all rows in the order of the table.
func newRows(o Options) []*Row {
	rows := lifeRows()
	for i, n := range o.Sizes {
		rows = append(rows, fleetRows(n, i == 0)...)
	}
	rows = append(rows, manyRows(o.Many, o.Files)...)
	return append(rows, programRows(o.Sizes[0])...)
}

// lifeRows are those of one VM.
func lifeRows() []*Row {
	const file, edit, quit, stop = "one file renamed into place", "edit that changes nothing", "stop by force", "graceful stop"
	asked, command := ", asked of daemon", ", `stop`"
	return []*Row{
		{ID: "start.exec", Work: file, Measure: "to exec", Unit: "ms", Goal: Goal{AtMost, 5}},
		{ID: "start.ready", Work: file, Measure: "to READY", Unit: "ms", Goal: Goal{TimesFloor, 1.10}},
		{ID: "restart.exec", Work: "edit that needs a restart", Measure: "old gone to exec", Unit: "ms", Goal: Goal{AtMost, 5}},
		{ID: "edit.seen", Work: edit, Measure: "comment, seen", Unit: "ms", Goal: Goal{AtMost, 10}},
		{ID: "edit.recorded", Work: edit, Measure: "policy, recorded", Unit: "ms", Goal: Goal{AtMost, 10}},
		{ID: "edit.touched", Work: edit, Measure: "QEMUs touched", Goal: Goal{EachAtMost, 0}},
		{ID: "kill.exec", Work: "QEMU killed", Measure: "to exec", Unit: "ms", Goal: Goal{OverFloor, 5}},
		{ID: "quit.gone", Work: quit + asked, Measure: "to gone", Unit: "ms", Goal: Goal{TimesFloor, 1.10}},
		{ID: "quit.event", Work: quit + asked, Measure: "gone to event", Unit: "ms", Goal: Goal{AtMost, 10}},
		{ID: "quit.command", Work: quit + command, Measure: "to gone", Unit: "ms"},
		{ID: "stop.gone", Work: stop + asked, Measure: "to gone", Unit: "ms", Goal: Goal{TimesFloor, 1.10}},
		{ID: "stop.event", Work: stop + asked, Measure: "gone to event", Unit: "ms", Goal: Goal{AtMost, 10}},
		{ID: "stop.command", Work: stop + command, Measure: "to gone", Unit: "ms", Goal: Goal{TimesFloor, 1.10}},
	}
}

// moreThreads is how many threads the daemon may have more than with no VM,
// however many those are. The Go runtime starts one when all that it has are in
// the kernel: for the eight starts at once, each of which may be at its disk and
// forks, and for the stops; and it keeps them. A thread for each VM would be fifty.
const moreThreads = 16

// fleetRows are those of many VMs at once; with the first fleet, those of none,
// of rest and of a stop by the command as well.
func fleetRows(n int, first bool) []*Row {
	id := func(what string) string { return fmt.Sprintf("fleet%d.%s", n, what) }
	vms := fmt.Sprintf("%d VMs", n)
	stop, killed, daemon, adopted := "graceful stop of "+vms, "daemon killed, started, "+vms, "daemon, "+vms, "daemon, "+vms+" adopted"
	// What is wanted of 50 and of 200.
	ready, known, memory := 1.10, 100.0, 25.0
	if n > 50 {
		ready, known, memory = 1.15, 250, 40
	}
	rows := []*Row{
		{ID: id("ready"), Work: fmt.Sprintf("%d files in one sync", n), Measure: "to all READY", Unit: "ms", Goal: Goal{TimesFloor, ready}},
		{ID: id("gone"), Work: stop, Measure: "to all gone", Unit: "ms", Goal: Goal{TimesFloor, 1.10}},
		{ID: id("event"), Work: stop, Measure: "gone to last event", Unit: "ms", Goal: Goal{AtMost, 10}},
		{ID: id("orphans"), Work: stop + ", adopted", Measure: "gone to last event", Unit: "ms", Goal: Goal{AtMost, 10}},
		{ID: id("known"), Work: killed, Measure: "to all known", Unit: "ms", Goal: Goal{AtMost, known}},
		{ID: id("sessions"), Work: killed, Measure: "to all sessions", Unit: "ms", Goal: Goal{AtMost, 1000}},
		{ID: id("pss"), Work: daemon, Measure: "memory (PSS)", Unit: "MB", Goal: Goal{AtMost, memory}},
		{ID: id("threads"), Work: daemon, Measure: "threads", Goal: Goal{OverFloor, moreThreads}},
		{ID: id("helpers"), Work: daemon, Measure: "helper processes", Goal: Goal{EachAtMost, 0}},
		{ID: id("adopted"), Work: adopted, Measure: "memory (PSS)", Unit: "MB", Goal: Goal{AtMost, memory}},
		{ID: id("threads-adopted"), Work: adopted, Measure: "threads", Goal: Goal{OverFloor, moreThreads}},
	}
	if !first {
		return rows
	}
	rest := "60 s of rest, " + vms
	return append(append([]*Row{
		{ID: "idle.pss", Work: "daemon, no VM", Measure: "memory (PSS)", Unit: "MB", Goal: Goal{AtMost, 20}},
		{ID: "idle.threads", Work: "daemon, no VM", Measure: "threads"},
	}, rows...),
		&Row{ID: id("command"), Work: stop + ", `stop`", Measure: "to all gone", Unit: "ms", Goal: Goal{TimesFloor, 1.10}},
		&Row{ID: "rest.cpu", Work: rest, Measure: "CPU of the daemon", Unit: "ms", Goal: Goal{AtMost, 10}},
		&Row{ID: "rest.switches", Work: rest, Measure: "context switches", Goal: Goal{AtMost, 100}},
		&Row{ID: "rest.asked", Work: rest, Measure: "QEMUs asked"})
}

// programRows are those of the program itself, and of what a write to the disk
// costs; n is the number of VMs of the smallest fleet.
func programRows(n int) []*Row {
	memory := fmt.Sprintf("%d VMs, state in memory", n)
	return []*Row{
		{ID: "program.size", Work: "the program", Measure: "size", Unit: "MB", Goal: Goal{AtMost, 25}},
		{ID: "program.status", Work: fmt.Sprintf("`status`, %d VMs", n), Measure: "start to end", Unit: "ms", Goal: Goal{AtMost, 20}},
		{ID: "program.version", Work: "`version`", Measure: "start to end", Unit: "ms"},
		{ID: "durable.written", Work: "a record", Measure: "written", Unit: "ms"},
		{ID: "durable.synced", Work: "a record", Measure: "on the disk", Unit: "ms"},
		{ID: "durable.port", Work: "one file, a port to allocate", Measure: "to exec", Unit: "ms"},
		{ID: "durable.memory", Work: "the same, state in memory", Measure: "to exec", Unit: "ms"},
		{ID: "durable.ready", Work: memory, Measure: "to all READY", Unit: "ms"},
		{ID: "durable.gone", Work: memory, Measure: "graceful stop", Unit: "ms"},
	}
}
