package main

import (
	goruntime "runtime"
	"sync"
)

// spareThreads is how many threads the daemon has from the start beside those that it
// needs at rest. Go starts one when all others are in the kernel, keeps it, and
// aborts when it cannot: a daemon that first needs one when the host or its user has
// reached a limit on processes would die of it. Eight starts, eight syncs and some
// writes at once are what it ever has on its way.
const spareThreads = 16

// startThreads starts them: each goroutine keeps a thread until all have one.
func startThreads() {
	var all, held sync.WaitGroup
	held.Add(spareThreads)
	for range spareThreads {
		all.Go(func() {
			goruntime.LockOSThread()
			defer goruntime.UnlockOSThread() // else the thread would end with the goroutine
			held.Done()
			held.Wait()
		})
	}
	all.Wait()
}
