package spec

import (
	"testing"
	"time"
)

// TestReady holds that who did not wait for files is told when there is more to
// load, until all are parsed, and that who waited is told nothing.
func TestReady(t *testing.T) {
	dir := t.TempDir()
	told := make(chan struct{}, 100)
	l := impatient(dir)
	l.opts.Ready = func() { told <- struct{}{} }
	settle := func(writing int) *Set {
		t.Helper()
		late := time.After(time.Minute)
		for {
			set := l.Load()
			if len(set.Writing) == writing {
				return set
			}
			select {
			case <-told:
			case <-late:
				t.Fatalf("not told when all but %d files are parsed: %v", writing, set.Writing)
			}
		}
	}
	l.lanes.slow <- struct{}{} // nobody gets through
	for _, name := range []string{"a", "b", "c"} {
		write(t, dir, name+".hcl", task(name, 512))
	}
	write(t, dir, "dear.hcl", dear(1))
	if set := settle(1); len(set.Definitions) != 3 {
		t.Errorf("%v", names(set))
	}
	<-l.lanes.slow
	settle(0)

	for len(told) > 0 {
		<-told
	}
	l.opts.Patience = time.Hour
	write(t, dir, "a.hcl", task("a", 1024))
	if set := l.Load(); set.Unsettled || len(told) > 0 {
		t.Errorf("told %d times for nothing, writing %v", len(told), set.Writing)
	}
}
