// Package bench measures qemu-reconciler against the floor: a bare launcher that
// forks and execs the very command lines that the reconciler uses, with sockets
// and logs made beforehand, and does nothing else. Both take turns in one run,
// so that what a busy or a slow host does to one it does to the other: the
// ratios count, the times do not.
//
//	make bench BENCH_REPEATS=9 BENCH_ROWS='start|stop' BENCH_OUT=build/bench.json
//
// What is measured, and how (rows.go lists it with the goals):
//
//   - A guest is ready when READY is in its console log. QEMU writes that log for
//     both; inotify tells of it, and nobody polls.
//   - A QEMU is there when the call that forked it has returned, which is after
//     the exec: at the floor by the clock, for the reconciler by started_at of
//     its status, which is taken then.
//   - A QEMU is gone when its pidfd says so, and at the floor when wait4 does.
//   - A session with QEMU is up when QEMU has answered query-status in it: its
//     answers are in the log that it keeps of its monitor.
//   - The end of a QEMU that was adopted is told only when its parent, which is
//     pid 1, has collected it, or after 100 ms: that row has no goal, since it
//     depends on the host's init.
//   - Other moments are those of the event log.
//
// Nothing here asks the daemon anything while it is being timed, but for the
// time that a new daemon needs to know what runs: that is asked for.
//
// The command in internal/bench/table prints the table of a run and writes
// docs/performance.md from two.
package bench
