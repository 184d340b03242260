package reconcile

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A stop does not wait for the disk, its answer does.
func TestStopGoesOnWhileItsHoldIsSecured(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := hamlet(t, "ab", nil)
		defer h.stop()
		h.machines.securing = make(chan error)
		answer := make(chan error, 1)
		go func() { answer <- h.StopTasks(t.Context(), []string{"a", "b"}, true) }()
		time.Sleep(time.Second)
		expect(t, "stopped", h.stops(), []string{"a", "b"})
		select {
		case err := <-answer:
			t.Fatalf("it is answered before the disk has it: %v", err)
		default:
		}
		h.machines.securing <- nil
		h.machines.securing <- errors.New("input/output error")
		var failed *CommandError
		if err := <-answer; !errors.As(err, &failed) || len(failed.Reasons) != 1 || !strings.Contains(err.Error(), "input/output error") {
			t.Errorf("answered: %v", err)
		}
	})
}

// After the start of a daemon a file may take long to read: what it defines is no
// reason to refuse a command.
func TestCommandsWaitForFilesThatAreRead(t *testing.T) {
	for _, settles := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			h := hamlet(t, "a", nil)
			h.stop()
			h.loader.writing = "a.hcl"
			next := New(h.cfg)
			h.machines.poke = next.Poke
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			go next.Run(ctx)
			synctest.Wait()
			time.AfterFunc(time.Second, func() {
				h.loader.mu.Lock()
				defer h.loader.mu.Unlock()
				if settles {
					h.loader.writing = ""
				}
			})
			began := time.Now()
			err := next.RestartTasks(ctx, []string{"a"}, true)
			switch took := time.Since(began); {
			case settles && (err != nil || len(h.stops()) != 1):
				t.Errorf("after %v: %v, stopped %v", took, err, h.stops())
			case !settles && (err == nil || !strings.Contains(err.Error(), "a.hcl") || took < filesPatience || len(h.stops()) != 0):
				t.Errorf("after %v: %v, stopped %v", took, err, h.stops())
			}
		})
	}
}
