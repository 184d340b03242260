package e2e

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/qemu-reconciler/qemu-reconciler/internal/guest"
)

// A writer stops for a while where the file looks finished, after the first of
// two tasks: the second is on its way, also where no lease can be had and nobody
// knows who writes. In the end a task that is missing is missing.
func TestStalledWriterLosesNothing(t *testing.T) {
	for name, opts := range map[string][]Option{"leases": nil, "no leases": {AsNobody()}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := Start(t, opts...)
			first, second := h.Task("first", guest.Button), h.Task("second", guest.Button)
			h.WritePlain("both.hcl", first+second)
			before := []TaskStatus{h.AwaitRunning("first"), h.AwaitRunning("second")}
			stall := func(path, content string, rest string) {
				t.Helper()
				file, err := os.Create(path)
				h.must(err)
				_, err = file.WriteString(content)
				h.must(err)
				// Longer than a file without a lease takes to count as finished
				// and a removal to be believed, together and twice.
				<-time.After(2 * pause)
				_, err = file.WriteString(rest)
				h.must(err)
				h.must(file.Close())
				h.AwaitConverged()
				for _, task := range before {
					h.ExpectUntouched(task)
				}
			}
			stall(filepath.Join(h.VMs, "both.hcl"), first, second)
			h.Remove("both.hcl")
			stall(filepath.Join(h.VMs, "moved.hcl"), first, second)

			h.WritePlain("moved.hcl", first)
			h.AwaitGone("second")
			h.AwaitConverged()
			h.ExpectUntouched(before[0])
		})
	}
}
