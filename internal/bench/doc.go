// Package bench measures qemu-reconciler against the floor: a bare launcher that
// forks and execs the very command lines that the reconciler uses, with sockets
// and logs made beforehand, and does nothing else. Both take turns in one run,
// so that what a busy or a slow host does to one it does to the other: the
// ratios count, the times do not.
//
//	make bench BENCH_REPEATS=9 BENCH_ROWS='start|stop' BENCH_SEED=1 BENCH_OUT=build/bench.json
//
// What is measured, and how (rows.go lists it with the goals):
//
//   - A guest is ready when READY is in its console log. QEMU writes that log for
//     both; inotify tells of it, and nobody polls.
//   - A QEMU is there when the call that forked it has returned, which is after
//     the exec: at the floor by the clock, for the reconciler by what
//     the event of the start says, which is taken then.
//   - A QEMU is gone when its pidfd says so, and at the floor when wait4 does. Both
//     tell it to a thread of this process, which is late on a busy host: what is
//     timed from there is too short by that, and may be negative.
//   - A guest is asked to stop at any moment between two looks at its button, the
//     same ones for both sides: see phases.
//   - A session with QEMU is up when QEMU has answered query-status in it: its
//     answers are in the log that it keeps of its monitor.
//   - That an edit of a comment was seen is told by the daemon's log, and that no
//     QEMU was touched by its pid and by that log of its monitor.
//   - Rest is watched before anybody has asked for the status, since for that the
//     daemon asks every QEMU whether it answers, and then none for minutes.
//   - Other moments are those of the event log.
//
// Nothing here asks the daemon anything while it is being timed, but for the
// time that a new daemon needs to know what runs: that is asked for.
//
// The command in internal/bench/table prints the table of a run and writes
// docs/performance.md from several.
package bench
