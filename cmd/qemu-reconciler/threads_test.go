package main

import (
	"os"
	"testing"
)

func TestStartThreads(t *testing.T) {
	threads := func() int {
		list, err := os.ReadDir("/proc/self/task")
		if err != nil {
			t.Fatal(err)
		}
		return len(list)
	}
	startThreads()
	if n := threads(); n < spareThreads {
		t.Errorf("%d threads, %d of them are to be spare", n, spareThreads)
	}
}
