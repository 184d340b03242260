package runtime

import (
	"errors"
	"testing"

	"github.com/qemu-reconciler/qemu-reconciler/internal/guest"
)

func TestClosed(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	task := l.task("vm", guest.Deaf)
	must(t, l.Close())
	must(t, l.Close())
	for name, err := range map[string]error{
		"start":  l.Start(t.Context(), startOf(task)),
		"stop":   l.Stop(t.Context(), "vm", StopRequest{}),
		"update": l.Update("vm", func(*Record) {}),
		"forget": l.Forget("vm"),
	} {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
