package e2e

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/qemu-reconciler/qemu-reconciler/internal/guest"
	"github.com/qemu-reconciler/qemu-reconciler/reconcile"
)

const (
	// speedSamples is how many changes of each kind are timed.
	speedSamples = 7
	// maxOwnTime is far above what a change takes of the tool's own time,
	// which is some milliseconds.
	maxOwnTime = 500 * time.Millisecond
)

// The tool's own part in a change: what passes between the rename of a file and
// the exec of QEMU, and where a QEMU has to end first, the time without that and
// without the settling of a removal. It runs alone.
func TestOwnTimeOfAChange(t *testing.T) {
	h := Start(t)
	text := h.Task("web", guest.Quiet, "port_map = { web = 80 }")
	edited := strings.Replace(text, "memory = 128", "memory = 136", 1)
	var start, restart, restartEnd, removal, removalEnd []time.Duration
	for range speedSamples {
		written := time.Now()
		h.Write("web.hcl", text)
		start = append(start, h.After(written, "started").Sub(written))
		h.After(written, "running")
		pid := h.QEMUs()[0].PID

		written = time.Now()
		gone := h.NoteEnds(pid)
		h.Write("web.hcl", edited)
		restart = append(restart, h.After(written, "stopping").Sub(written))
		restartEnd = append(restartEnd, h.After(written, "started").Sub((<-gone)[0]))
		h.After(written, "running")
		pid = h.QEMUs()[0].PID

		written = time.Now()
		gone = h.NoteEnds(pid)
		h.Remove("web.hcl")
		removal = append(removal, h.After(written, "stopping").Sub(written)-reconcile.RemovalSettle)
		removalEnd = append(removalEnd, h.After(written, "removed").Sub((<-gone)[0]))
	}
	for _, measured := range []struct {
		what  string
		times []time.Duration
	}{
		{"new file → QEMU runs", start},
		{"edit → stop begins", restart},
		{"old QEMU gone → new one runs", restartEnd},
		{"removal settled → stop begins", removal},
		{"QEMU gone → removed", removalEnd},
	} {
		slices.Sort(measured.times)
		median := measured.times[len(measured.times)/2]
		t.Logf("%-30s median %8s, least %8s, most %8s", measured.what, median.Round(100*time.Microsecond),
			measured.times[0].Round(100*time.Microsecond), measured.times[len(measured.times)-1].Round(100*time.Microsecond))
		if median > maxOwnTime {
			t.Errorf("%s takes %s, at most %s", measured.what, median, maxOwnTime)
		}
	}
}
