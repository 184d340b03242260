package bench

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/qemu-reconciler/qemu-reconciler/internal/e2e"
)

// web is the task of the scenarios with one VM.
const web = "web"

// lives measures what happens to one VM: it comes, is edited, is killed, goes.
func (r *run) lives() {
	h := r.host()
	l := &living{run: r, h: h, text: task(h, web), console: r.console(h, web)}
	l.place(l.text)
	h.AwaitRunning(web)
	argv := r.argv(h, web)
	l.leave()
	bare := newBare(r.t, r.watch, h, web, argv)
	for i := range r.Repeats {
		inTurn(i, func() { r.bareLife(bare) }, l.live)
	}
}

// bareLife is that of the floor: it starts, is killed, and is started again by
// the one who waits for it.
func (r *run) bareLife(b *bare) {
	began := time.Now()
	there, ready := b.start()
	r.floor("start.exec", alone, ms(there.Sub(began)))
	r.floor("start.ready", alone, ms(ready.Sub(began)))
	nth := b.console.count() + 1
	killed := time.Now()
	b.kill()
	there = b.launch()
	r.floor("kill.exec", alone, ms(there.Sub(killed)))
	b.console.await(r.t, nth)
	b.kill()
}

// living is the reconciler's side.
type living struct {
	*run
	h       *e2e.Host
	text    string
	console *console
}

// place puts the task's file in place.
func (l *living) place(text string) time.Time {
	l.t.Helper()
	return l.stage(l.h, web+".hcl", text)()
}

// next does something that starts a QEMU and waits until that is up; it gives
// the moments at which it was there and at which its guest was ready.
func (l *living) next(begin func()) (there, ready time.Time) {
	l.t.Helper()
	nth := l.console.count() + 1
	begin()
	ready = l.console.await(l.t, nth)
	status := l.h.AwaitPhase(web, "running")
	return *status.StartedAt, ready
}

func (l *living) live() {
	var began time.Time
	there, ready := l.next(func() { began = l.place(l.text) })
	l.ours("start.exec", ms(there.Sub(began)))
	l.ours("start.ready", ms(ready.Sub(began)))
	l.editLightly()

	gone := l.h.NoteEnds(l.h.OnlyQEMU(web))
	heavier := strings.Replace(l.text, "memory = 128\n", "memory = 136\n", 1)
	there, _ = l.next(func() { l.place(heavier) })
	l.ours("edit.exec", ms(there.Sub((<-gone)[0])))

	there, _ = l.next(func() {
		began = time.Now()
		l.h.SignalQEMU(web, syscall.SIGKILL)
	})
	l.ours("kill.exec", ms(there.Sub(began)))
	l.leave()
}

// editLightly makes edits that need no QEMU.
func (l *living) editLightly() {
	before := l.h.Status()
	pid := l.h.OnlyQEMU(web)
	began := l.place(l.text + "\n# nobody minds\n")
	looked, err := l.h.StatusAfterLook()
	l.ours("edit.seen", ms(time.Since(began)))
	l.must(err)
	began = l.place(strings.Replace(l.text, "\n", "\n  meta = { seen = \"yes\" }\n", 1))
	l.ours("edit.recorded", ms(l.h.After(began, "changed").Sub(began)))
	touched := 0.0
	if l.h.OnlyQEMU(web) != pid || len(looked.Tasks) != len(before.Tasks) {
		touched = 1
	}
	l.ours("edit.touched", touched)
}

// leave takes the file away and waits until all is as before.
func (l *living) leave() {
	l.t.Helper()
	l.must(os.Remove(filepath.Join(l.h.VMs, web+".hcl")))
	l.h.AwaitGone(web)
}

// stopRepeats is how many stops are timed for one life: a guest looks at its
// button eighteen times a second, so that its own part varies by 55 ms.
const stopRepeats = 4

// stops measures how long a stop takes: by force, which takes QEMU always the
// same time, and with the guest asked first.
func (r *run) stops() {
	h := r.host()
	for _, way := range []struct{ row, command, graceful string }{
		{"quit", quit, "graceful_shutdown = false"}, {"stop", powerdown, "graceful_shutdown = true"},
	} {
		if !r.wanted(way.row) {
			continue
		}
		h.Write(way.row+".hcl", strings.Replace(task(h, way.row), "graceful_shutdown = true", way.graceful, 1))
		h.AwaitRunning(way.row)
		bare := newBare(r.t, r.watch, h, way.row, r.argv(h, way.row))
		r.act(h, "stop", way.row)
		console := r.console(h, way.row)
		for i := range r.Repeats * stopRepeats {
			inTurn(i, func() {
				bare.start()
				r.floor(way.row+".gone", alone, ms(bare.tell(way.command)))
			}, func() {
				r.revive(h, way.row, console)
				r.stopOne(h, way.row)
			})
			if i%stopRepeats == 0 && r.rows[way.row+".command"] != nil {
				r.revive(h, way.row, console)
				gone, began := h.NoteEnds(h.OnlyQEMU(way.row)), time.Now()
				h.Do("stop", way.row)
				r.ours(way.row+".command", ms((<-gone)[0].Sub(began)))
			}
		}
		h.Remove(way.row + ".hcl")
	}
}

// revive starts a VM that was stopped and waits until QMP and the guest answer.
func (r *run) revive(h *e2e.Host, name string, console *console) {
	nth := console.count() + 1
	r.act(h, "start", name)
	console.await(r.t, nth)
	h.AwaitPhase(name, "running")
}

func (r *run) stopOne(h *e2e.Host, name string) {
	gone := h.NoteEnds(h.OnlyQEMU(name))
	began := time.Now()
	r.act(h, "stop", name)
	at := (<-gone)[0]
	r.ours(name+".gone", ms(at.Sub(began)))
	r.ours(name+".event", ms(h.After(began, "stopped").Sub(at)))
}

func (r *run) act(h *e2e.Host, verb string, tasks ...string) {
	r.t.Helper()
	if code, body := h.ActAll(verb, tasks, true); code != 200 {
		r.t.Fatalf("%s: %d %s", verb, code, body)
	}
}
