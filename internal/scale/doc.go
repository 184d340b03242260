// Package scale measures the daemon with thousands of tasks, on stand-ins for
// QEMU: whether what it does, and what it costs, grows no faster than their
// number. Measure is for a benchmark; the package's own test runs it with a few
// tasks, and with as many as one likes:
//
//	go test -run TestScale -v -timeout 1h ./internal/scale -scale.tasks 1000,2500,5000,10000
//
// A VM costs the daemon two descriptors, a start some more for its moment, and
// the host one process of at least one thread. So 10,000 of them want:
//
//	LimitNOFILE       24,000 for the daemon (`ulimit -Hn`; it raises its own soft limit)
//	kernel.pid_max    above all threads: a QEMU has 3 or more (a stand-in has 1)
//	kernel.threads-max, the cgroup's pids.max and TasksMax: the same
package scale
