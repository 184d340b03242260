package bench

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/qemu-reconciler/qemu-reconciler/internal/e2e"
	"github.com/qemu-reconciler/qemu-reconciler/runtime"
)

// The numbers under which the reconciler's command lines expect their
// descriptors.
const (
	fdQMP = 3 + iota
	fdQMPLog
	fdConsole
	fdConsoleLog
	fdCount
)

// bare is one VM of the floor: what its QEMU needs is made once, and is there
// for each launch.
type bare struct {
	t       testing.TB
	argv    []string
	files   [fdCount]*os.File
	socket  string
	console *console

	pid  int
	gone chan time.Time // when wait4 has returned
}

// newBare prepares a VM in directories of its own, on the file systems on which
// the host's are. Its image must be nobody else's while it runs.
func newBare(t testing.TB, watch *consoles, h *e2e.Host, name string, argv []string) *bare {
	t.Helper()
	dir, sockets := filepath.Join(h.Disks, "floor-"+name), filepath.Join(filepath.Dir(h.Run), "floor-"+name)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	b := &bare{t: t, argv: argv, socket: filepath.Join(sockets, "qmp.sock")}
	b.console = watch.open(filepath.Join(dir, "console.log")) // makes the directory
	must(os.Mkdir(sockets, 0o700))
	var err error
	b.files[0], err = os.Open(os.DevNull)
	must(err)
	for number, name := range map[int]string{1: filepath.Join(dir, "qemu.log"), fdQMPLog: filepath.Join(sockets, "qmp.log"), fdConsoleLog: filepath.Join(dir, "console.log")} {
		b.files[number], err = os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
		must(err)
	}
	b.files[2] = b.files[1]
	for number, name := range map[int]string{fdQMP: "qmp.sock", fdConsole: "console.sock"} {
		b.files[number], _, err = runtime.ListenUnix(filepath.Join(sockets, name))
		must(err)
	}
	t.Cleanup(func() {
		if b.pid != 0 {
			b.kill()
		}
		for _, file := range b.files {
			file.Close()
		}
	})
	return b
}

// launch forks and execs, and says when QEMU was there.
func (b *bare) launch() time.Time {
	var files [fdCount]uintptr
	for i, file := range b.files {
		files[i] = file.Fd()
	}
	pid, _, err := syscall.StartProcess(b.argv[0], b.argv, &syscall.ProcAttr{
		Dir: "/", Env: os.Environ(), Files: files[:], Sys: &syscall.SysProcAttr{Setsid: true},
	})
	there := time.Now()
	b.pid, b.gone = pid, make(chan time.Time, 1)
	if err != nil {
		b.t.Error(err)
		b.gone <- there
		return there
	}
	go func(gone chan<- time.Time) {
		var status syscall.WaitStatus
		for {
			if _, err := syscall.Wait4(pid, &status, 0, nil); err != syscall.EINTR {
				break
			}
		}
		gone <- time.Now()
	}(b.gone)
	return there
}

// start launches and waits for READY.
func (b *bare) start() (there, ready time.Time) {
	if b.t.Failed() { // what went wrong would go wrong again, a minute each time
		return time.Now(), time.Now()
	}
	nth := b.console.count() + 1
	there = b.launch()
	return there, b.console.await(b.t, nth)
}

// ended waits until the process is gone.
func (b *bare) ended() time.Time {
	if b.pid == 0 { // never launched
		return time.Now()
	}
	at := <-b.gone
	b.pid = 0
	return at
}

// kill ends it by force.
func (b *bare) kill() time.Time {
	b.t.Helper()
	if err := syscall.Kill(b.pid, syscall.SIGKILL); err != nil {
		b.t.Error(err)
	}
	return b.ended()
}

// session is a QMP session, such as the reconciler has with each VM.
func (b *bare) session() *runtime.Monitor {
	b.t.Helper()
	conn, err := runtime.DialUnix(context.Background(), b.socket)
	if err != nil {
		b.t.Fatal(err)
	}
	m, err := runtime.NewMonitor(context.Background(), conn)
	if err != nil {
		b.t.Fatal(err)
	}
	return m
}

// tell stops it by a command in a session and says how long it took. What the
// command answers does not count: QEMU may be gone before.
func (b *bare) tell(command string) time.Duration {
	b.t.Helper()
	m := b.session()
	defer m.Close()
	began := time.Now()
	_ = m.Execute(context.Background(), command, nil, nil)
	return b.ended().Sub(began)
}

// startAll launches all, so many of them on their way to READY at once, and says
// how long it took until all were ready. Zero is no limit.
func startAll(all []*bare, parallel int) time.Duration {
	if parallel == 0 {
		parallel = len(all)
	}
	next := make(chan *bare)
	var work sync.WaitGroup
	began := time.Now()
	for range parallel {
		work.Go(func() {
			for b := range next {
				b.start()
			}
		})
	}
	for _, b := range all {
		next <- b
	}
	close(next)
	work.Wait()
	return time.Since(began)
}

// stopAll asks all guests to power off and says how long it took until all were
// gone.
func stopAll(all []*bare) time.Duration {
	sessions := make([]*runtime.Monitor, len(all))
	for i, b := range all {
		sessions[i] = b.session()
	}
	began := time.Now()
	var work sync.WaitGroup
	for _, m := range sessions {
		work.Go(func() { _ = m.Execute(context.Background(), powerdown, nil, nil) })
	}
	var last time.Time
	for _, b := range all {
		if at := b.ended(); at.After(last) {
			last = at
		}
	}
	work.Wait()
	for _, m := range sessions {
		m.Close()
	}
	return last.Sub(began)
}

// The commands of QMP by which VMs are stopped.
const (
	powerdown = "system_powerdown"
	quit      = "quit"
)

// argvFor is the command line of another task of the same making.
func argvFor(argv []string, from, to string) []string {
	out := make([]string, len(argv))
	for i, arg := range argv {
		out[i] = strings.ReplaceAll(arg, from, to)
	}
	return out
}

func settingName(parallel int) string {
	if parallel == 0 {
		return "all at once"
	}
	return fmt.Sprintf("%d at once", parallel)
}
