// Package e2e runs the real program on real QEMU: it builds the binary with the
// race detector, gives each test a host of its own (task, state and run
// directory, free ports), and looks at it as an operator would: through files,
// commands, the control socket, events.jsonl and /proc.
//
// Every wait has a deadline and looks again every few milliseconds; none is a
// fixed sleep. At the end of a test no QEMU of its host is left, and one that
// the daemon did not know fails the test, as does a data race in the daemon.
package e2e
