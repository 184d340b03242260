package runtime

import (
	"regexp"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// Evidence is all that is known of how a process ended.
type Evidence struct {
	// Status is what the kernel says.
	Status WaitStatus
	// Shutdown is what QEMU said on QMP, to a client or to its log; nil when
	// it said nothing.
	Shutdown *ShutdownEvent
	// Answered says that QMP had answered a client before.
	Answered bool
	// Spoke says that QEMU has said anything on its monitor, be it only its
	// greeting: what it says of its end while a client is greeted goes nowhere.
	Spoke bool
	// Stop is our own stop that was under way; nil when there was none.
	Stop *Intent
	// OtherBoot says that the process belongs to an earlier boot of the host.
	OtherBoot bool
	// Words are QEMU's last lines on stderr.
	Words []string
}

// Exit judges the evidence. What the kernel says beats what QEMU announced,
// since a QEMU that announces its end can still crash on the way; what QEMU
// announced beats what we were about to do. at is when the process ended, or
// was found to have. PID, StartedAt and BootID are left to the caller.
func (e Evidence) Exit(at time.Time) Exit {
	exit := Exit{At: at, Words: e.Words}
	if e.OtherBoot {
		exit.Cause = CauseHostReboot
		return exit
	}
	if e.Status.Known && e.Status.Signal == 0 {
		exit.Code = &e.Status.Code
	}
	if signal := e.signal(); signal != 0 {
		exit.Signal = signalName(signal)
	}
	exit.Cause = e.cause()
	if exit.Cause == CauseStopped && e.Stop != nil {
		exit.Rung = e.Stop.Rung
		exit.Seconds = max(0, at.Sub(e.Stop.At).Seconds())
	}
	return exit
}

func (e Evidence) cause() string {
	switch {
	case e.Status.Signal != 0:
		return e.causeOfSignal()
	case e.Status.Code != 0 && e.Shutdown == nil && !e.Answered:
		return CauseLaunchFailed
	case e.Status.Code != 0 && (e.Shutdown == nil || e.Shutdown.Reason != reasonPanic):
		return CauseCrashed // -action panic=exit-failure is no crash of QEMU
	case e.Shutdown != nil:
		return e.causeOfShutdown()
	case e.climbed(RungAgent):
		return CauseStopped
	case e.signal() != 0:
		return causeOfOthers(e.signal()) // its last words tell what QMP's log lost
	case e.Status.Known && !e.Answered && !e.Spoke:
		return CauseLaunchFailed // e.g. args that only make QEMU print a list
	}
	return CauseUnknown
}

// causeOfSignal is for a process that a signal ended without its consent.
// Before QEMU has installed its handlers that is so with SIGTERM, too.
func (e Evidence) causeOfSignal() string {
	switch {
	case e.Status.Signal == unix.SIGKILL && e.climbed(RungSIGKILL),
		e.Status.Signal == unix.SIGTERM && e.climbed(RungSIGTERM):
		return CauseStopped
	}
	return causeOfOthers(e.Status.Signal)
}

// causeOfOthers is for a signal that is not ours. Only two are how somebody ends
// a process on purpose; a SIGINT or SIGHUP that QEMU obeys is an accident like
// any other.
func causeOfOthers(signal unix.Signal) string {
	if signal == unix.SIGKILL || signal == unix.SIGTERM {
		return CauseKilled
	}
	return CauseCrashed
}

// causeOfShutdown is for a QEMU that announced its end. Each reason is our own
// doing only if the ladder had come to the rung that has it as its effect.
func (e Evidence) causeOfShutdown() string {
	switch e.Shutdown.Reason {
	case reasonShutdown:
		return e.stoppedOr(RungAgent, CauseGuestShutdown)
	case reasonReset, reasonSystemReset:
		// A guest that is set up to end instead of rebooting was asked to end.
		return e.stoppedOr(RungAgent, CauseGuestReset)
	case reasonPanic:
		return CauseGuestPanic
	case reasonSignal:
		return e.stoppedOr(RungSIGTERM, causeOfOthers(e.signal()))
	case reasonQuit, reasonUI:
		return CauseStopped // somebody's, by a monitor or a window of their own
	case reasonHostError:
		return CauseCrashed
	}
	return CauseUnknown
}

func (e Evidence) stoppedOr(rung, otherwise string) string {
	if e.climbed(rung) {
		return CauseStopped
	}
	return otherwise
}

// climbed says whether our own stop had come to that rung or beyond.
func (e Evidence) climbed(rung string) bool {
	return e.Stop != nil && e.Stop.Kind == IntentStop && slices.Index(rungs, e.Stop.Rung) >= slices.Index(rungs, rung)
}

// terminating is what QEMU prints when it obeys a signal (softmmu/runstate.c,
// qemu_kill_report): "terminating on signal 15 from pid 123 (systemd)".
var terminating = regexp.MustCompile(`terminating on signal (\d+)`)

// signal is the one that ended the process; zero when none did. QEMU catches
// SIGTERM, SIGINT and SIGHUP and ends with code 0: then its own words name it.
func (e Evidence) signal() unix.Signal {
	if e.Status.Signal != 0 {
		return e.Status.Signal
	}
	if e.Shutdown != nil && e.Shutdown.Reason != reasonSignal {
		return 0
	}
	for _, line := range slices.Backward(e.Words) {
		if found := terminating.FindStringSubmatch(line); found != nil {
			if n, err := strconv.Atoi(found[1]); err == nil && n > 0 {
				return unix.Signal(n)
			}
		}
	}
	if e.Shutdown != nil {
		return unix.SIGTERM
	}
	return 0
}

// signalName is "SIGKILL", or a number for signals without a name.
func signalName(s unix.Signal) string {
	if name := unix.SignalName(s); name != "" {
		return name
	}
	return "signal " + strconv.Itoa(int(s))
}
