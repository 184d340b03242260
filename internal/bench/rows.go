package bench

import "fmt"

// alone is the floor's setting where there is but one guest.
const alone = "1"

// newRows are all rows in the order of the table, with fleets of those sizes, the
// smallest first, and numbers of stand-ins in the same order.
func newRows(sizes, many []int) []*Row {
	ms, count, mb := "ms", "", "MB"
	none := Goal{}
	rows := []*Row{
		{ID: "start.exec", Work: "one file renamed into place", Measure: "to exec", Unit: ms, Goal: Goal{AtMost, 5}},
		{ID: "start.ready", Work: "one file renamed into place", Measure: "to READY", Unit: ms, Goal: Goal{TimesFloor, 1.10}},
		{ID: "edit.exec", Work: "edit that needs a restart", Measure: "old gone to exec", Unit: ms, Goal: Goal{AtMost, 5}},
		{ID: "edit.recorded", Work: "edit of a policy", Measure: "to recorded", Unit: ms, Goal: Goal{AtMost, 10}},
		{ID: "edit.seen", Work: "edit of a comment", Measure: "to status after it", Unit: ms, Goal: Goal{AtMost, 10}},
		{ID: "edit.touched", Work: "edit of a policy, a comment", Measure: "QEMUs touched", Unit: count, Goal: Goal{AtMost, 0}},
		{ID: "kill.exec", Work: "QEMU killed", Measure: "to exec", Unit: ms, Goal: Goal{OverFloor, 5}},
		{ID: "quit.gone", Work: "stop by force, asked of daemon", Measure: "to gone", Unit: ms, Goal: Goal{TimesFloor, 1.10}},
		{ID: "quit.event", Work: "stop by force, asked of daemon", Measure: "gone to event", Unit: ms, Goal: Goal{AtMost, 10}},
		{ID: "quit.command", Work: "stop by force, by command", Measure: "to gone", Unit: ms, Goal: none},
		{ID: "stop.gone", Work: "graceful stop, asked of daemon", Measure: "to gone", Unit: ms, Goal: Goal{TimesFloor, 1.10}},
		{ID: "stop.event", Work: "graceful stop, asked of daemon", Measure: "gone to event", Unit: ms, Goal: Goal{AtMost, 10}},
	}
	for i, n := range sizes {
		rows = append(rows, fleetRows(n, i == 0)...)
	}
	rows = append(rows, manyRows(many)...)
	return append(rows,
		&Row{ID: "program.size", Work: "the program", Measure: "size", Unit: mb, Goal: Goal{AtMost, 25}},
		&Row{ID: "program.status", Work: fmt.Sprintf("`status`, %d VMs", sizes[0]), Measure: "start to end", Unit: ms, Goal: Goal{AtMost, 20}},
		&Row{ID: "program.version", Work: "`version`", Measure: "start to end", Unit: ms, Goal: none},
		&Row{ID: "durable.written", Work: "a record", Measure: "written", Unit: ms, Goal: none},
		&Row{ID: "durable.synced", Work: "a record", Measure: "on the disk", Unit: ms, Goal: none},
		&Row{ID: "durable.port", Work: "one file, a port to allocate", Measure: "to exec", Unit: ms, Goal: none},
		&Row{ID: "durable.memory", Work: "the same, state in memory", Measure: "to exec", Unit: ms, Goal: none},
		&Row{ID: "durable.ready", Work: fmt.Sprintf("%d VMs, state in memory", sizes[0]), Measure: "to all READY", Unit: ms, Goal: none},
		&Row{ID: "durable.gone", Work: fmt.Sprintf("%d VMs, state in memory", sizes[0]), Measure: "graceful stop", Unit: ms, Goal: none},
	)
}

// fleetRows are those of many VMs at once; with the first fleet, those of none
// and of rest as well.
func fleetRows(n int, first bool) []*Row {
	id := func(what string) string { return fmt.Sprintf("fleet%d.%s", n, what) }
	files, vms := fmt.Sprintf("%d files in one sync", n), fmt.Sprintf("%d VMs", n)
	// From the issue: for 50 and for 200.
	ready, known, memory := 1.10, 100.0, 25.0
	if n > 50 {
		ready, known, memory = 1.15, 250, 40
	}
	rows := []*Row{
		{ID: id("ready"), Work: files, Measure: "to all READY", Unit: "ms", Goal: Goal{TimesFloor, ready}},
		{ID: id("gone"), Work: "graceful stop of " + vms, Measure: "to all gone", Unit: "ms", Goal: Goal{TimesFloor, 1.10}},
		{ID: id("event"), Work: "graceful stop of " + vms, Measure: "gone to last event", Unit: "ms", Goal: Goal{AtMost, 10}},
		{ID: id("orphans"), Work: "graceful stop of " + vms + ", adopted", Measure: "gone to last event", Unit: "ms", Goal: Goal{AtMost, 10}},
		{ID: id("known"), Work: "daemon killed, started, " + vms, Measure: "to all known", Unit: "ms", Goal: Goal{AtMost, known}},
		{ID: id("sessions"), Work: "daemon killed, started, " + vms, Measure: "to all sessions", Unit: "ms", Goal: Goal{AtMost, 1000}},
		{ID: id("pss"), Work: "daemon, " + vms, Measure: "memory (PSS)", Unit: "MB", Goal: Goal{AtMost, memory}},
		{ID: id("threads"), Work: "daemon, " + vms, Measure: "threads"},
		{ID: id("helpers"), Work: "daemon, " + vms, Measure: "helper processes", Goal: Goal{AtMost, 0}},
		{ID: id("adopted"), Work: "daemon, " + vms + " adopted", Measure: "memory (PSS)", Unit: "MB", Goal: Goal{AtMost, memory}},
		{ID: id("threads-adopted"), Work: "daemon, " + vms + " adopted", Measure: "threads"},
	}
	if first {
		rows = append([]*Row{{ID: "idle.pss", Work: "daemon, no VM", Measure: "memory (PSS)", Unit: "MB", Goal: Goal{AtMost, 20}},
			{ID: "idle.threads", Work: "daemon, no VM", Measure: "threads"}}, rows...)
		rows = append(rows,
			&Row{ID: "rest.cpu", Work: "60 s of rest, " + vms, Measure: "CPU of the daemon", Unit: "ms", Goal: Goal{AtMost, 10}},
			&Row{ID: "rest.switches", Work: "60 s of rest, " + vms, Measure: "context switches", Goal: Goal{AtMost, 100}})
	}
	return rows
}
