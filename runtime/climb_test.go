package runtime

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
)

// fakeProcess ends by exit, or by the signal it cannot stand.
type fakeProcess struct {
	end   chan struct{}
	once  sync.Once
	fatal unix.Signal
}

func (p *fakeProcess) exit() { p.once.Do(func() { close(p.end) }) }

func (p *fakeProcess) Done() <-chan struct{} { return p.end }

func (p *fakeProcess) Signal(s unix.Signal) error {
	if s == p.fatal {
		p.exit()
	}
	return nil
}

// fakeVM is what a real QEMU cannot be made to be on demand: mute, panicked,
// asleep. It lives in a synctest bubble, so hours cost nothing and a goroutine
// that is left over fails the test.
type fakeVM struct {
	fakeProcess
	fakeQMP
	sessions
}

// newFakeVM has a QMP session that answers as told.
func newFakeVM(t *testing.T, answer func(vm *fakeVM, command string) string) *fakeVM {
	vm := &fakeVM{fakeProcess: fakeProcess{end: make(chan struct{}), fatal: unix.SIGTERM}}
	near, far := net.Pipe()
	go vm.serve(far, func(command string) string { return answer(vm, command) })
	m, err := NewMonitor(t.Context(), near)
	must(t, err)
	t.Cleanup(func() { _ = m.Close() })
	vm.set(m)
	return vm
}

func (vm *fakeVM) target() StopTarget {
	return StopTarget{Process: &vm.fakeProcess, Monitor: vm.get, MonitorChanged: vm.change}
}

func status(s string) string { return fmt.Sprintf(`"return":{"status":%q,"running":false}`, s) }

func TestPressesAreManyAtFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		vm := newFakeVM(t, func(vm *fakeVM, command string) string {
			if command == "quit" {
				vm.exit()
			}
			return ""
		})
		begun := time.Now()
		c := climb(t.Context(), vm.target(), StopOptions{Graceful: true, Timeout: time.Minute})
		c.check(t, RungACPI, RungQuit)
		if c.took != time.Minute {
			t.Errorf("the guest was asked for %v", c.took)
		}
		var presses []time.Duration
		commands, times := vm.told()
		for i, command := range commands {
			if command == "system_powerdown" {
				presses = append(presses, times[i].Sub(begun))
			}
		}
		early := 0
		for i, at := range presses {
			if at < time.Second {
				early++
			}
			if i > 0 && at-presses[i-1] > pressLast {
				t.Errorf("no press between %v and %v", presses[i-1], at)
			}
		}
		if early != 10 || len(presses) > 40 || presses[len(presses)-1] < time.Minute-pressLast {
			t.Errorf("%d presses in the first second, %d in all: %v", early, len(presses), presses)
		}
	})
}

func TestMuteMonitorIsLeftBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		vm := newFakeVM(t, func(*fakeVM, string) string { return "-" })
		c := climb(t.Context(), vm.target(), StopOptions{Graceful: true, Timeout: time.Hour})
		c.check(t, RungACPI, RungQuit, RungSIGTERM)
		if want := monitorSilence + rungPatience; c.took != want {
			t.Errorf("took %v, want %v", c.took, want)
		}
	})
}

func TestLostMonitorMayReturn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		vm := newFakeVM(t, func(vm *fakeVM, command string) string {
			vm.exit()
			return ""
		})
		m := vm.get()
		vm.set(nil)
		time.AfterFunc(monitorSilence-time.Second, func() { vm.set(m) })
		climb(t.Context(), vm.target(), StopOptions{Graceful: true, Timeout: time.Minute}).check(t, RungACPI)
	})
}

func TestSleepingGuestIsWoken(t *testing.T) {
	for state, wake := range map[string]string{"suspended": "system_wakeup", "io-error": "cont", "paused": "cont"} {
		synctest.Test(t, func(t *testing.T) {
			vm := newFakeVM(t, func(vm *fakeVM, command string) string {
				switch command {
				case "query-status":
					return status(state)
				case wake:
					vm.exit()
				}
				return ""
			})
			climb(t.Context(), vm.target(), StopOptions{Graceful: true, Timeout: time.Minute}).check(t, RungACPI)
			if commands, _ := vm.told(); !slices.Equal(commands, []string{"system_powerdown", "query-status", wake}) {
				t.Errorf("%s: %q", state, commands)
			}
		})
	}
}

func TestPanickedGuestIsNotAskedForLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		vm := newFakeVM(t, func(vm *fakeVM, command string) string {
			switch command {
			case "query-status":
				return status("guest-panicked")
			case "quit":
				vm.exit()
			}
			return ""
		})
		c := climb(t.Context(), vm.target(), StopOptions{Graceful: true, Timeout: time.Hour})
		c.check(t, RungACPI, RungQuit)
		if c.took > time.Second {
			t.Errorf("took %v", c.took)
		}
	})
}

// TestLeavingQEMUIsLeft: one that tells that the guest has powered off needs no
// force, and is not left to hang either.
func TestLeavingQEMUIsLeft(t *testing.T) {
	for took, rungs := range map[time.Duration][]string{5 * time.Second: {RungACPI}, time.Minute: {RungACPI, RungQuit}} {
		synctest.Test(t, func(t *testing.T) {
			vm := newFakeVM(t, func(vm *fakeVM, command string) string {
				switch command {
				case "query-status":
					return status("shutdown")
				case "quit":
					vm.exit()
				}
				return ""
			})
			end := time.AfterFunc(took, vm.exit)
			defer end.Stop()
			c := climb(t.Context(), vm.target(), StopOptions{Graceful: true, Timeout: time.Hour})
			c.check(t, rungs...)
			if c.took != min(took, monitorSilence) {
				t.Errorf("took %v", c.took)
			}
		})
	}
}

func TestRefusedQuitGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		vm := newFakeVM(t, func(*fakeVM, string) string { return `"error":{"class":"GenericError","desc":"no"}` })
		c := climb(t.Context(), vm.target(), StopOptions{})
		c.check(t, RungQuit, RungSIGTERM)
		if c.took != rungPatience {
			t.Errorf("took %v", c.took)
		}
	})
}

func TestUnkillableProcessIsAnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var vm fakeVM
		target := StopTarget{Process: immortal{}, Monitor: vm.get, MonitorChanged: vm.change}
		rung, err := Climb(t.Context(), target, StopOptions{})
		if rung != RungSIGKILL || !errors.Is(err, unix.EPERM) {
			t.Errorf("rung %q, error %v", rung, err)
		}
	})
}

// immortal is a process that may not be signalled.
type immortal struct{}

func (immortal) Done() <-chan struct{}    { return nil }
func (immortal) Signal(unix.Signal) error { return unix.EPERM }

// fakeAgent answers a sync and does as told with guest-shutdown.
func fakeAgent(conn net.Conn, shutdown func() (answer string)) {
	defer conn.Close()
	lines := newLineReader(conn, maxAgentLine)
	for {
		line, err := lines.next()
		if err != nil {
			return
		}
		var req struct {
			Execute   string
			Arguments struct{ ID uint64 }
		}
		if json.Unmarshal(bytes.TrimLeft(line, "\xff"), &req) != nil {
			return
		}
		switch req.Execute {
		case "guest-sync-delimited":
			// First what an agent says to a sentinel amidst a command, and an
			// answer to somebody else's sync.
			fmt.Fprintf(conn, "{\"error\":{}}\n\xff{\"return\":1}\njunk\xff{\"return\":%d}\n", req.Arguments.ID)
		case "guest-shutdown":
			fmt.Fprint(conn, shutdown())
		}
	}
}

func TestClimbByAgent(t *testing.T) {
	refused := `{"error":{"class":"CommandNotFound","desc":"disabled"}}` + "\n"
	for name, c := range map[string]struct {
		agent func(vm *fakeVM, conn net.Conn)
		rungs []string
		took  time.Duration
	}{
		"obeys": {func(vm *fakeVM, conn net.Conn) {
			fakeAgent(conn, func() string { vm.exit(); return "" })
		}, []string{RungAgent}, 0},
		"obeys late": {func(vm *fakeVM, conn net.Conn) {
			fakeAgent(conn, func() string { time.AfterFunc(9*time.Second, func() { vm.exit() }); return "" })
		}, []string{RungAgent}, 9 * time.Second},
		"objects": {func(vm *fakeVM, conn net.Conn) {
			fakeAgent(conn, func() string { return refused })
		}, []string{RungAgent, RungACPI}, 0},
		"lies": {func(vm *fakeVM, conn net.Conn) {
			fakeAgent(conn, func() string { return "" })
		}, []string{RungAgent, RungACPI}, 10 * time.Second},
		"mute": {func(vm *fakeVM, conn net.Conn) {
			_, _ = io.Copy(io.Discard, conn)
		}, []string{RungACPI}, agentPatience},
		"not there": {nil, []string{RungACPI}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				vm := newFakeVM(t, func(vm *fakeVM, command string) string {
					vm.exit()
					return ""
				})
				target := vm.target()
				target.DialAgent = func(context.Context) (net.Conn, error) {
					if c.agent == nil {
						return nil, unix.ECONNREFUSED
					}
					near, far := net.Pipe()
					go c.agent(vm, far)
					return near, nil
				}
				got := climb(t.Context(), target, StopOptions{Graceful: true, Timeout: 20 * time.Second})
				got.check(t, c.rungs...)
				if got.took != c.took {
					t.Errorf("took %v, want %v", got.took, c.took)
				}
			})
		})
	}
}
