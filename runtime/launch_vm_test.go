package runtime

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/qemu-reconciler/qemu-reconciler/internal/guest"
)

// launched is a real QEMU that was started the way the daemon does.
type launched struct {
	*Process
	layout Layout
	task   string
}

// launchLine starts the command line with everything that it expects. The
// process is killed when the test ends.
func launchLine(t *testing.T, line CommandLine) *launched {
	t.Helper()
	dir := t.TempDir()
	vm := &launched{layout: Layout{State: filepath.Join(dir, "state"), Run: filepath.Join(dir, "run")}, task: line.Task.Name}
	must(t, vm.layout.Prepare())
	must(t, vm.layout.PrepareTask(vm.task))
	files := map[int]*os.File{
		fdQMP:    vm.listen(t, vm.layout.QMPSocket(vm.task)),
		fdQMPLog: openLog(t, vm.layout.QMPLog(vm.task)),
	}
	if !ConsolePlaced(line.Task) {
		files[fdConsole] = vm.listen(t, vm.layout.ConsoleSocket(vm.task))
		files[fdConsoleLog] = openLog(t, vm.layout.ConsoleLog(vm.task))
	}
	if line.Task.Config.GuestAgent {
		files[fdAgent] = vm.listen(t, vm.layout.AgentSocket(vm.task))
	}
	output := openLog(t, vm.layout.QEMULog(vm.task))
	p, err := Launch(LaunchRequest{
		Argv: line.Argv(), Env: CleanEnv(os.Environ(), line.Task, vm.layout, nil), Files: files, Output: output,
	})
	must(t, err)
	output.Close()
	for _, f := range files {
		f.Close()
	}
	vm.Process = endWithTest(t, p)
	return vm
}

func (vm *launched) listen(t *testing.T, path string) *os.File {
	t.Helper()
	listener, _, err := ListenUnix(path)
	must(t, err)
	return listener
}

func openLog(t *testing.T, path string) *os.File {
	t.Helper()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	must(t, err)
	return f
}

// endWithTest kills a process when the test ends and waits until it is gone.
func endWithTest(t *testing.T, p *Process) *Process {
	t.Cleanup(func() {
		if err := p.Signal(unix.SIGKILL); err != nil {
			t.Error(err)
		}
		await(t, p.Done(), "end of a process")
	})
	return p
}

// quit ends QEMU over QMP and gives how it ended.
func (vm *launched) quit(t *testing.T) WaitStatus {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), testPatience)
	defer cancel()
	conn, err := DialUnix(ctx, vm.layout.QMPSocket(vm.task))
	must(t, err)
	monitor, err := NewMonitor(ctx, conn)
	if err != nil {
		t.Fatalf("%v; QEMU: %s", err, vm.words(t))
	}
	defer monitor.Close()
	must(t, monitor.Execute(ctx, "quit", nil, nil))
	await(t, vm.Done(), "end after quit")
	return vm.Status()
}

func (vm *launched) words(t *testing.T) string {
	t.Helper()
	words, err := os.ReadFile(vm.layout.QEMULog(vm.task))
	must(t, err)
	return string(words)
}

// ownImage gives a command line what this host has: its emulator, free ports,
// and a guest whose image has the file name that the line asks for.
func ownImage(t *testing.T, line CommandLine, variant guest.Variant) CommandLine {
	t.Helper()
	program, err := exec.LookPath("qemu-system-x86_64")
	must(t, err)
	line.Program = program
	line.Task.Config.ImagePath = filepath.Join(t.TempDir(), filepath.Base(line.Task.Config.ImagePath))
	must(t, guest.Write(line.Task.Config.ImagePath, variant))
	for i, port := range unusedPorts(t, len(line.Forwards)) {
		line.Forwards[i].Host = port
	}
	return line
}

// TestQEMUTakesEveryCommandLine: QEMU accepts what the golden files say.
func TestQEMUTakesEveryCommandLine(t *testing.T) {
	for _, c := range argvCases {
		if c.elsewhere != "" {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			vm := launchLine(t, ownImage(t, c.line(), guest.Button))
			if status := vm.quit(t); status != (WaitStatus{Known: true}) {
				t.Errorf("ended with %+v; QEMU: %s", status, vm.words(t))
			}
			if words := vm.words(t); words != "" {
				t.Errorf("QEMU is not content: %s", words)
			}
		})
	}
}

// TestEvidenceWithoutListener: the logs have the guest's words and the reason
// of its end, though nobody ever connected to the monitor.
func TestEvidenceWithoutListener(t *testing.T) {
	t.Parallel()
	line := argvCases[len(argvCases)-1].line()
	line.Forwards = nil
	vm := launchLine(t, ownImage(t, line, guest.PowerOff))
	await(t, vm.Done(), "power-off")
	if status := vm.Status(); status != (WaitStatus{Known: true}) {
		t.Errorf("ended with %+v; QEMU: %s", status, vm.words(t))
	}
	console, err := os.ReadFile(vm.layout.ConsoleLog(vm.task))
	must(t, err)
	if !bytes.Contains(console, []byte(guest.SaysReady)) {
		t.Errorf("console log: %q", console)
	}
	if reason := shutdownReason(t, vm.layout.QMPLog(vm.task)); reason != "guest-shutdown" {
		t.Errorf("QMP log gives the reason %q", reason)
	}
}

func shutdownReason(t *testing.T, path string) string {
	t.Helper()
	raw, err := os.ReadFile(path)
	must(t, err)
	for line := range strings.Lines(string(raw)) {
		var event struct {
			Event string
			Data  struct{ Reason string }
		}
		must(t, json.Unmarshal([]byte(line), &event))
		if event.Event == "SHUTDOWN" {
			return event.Data.Reason
		}
	}
	return ""
}

// TestGuestAgentChannel: one can connect to the agent's socket, which QEMU alone
// holds.
func TestGuestAgentChannel(t *testing.T) {
	t.Parallel()
	line := plainLine()
	line.Task.Config.GuestAgent = true
	vm := launchLine(t, ownImage(t, line, guest.Button))
	ctx, cancel := context.WithTimeout(t.Context(), testPatience)
	defer cancel()
	conn, err := DialUnix(ctx, vm.layout.AgentSocket(vm.task))
	must(t, err)
	conn.Close()
	vm.quit(t)
	nobodyListens(t, vm.layout.AgentSocket(vm.task))
}
