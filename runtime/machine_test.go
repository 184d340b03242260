package runtime

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qemu-reconciler/qemu-reconciler/internal/guest"
)

func TestPaused(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.start(l.task("vm", guest.Deaf))
	l.tell("vm", "stop")
	l.until("vm", "pause", func(o Observation) bool { return o.Paused == "paused" && o.Alive && o.Answering })
	l.reopen(func() {})
	l.until("vm", "pause after the restart", func(o Observation) bool { return o.Paused == "paused" })
	l.tell("vm", "cont")
	l.until("vm", "resume", func(o Observation) bool { return o.Paused == "" && o.Answering })
	want := []string{EventStarted, EventRunning, EventPaused, EventAdopted, EventPaused, EventResumed}
	eventually(t, "all events", func() error { // they follow what is observed
		if got := l.told("vm"); !slices.Equal(got, want) {
			return fmt.Errorf("%v, want %v", got, want)
		}
		return nil
	})
}

// TestHungQEMU: a QEMU that does not answer is a running VM with trouble, and
// it can be stopped.
func TestHungQEMU(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	info := l.start(l.task("vm", guest.Deaf)).Record.Process
	l.kill("vm", unix.SIGSTOP)
	l.currentProbe("vm") <- struct{}{}
	o := l.until("vm", "trouble", func(o Observation) bool { return o.Trouble != "" })
	if !o.Alive || !o.Answering || o.Trouble != troubleStopped {
		t.Errorf("hung: %s", asJSON(o))
	}
	l.kill("vm", unix.SIGCONT)
	l.currentProbe("vm") <- struct{}{}
	l.until("vm", "end of the trouble", func(o Observation) bool { return o.Trouble == "" && o.Answering })
	l.sameProcess("vm", info)
	l.reopen(func() { must(t, signalTo(info, unix.SIGSTOP)) })
	if o := l.sameProcess("vm", info); o.Answering {
		t.Errorf("nobody has answered this daemon: %s", asJSON(o))
	}
	if o := l.until("vm", "trouble", func(o Observation) bool { return o.Trouble != "" }); o.Trouble != troubleStopped {
		t.Errorf("hung since before: %s", asJSON(o))
	}
	exit := l.stop("vm", StopRequest{})
	if exit.Cause != CauseStopped || exit.Rung != RungSIGKILL || exit.Seconds > 10 {
		t.Errorf("exit: %s", asJSON(exit))
	}
}

func (l *lab) currentProbe(task string) chan struct{} { return l.find(task).currentLife().probe }

// TestSocketLost: without its socket a VM runs on, says why nobody hears it,
// and can be stopped.
func TestSocketLost(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	info := l.start(l.task("vm", guest.Button)).Record.Process
	l.reopen(func() { must(t, os.Remove(l.layout.QMPSocket("vm"))) })
	o := l.until("vm", "trouble", func(o Observation) bool { return o.Trouble != "" })
	if !o.Alive || !strings.Contains(o.Trouble, "QMP socket lost") {
		t.Errorf("lost: %s", asJSON(o))
	}
	l.sameProcess("vm", info)
	if exit := l.stop("vm", StopRequest{}); exit.Cause != CauseStopped || exit.Rung != RungSIGTERM {
		t.Errorf("exit: %s", asJSON(exit))
	}
}

// TestSessionLost: a session that breaks is taken up again.
func TestSessionLost(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.start(l.task("vm", guest.Deaf))
	m := l.find("vm")
	life := m.currentLife()
	first := m.session(life)
	changed := m.sessionChanged(life)
	must(t, first.Close())
	await(t, changed, "end of the session")
	eventually(t, "another session", func() error {
		if now := m.session(life); now == nil || now == first {
			return errors.New("none yet")
		}
		return nil
	})
	// There is a session before QEMU has answered in it.
	l.until("vm", "answer", func(o Observation) bool { return o.Alive && o.Answering && o.Trouble == "" })
}

// TestReboots: every reboot is counted once, seen or unseen, and floods neither
// the events nor the disk.
func TestReboots(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	info := l.start(l.task("vm", guest.TripleFault)).Record.Process
	rebooted := func(n int) func(Observation) bool {
		return func(o Observation) bool { return o.Record.Reboots >= n }
	}
	l.until("vm", "reboots", rebooted(5))
	for range 2 {
		seen := 0
		l.reopen(func() {
			seen = l.onDisk("vm").Reboots
			eventually(t, "reboots that nobody sees", func() error {
				if n, _ := missedResets(l.layout.QMPLog("vm"), time.Time{}); n < seen+5 {
					return fmt.Errorf("%d after %d", n, seen)
				}
				return nil
			})
		})
		l.until("vm", "all of them", rebooted(seen+5))
	}
	l.sameProcess("vm", info)
	l.stop("vm", StopRequest{})
	logged, _ := missedResets(l.layout.QMPLog("vm"), time.Time{})
	record := l.onDisk("vm")
	if record.Reboots != logged {
		t.Errorf("counted %d, QEMU's log has %d", record.Reboots, logged)
	}
	told := l.told("vm")
	if n := count(told, EventRebooted); n < 1 || n > 3 { // one a minute and daemon
		t.Errorf("%d events about %d reboots: %v", n, logged, told)
	}
}

func count(kinds []string, kind string) (n int) {
	for _, k := range kinds {
		if k == kind {
			n++
		}
	}
	return n
}

// TestFaultIsContained: a panic is the trouble of one machine.
func TestFaultIsContained(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.start(l.task("vm", guest.Deaf))
	broken := newMachine(l.Runtime, &Record{Version: RecordVersion, Task: "broken"})
	broken.life = &life{} // without logs
	broken.tend(time.Now(), false)
	if o := broken.observe(); !strings.Contains(o.Trouble, "internal fault") {
		t.Errorf("trouble: %q", o.Trouble)
	}
	// The machine's own goroutine takes up its work again.
	m := l.find("vm")
	session := m.session(m.currentLife())
	m.mu.Lock()
	record := m.record
	m.record = nil // the next look at it panics
	m.mu.Unlock()
	l.currentProbe("vm") <- struct{}{}
	await(t, session.done, "end of the session that had the fault")
	m.mu.Lock()
	m.record = record
	m.mu.Unlock()
	l.until("vm", "recovery", func(o Observation) bool { return o.Trouble == "" && o.Answering })
	l.kill("vm", unix.SIGKILL)
	l.ended("vm")
}

// TestStartSyncsLate: what must survive a power cut is on the disk soon after a
// start, and only a new host port is waited for before the fork.
func TestStartSyncsLate(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.start(l.task("vm", guest.Deaf))
	l.secured()
	copied, _, err := readRecord(l.layout.Record("vm")+".durable", "vm")
	must(t, err)
	if copied.Process == nil || copied.Wanted == nil || copied.UUID == "" {
		t.Errorf("the copy is not of the write after the fork: %s", asJSON(copied))
	}
}
