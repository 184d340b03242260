package guest

import (
	"bufio"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// patience is how long a guest of a tenth of a second may take on a host that
// is busy with other tests.
const patience = 30 * time.Second

func TestImageIsOneSector(t *testing.T) {
	for _, v := range Variants() {
		image := Image(v)
		if len(image) != 512 || image[510] != 0x55 || image[511] != 0xAA {
			t.Errorf("%s: %d bytes that end in % x", v, len(image), image[len(image)-2:])
		}
	}
}

func TestParseVariantNamesTheOthers(t *testing.T) {
	_, err := ParseVariant("buton")
	if err == nil || !strings.Contains(err.Error(), "button, chatty, deaf") {
		t.Errorf("got %v", err)
	}
}

func TestButtonPowersOff(t *testing.T) {
	m := boot(t, Button)
	m.expectLine(SaysReady)
	m.send(`{"execute":"system_powerdown"}`)
	m.expectLine(SaysButton)
	m.expectEvent("SHUTDOWN", "guest-shutdown")
	m.expectEnd()
}

func TestChattyHearsTheButton(t *testing.T) {
	m := boot(t, Chatty)
	m.expectLine(SaysReady)
	m.expectLine(chatter)
	m.send(`{"execute":"system_powerdown"}`)
	m.expectLine(SaysButton)
	m.expectEvent("SHUTDOWN", "guest-shutdown")
	m.expectEnd()
}

func TestQuietPowersOffInSilence(t *testing.T) {
	m := boot(t, Quiet)
	go m.keepPressing() // nothing on the console says when it is ready
	m.expectEvent("SHUTDOWN", "guest-shutdown")
	m.expectEnd()
	if line, more := <-m.console; more {
		t.Errorf("the console has %q", line)
	}
}

func TestDeafIgnoresTheButton(t *testing.T) {
	m := boot(t, Deaf)
	m.expectLine(SaysReady)
	m.send(`{"execute":"system_powerdown"}`)
	m.expectEvent("POWERDOWN", "")
	select {
	case <-m.ended:
		t.Fatal("the guest powered off")
	case <-time.After(500 * time.Millisecond): // a guest that listens is off in 60
	}
	m.send(`{"execute":"quit"}`)
	m.expectEvent("SHUTDOWN", "host-qmp-quit")
	m.expectEnd()
}

func TestSlowTakesThreeSeconds(t *testing.T) {
	m := boot(t, Slow)
	m.expectLine(SaysReady)
	m.send(`{"execute":"system_powerdown"}`)
	m.expectLine(SaysButton)
	began := time.Now()
	m.expectEvent("SHUTDOWN", "guest-shutdown")
	if took := time.Since(began); took < 2900*time.Millisecond {
		t.Errorf("it took %s", took)
	}
	m.expectEnd()
}

func TestObedientDoesWhatItReads(t *testing.T) {
	m := boot(t, Obedient)
	m.expectLine(SaysReady)
	m.order("x") // no order
	m.order(string(OrderReset))
	m.expectEvent("RESET", "guest-reset")
	m.expectLine(SaysReady)
	m.order(string(OrderPowerOff))
	m.expectEvent("SHUTDOWN", "guest-shutdown")
	m.expectEnd()
}

func TestObedientHearsTheButton(t *testing.T) {
	m := boot(t, Obedient)
	m.expectLine(SaysReady)
	m.send(`{"execute":"system_powerdown"}`)
	m.expectLine(SaysButton)
	m.expectEvent("SHUTDOWN", "guest-shutdown")
	m.expectEnd()
}

func TestPowerOffGoesByItself(t *testing.T) {
	m := boot(t, PowerOff)
	m.expectLine(SaysReady)
	m.expectEvent("SHUTDOWN", "guest-shutdown")
	m.expectEnd()
}

func TestResetAndTripleFaultResetAgainAndAgain(t *testing.T) {
	for _, v := range []Variant{Reset, TripleFault} {
		t.Run(string(v), func(t *testing.T) {
			m := boot(t, v)
			for range 3 {
				m.expectLine(SaysReady)
				m.expectEvent("RESET", "guest-reset")
			}
			m.send(`{"execute":"quit"}`)
			m.expectEnd()
		})
	}
}

// machine is a QEMU that runs one guest: its console and its QMP events.
type machine struct {
	t       *testing.T
	console chan string
	events  chan event
	ended   chan struct{}
	qmp     io.Writer
	orders  io.Writer // to the console
}

type event struct {
	Event string
	Data  struct{ Reason string }
}

func boot(t *testing.T, v Variant) *machine {
	t.Helper()
	image := filepath.Join(t.TempDir(), "guest.img")
	if err := Write(image, v); err != nil {
		t.Fatal(err)
	}
	return start(t, "-drive", "file="+image+",format=raw")
}

// start runs QEMU with its console on a socket and QMP on its own stdin and
// stdout, so that everything it says arrives without polling.
func start(t *testing.T, args ...string) *machine {
	t.Helper()
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "console"), os.NewFile(uintptr(pair[1]), "console of QEMU")
	cmd := exec.Command("qemu-system-x86_64", append([]string{"-no-user-config", "-nodefaults",
		"-display", "none", "-chardev", "socket,id=console,fd=3",
		"-serial", "chardev:console", "-qmp", "stdio"}, args...)...)
	cmd.ExtraFiles = []*os.File{theirs}
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	theirs.Close()
	m := &machine{t: t, console: make(chan string, 100000), events: make(chan event, 1000), ended: make(chan struct{}), qmp: stdin, orders: ours}
	go m.readConsole(ours)
	go func() {
		m.readEvents(stdout)
		cmd.Wait() //nolint:errcheck // how it ended is told by its last event
		close(m.ended)
	}()
	t.Cleanup(func() {
		cmd.Process.Kill() //nolint:errcheck // it has most often ended
		<-m.ended
	})
	m.send(`{"execute":"qmp_capabilities"}`)
	return m
}

func (m *machine) send(command string) {
	if _, err := io.WriteString(m.qmp, command+"\n"); err != nil {
		m.t.Error(err)
	}
}

// order sends bytes to the console.
func (m *machine) order(bytes string) {
	if _, err := io.WriteString(m.orders, bytes); err != nil {
		m.t.Error(err)
	}
}

// keepPressing presses the button until the machine is gone.
func (m *machine) keepPressing() {
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-m.ended:
			return
		case <-tick.C:
			io.WriteString(m.qmp, `{"execute":"system_powerdown"}`+"\n") //nolint:errcheck // it may just have ended
		}
	}
}

func (m *machine) readConsole(r io.ReadCloser) {
	defer close(m.console)
	defer r.Close()
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		// A guest that talks without end must not be kept waiting.
		select {
		case m.console <- strings.TrimRight(lines.Text(), "\r"):
		default:
		}
	}
}

func (m *machine) readEvents(r io.Reader) {
	defer close(m.events)
	decoder := json.NewDecoder(r)
	for {
		var e event
		if decoder.Decode(&e) != nil {
			return
		}
		if e.Event != "" {
			m.events <- e
		}
	}
}

// expectLine waits for a line of the console.
func (m *machine) expectLine(want string) {
	m.t.Helper()
	deadline := time.After(patience)
	for {
		select {
		case line, more := <-m.console:
			if !more {
				m.t.Fatalf("the console ended without %q", want)
			}
			if line == want {
				return
			}
		case <-deadline:
			m.t.Fatalf("no %q on the console in %s", want, patience)
		}
	}
}

// expectEvent waits for an event of that name and reason; no reason fits all.
func (m *machine) expectEvent(name, reason string) {
	m.t.Helper()
	deadline := time.After(patience)
	for {
		select {
		case e, more := <-m.events:
			if !more {
				m.t.Fatalf("QEMU ended without %s %s", name, reason)
			}
			if e.Event == name && (reason == "" || e.Data.Reason == reason) {
				return
			}
		case <-deadline:
			m.t.Fatalf("no event %s %s in %s", name, reason, patience)
		}
	}
}

func (m *machine) expectEnd() {
	m.t.Helper()
	select {
	case <-m.ended:
	case <-time.After(patience):
		m.t.Fatalf("QEMU still runs after %s", patience)
	}
}
