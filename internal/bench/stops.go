package bench

import (
	"strings"
	"time"

	"github.com/qemu-reconciler/qemu-reconciler/internal/e2e"
)

// tick is the time between two looks of a guest at its button: it sleeps until
// the next tick of its timer, which counts 65536 at 1.193182 MHz.
const tick = 54925 * time.Microsecond

// phases are so many delays below a tick, one out of each nth part of it, in a
// random order. Whoever presses the button that much after READY meets all
// moments between two ticks alike, whatever he has to do before he presses; without
// it the floor, which is sooner ready to press, would always wait for another part
// of the tick than the reconciler.
func (r *run) phases(n int) []time.Duration {
	delays := make([]time.Duration, n)
	for i, place := range r.random.Perm(n) {
		delays[i] = time.Duration((float64(place) + r.random.Float64()) / float64(n) * float64(tick))
	}
	return delays
}

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
		s := &stopping{run: r, h: h, name: way.row, command: way.command, console: r.console(h, way.row)}
		s.bare = newBare(r.t, r.watch, h, way.row, r.argv(h, way.row))
		r.act(h, "stop", way.row)
		for i, phase := range r.phases(r.Repeats * r.Stops) {
			inTurn(i, func() { s.byFloor(phase) }, func() { s.byRequest(phase) }, func() { s.byCommand(phase) })
		}
		h.Remove(way.row + ".hcl")
	}
}

// stopping is one VM that is stopped again and again, each time so much after it
// was ready. Its name is that of its rows.
type stopping struct {
	*run
	h             *e2e.Host
	name, command string
	console       *console
	bare          *bare
}

func (s *stopping) byFloor(phase time.Duration) {
	s.bare.start()
	time.Sleep(phase)
	took := ms(s.bare.tell(s.command))
	s.floor(s.name+".gone", alone, took)
	s.floor(s.name+".command", alone, took)
}

// byRequest asks the daemon over its socket.
func (s *stopping) byRequest(phase time.Duration) {
	began, at := s.stop(phase, func() { s.act(s.h, "stop", s.name) })
	s.ours(s.name+".gone", ms(at.Sub(began)))
	s.ours(s.name+".event", ms(s.h.After(began, "stopped").Sub(at)))
}

// byCommand runs the program for it, as an operator does.
func (s *stopping) byCommand(phase time.Duration) {
	if s.rows[s.name+".command"] == nil {
		return
	}
	began, at := s.stop(phase, func() { s.succeed(s.h, "stop", s.name) })
	s.ours(s.name+".command", ms(at.Sub(began)))
}

// stop starts the VM, waits until QMP and the guest answer, and stops it.
func (s *stopping) stop(phase time.Duration, stop func()) (began, gone time.Time) {
	nth := s.console.count() + 1
	s.act(s.h, "start", s.name)
	s.console.await(s.t, nth)
	s.h.AwaitPhase(s.name, "running")
	ends := s.h.NoteEnds(s.h.OnlyQEMU(s.name))
	time.Sleep(phase)
	began = time.Now()
	stop()
	return began, (<-ends)[0]
}

func (r *run) act(h *e2e.Host, verb string, tasks ...string) {
	r.t.Helper()
	if code, body := h.ActAll(verb, tasks, true); code != 200 {
		r.t.Fatalf("%s: %d %s", verb, code, body)
	}
}

// succeed runs a command of the program.
func (r *run) succeed(h *e2e.Host, args ...string) {
	r.t.Helper()
	if result := h.Do(args...); result.Code != 0 {
		r.t.Errorf("%v: %d %s", args, result.Code, result.Stderr)
	}
}
