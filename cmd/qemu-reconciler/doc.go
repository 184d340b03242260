// Command qemu-reconciler keeps QEMU virtual machines in step with a directory
// of task files: `run` is the daemon, the other commands check files, show
// what is, and ask the daemon for something.
//
// This package wires and prints. What a task file means is package spec's,
// what QEMU does package runtime's, and what ought to be done package
// reconcile's. A command reads its flags, the environment and config.hcl
// (app.go), and then asks the daemon over its control socket (client.go,
// control.go) or, when there is none, looks at the files and the records
// itself (offline.go). `run` puts the daemon together in daemon.go.
package main
