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

// lives measures what happens to one VM: it comes, is edited so that it restarts,
// is killed, goes.
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
	l.h.AwaitPhase(web, "running")
	return l.h.AwaitEvent("started", web).At, ready
}

func (l *living) live() {
	var began time.Time
	there, ready := l.next(func() { began = l.place(l.text) })
	l.ours("start.exec", ms(there.Sub(began)))
	l.ours("start.ready", ms(ready.Sub(began)))

	gone := l.h.NoteEnds(l.h.OnlyQEMU(web))
	heavier := strings.Replace(l.text, "memory = 128\n", "memory = 136\n", 1)
	there, _ = l.next(func() { l.place(heavier) })
	l.ours("restart.exec", ms(there.Sub((<-gone)[0])))

	pid := l.h.OnlyQEMU(web)
	there, _ = l.next(func() {
		began = time.Now()
		l.must(syscall.Kill(pid, syscall.SIGKILL))
	})
	l.ours("kill.exec", ms(there.Sub(began)))
	l.leave()
}

// leave takes the file away and waits until all is as before.
func (l *living) leave() {
	l.t.Helper()
	l.must(os.Remove(filepath.Join(l.h.VMs, web+".hcl")))
	l.h.AwaitGone(web)
}
