package runtime

import (
	"fmt"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qemu-reconciler/qemu-reconciler/internal/guest"
)

// TestHangingVMsHoldUpNoOthers: more QEMUs hang than are spoken to at once, and the
// others answer all the same long before the patience with one that hangs is over.
func TestHangingVMsHoldUpNoOthers(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	var sound, hanging []string
	for i := range 2 * greetedAtOnce {
		sound, hanging = append(sound, fmt.Sprintf("sound%d", i)), append(hanging, fmt.Sprintf("hangs%d", i))
		l.start(l.task(sound[i], guest.Button))
		l.start(l.task(hanging[i], guest.Button))
	}
	for _, name := range hanging {
		l.kill(name, unix.SIGSTOP)
	}
	l.reopen(func() {})
	began := time.Now()
	for _, name := range sound {
		l.answering(name)
	}
	if took := time.Since(began); took >= connectPatience {
		t.Errorf("they answered after %s", took)
	}
	for _, name := range hanging {
		if o := l.Observe()[name]; !o.Alive || o.Answering {
			t.Errorf("%s: %s", name, asJSON(o))
		}
		l.kill(name, unix.SIGCONT)
		l.answering(name)
	}
	eventually(t, "all turns are over", func() error {
		if turns := len(l.greetings); turns != 0 {
			return fmt.Errorf("%d are not", turns)
		}
		return nil
	})
}
