package runtime

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qemu-reconciler/qemu-reconciler/internal/guest"
)

// testPatience is how long a test waits for what takes a real QEMU well under
// a second on an idle machine.
const testPatience = 60 * time.Second

// tinyVM is a real QEMU with a 512-byte guest.
type tinyVM struct {
	*Process
	dir     string
	console *bufio.Scanner
	sessions
}

func (vm *tinyVM) socket() string  { return filepath.Join(vm.dir, "qmp.sock") }
func (vm *tinyVM) qmpLog() string  { return filepath.Join(vm.dir, "qmp.log") }
func (vm *tinyVM) qemuLog() string { return filepath.Join(vm.dir, "qemu.log") }

// startTiny runs QEMU as launch.go does, as far as it matters here: QMP on a
// descriptor that was bound before, all its words in a log, and the console at
// hand. It is killed when the test ends.
func startTiny(t *testing.T, variant guest.Variant, args ...string) *tinyVM {
	t.Helper()
	vm := &tinyVM{dir: t.TempDir()}
	image := filepath.Join(vm.dir, "disk.img")
	must(t, guest.Write(image, variant))
	listener, _, err := ListenUnix(vm.socket())
	must(t, err)
	defer listener.Close()
	qmpLog, err := os.OpenFile(vm.qmpLog(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	must(t, err)
	defer qmpLog.Close()
	output, err := os.Create(vm.qemuLog())
	must(t, err)
	defer output.Close()
	near, far := socketPair(t)
	defer far.Close()
	vm.console = bufio.NewScanner(near)

	cmd := exec.Command("qemu-system-x86_64", append([]string{
		"-machine", "pc,accel=tcg", "-m", "32", "-nodefaults", "-no-user-config", "-display", "none",
		"-drive", "file.driver=file,file.filename=" + image + ",format=raw,if=ide",
		"-add-fd", "fd=4,set=4",
		"-chardev", "socket,id=qmp,fd=3,server=on,wait=off,logfile=/dev/fdset/4,logappend=on",
		"-mon", "chardev=qmp,mode=control",
		"-chardev", "socket,id=console,fd=5", "-serial", "chardev:console",
	}, args...)...)
	cmd.Stdout, cmd.Stderr = output, output
	cmd.ExtraFiles = []*os.File{listener, qmpLog, far}
	cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true}
	must(t, cmd.Start())
	vm.Process = openStarted(t, cmd.Process)
	return vm
}

// openStarted hands a child over to a Process and ends it with the test.
func openStarted(t *testing.T, started *os.Process) *Process {
	t.Helper()
	p, err := adoptChild(started.Pid, -1) // it may have ended already
	must(t, err)
	must(t, started.Release())
	t.Cleanup(func() {
		if err := p.Signal(unix.SIGKILL); err != nil {
			t.Error(err)
		}
		<-p.Done()
		p.Close()
	})
	return p
}

// says waits until the guest prints a line.
func (vm *tinyVM) says(t *testing.T, line string) {
	t.Helper()
	var heard []string
	for vm.console.Scan() {
		heard = append(heard, vm.console.Text())
		if strings.Contains(vm.console.Text(), line) {
			return
		}
	}
	t.Fatalf("the guest never said %q but %q (%v); QEMU: %q", line, heard, vm.console.Err(), LastWords(vm.qemuLog(), 0, 10))
}

// connect begins a QMP session that ends with the test.
func (vm *tinyVM) connect(t *testing.T) *Monitor {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), testPatience)
	defer cancel()
	conn, err := DialUnix(ctx, vm.socket())
	must(t, err)
	m, err := NewMonitor(ctx, conn)
	must(t, err)
	t.Cleanup(func() { _ = m.Close() })
	vm.set(m)
	return m
}

func (vm *tinyVM) target() StopTarget {
	return StopTarget{Process: vm.Process, Monitor: vm.get, MonitorChanged: vm.change}
}

// evidence is what the end of vm has left behind.
func (vm *tinyVM) evidence(t *testing.T, stop *Intent) Evidence {
	t.Helper()
	await(t, vm.Done(), "end of QEMU")
	return Evidence{
		Status: vm.Status(), Shutdown: LastShutdown(vm.qmpLog()), Answered: vm.get() != nil,
		Stop: stop, Words: LastWords(vm.qemuLog(), 0, 10),
	}
}

// sessions holds the current QMP session the way a Machine does.
type sessions struct {
	mu      sync.Mutex
	monitor *Monitor
	changed chan struct{}
}

func (s *sessions) get() *Monitor {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.monitor
}

func (s *sessions) change() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.changed == nil {
		s.changed = make(chan struct{})
	}
	return s.changed
}

func (s *sessions) set(m *Monitor) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.monitor = m
	if s.changed != nil {
		close(s.changed)
		s.changed = nil
	}
}

// socketPair gives a connection and, as a descriptor for QEMU, its other end.
func socketPair(t testing.TB) (net.Conn, *os.File) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	file := os.NewFile(uintptr(fds[0]), "near")
	defer file.Close()
	conn, err := net.FileConn(file)
	must(t, err)
	must(t, conn.SetDeadline(time.Now().Add(testPatience)))
	t.Cleanup(func() { conn.Close() })
	return conn, os.NewFile(uintptr(fds[1]), "far")
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func await[T any](t testing.TB, ch <-chan T, what string) (got T) {
	t.Helper()
	select {
	case got = <-ch:
	case <-time.After(testPatience):
		t.Fatal("waited in vain: " + what)
	}
	return got
}

// fakeQMP answers on conn like a QEMU and notes what it was told. answer gives
// the text of the reply for a command: "" is an empty success, "-" no reply.
type fakeQMP struct {
	mu       sync.Mutex
	commands []string
	times    []time.Time
}

const fakeGreeting = `{"QMP":{"version":{"qemu":{"major":7,"minor":2,"micro":22},"package":""},"capabilities":["oob"]}}` + "\r\n"

func (f *fakeQMP) serve(conn net.Conn, answer func(command string) string) {
	defer conn.Close()
	fmt.Fprint(conn, fakeGreeting)
	for lines := bufio.NewScanner(conn); lines.Scan(); {
		var req request
		if err := json.Unmarshal(lines.Bytes(), &req); err != nil {
			return
		}
		f.note(req.Execute)
		text := ""
		if req.Execute != "qmp_capabilities" {
			text = answer(req.Execute)
		}
		switch text {
		case "":
			text = `"return":{}`
		case "-":
			continue
		}
		fmt.Fprintf(conn, "{%s,\"id\":%q}\r\n", text, req.ID)
	}
}

func (f *fakeQMP) note(command string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if command != "qmp_capabilities" {
		f.commands = append(f.commands, command)
		f.times = append(f.times, time.Now())
	}
}

// told lists the commands so far and their times.
func (f *fakeQMP) told() ([]string, []time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string(nil), f.commands...), append([]time.Time(nil), f.times...)
}
