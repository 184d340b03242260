package reconcile

import (
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
