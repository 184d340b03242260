package main

import (
	"os"
	"runtime/debug"
)

// The soft limit of the daemon's memory: baseMemory, and memoryPerThousand for
// each thousand of tasks begun, which is about twice what they need.
const (
	baseMemory        = 128 << 20
	memoryPerThousand = 64 << 20
)

// memoryBound makes the garbage collector work harder from a size on that only
// hostile task files come to. A limit that knew nothing of the tasks would be
// below what thousands of them need: then the collector would never rest. The
// zero value has set no limit yet.
type memoryBound struct{ limit int64 }

// fit sets the limit for so many tasks. GOMEMLIMIT goes before it.
func (b *memoryBound) fit(tasks int) {
	if os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	limit := memoryLimit(tasks)
	if limit != b.limit { // to set it stops all goroutines for a moment
		b.limit = limit
		debug.SetMemoryLimit(limit)
	}
}

func memoryLimit(tasks int) int64 {
	thousands := int64(tasks)/1000 + 1
	return baseMemory + thousands*memoryPerThousand
}
