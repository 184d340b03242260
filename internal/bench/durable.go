package bench

import (
	"os"
	"time"

	"github.com/qemu-reconciler/qemu-reconciler/internal/e2e"
	"github.com/qemu-reconciler/qemu-reconciler/runtime"
)

// durability measures what it costs that a record is on the disk, and what of
// that a start waits for: only where a port is allocated.
func (r *run) durability() {
	r.ports("durable.port")
	r.records(r.host(e2e.Stopped()))
	if _, err := os.Stat(memoryDisk); err == nil {
		before := os.Getenv("TMPDIR")
		r.must(os.Setenv("TMPDIR", memoryDisk))
		r.ports("durable.memory")
		r.fleetInMemory()
		r.must(os.Setenv("TMPDIR", before))
	}
}

// fleetInMemory is the smallest fleet once more.
func (r *run) fleetInMemory() {
	if r.rows["durable.ready"] == nil && r.rows["durable.gone"] == nil {
		return
	}
	f := r.newFleet("durable.", r.Sizes[0])
	f.furnish()
	for range min(fleets, r.Repeats) {
		f.come("ready")
		f.leave("gone", "", f.ask)
	}
}

// ports times starts that allocate a port.
func (r *run) ports(row string) {
	if r.rows[row] == nil {
		return
	}
	h := r.host()
	l := &living{run: r, h: h, text: task(h, web, "port_map = { web = 80 }"), console: r.console(h, web)}
	for range r.Repeats {
		var began time.Time
		there, _ := l.next(func() { began = l.place(l.text) })
		r.ours(row, ms(there.Sub(began)))
		l.leave()
	}
}

// records times the writing of a record as the daemon does it.
func (r *run) records(h *e2e.Host) {
	layout := runtime.Layout{State: h.State, Run: h.Run}
	r.must(layout.Prepare())
	store := runtime.OpenStore(layout)
	record := &runtime.Record{Version: runtime.RecordVersion, Task: web, Process: &runtime.ProcessInfo{Argv: make([]string, 60)}}
	for range r.Repeats * r.Stops {
		for row, durable := range map[string]bool{"durable.written": false, "durable.synced": true} {
			began := time.Now()
			r.must(store.Put(record, durable))
			r.ours(row, ms(time.Since(began)))
		}
	}
}
