// Package runtime knows QEMU and no policy.
//
// It is the only package with exec, sockets and syscalls. It keeps one record
// a task, starts QEMU processes that outlive the daemon, recognises them again
// after it died, speaks QMP to them, climbs the stop ladder, and says what it
// observes. What ought to run is not its business: package reconcile decides.
//
// The way through it: a Record says what was meant before anything is done
// (state.go) → a pure argv and its effect (launch.go) → a Process that is
// identified by more than a pid (process.go) → a Monitor session (monitor.go)
// → a Machine, which folds all four into an Observation (machine.go).
package runtime
