package main

import (
	"runtime/debug"
	"testing"
)

// The limit holds for a host with few tasks and leaves room for many, with some
// to spare for what their judgement throws away.
func TestMemoryLimitGrowsWithTasks(t *testing.T) {
	const mib = 1 << 20
	for tasks, want := range map[int]int64{0: 192 * mib, 999: 192 * mib, 1000: 256 * mib, 10000: 832 * mib} {
		if got := memoryLimit(tasks); got != want {
			t.Errorf("%d tasks: %d MiB, want %d", tasks, got/mib, want/mib)
		}
	}
	t.Setenv("GOMEMLIMIT", "")
	before := debug.SetMemoryLimit(-1)
	t.Cleanup(func() { debug.SetMemoryLimit(before) })
	var bound memoryBound
	bound.fit(10000)
	if got := debug.SetMemoryLimit(-1); got != memoryLimit(10000) {
		t.Errorf("the limit is %d MiB", got/mib)
	}
	t.Setenv("GOMEMLIMIT", "64MiB")
	bound.fit(0)
	if got := debug.SetMemoryLimit(-1); got != memoryLimit(10000) {
		t.Errorf("with GOMEMLIMIT the limit is %d MiB", got/mib)
	}
}
