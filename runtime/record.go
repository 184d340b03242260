package runtime

import (
	"time"

	"github.com/qemu-reconciler/qemu-reconciler/spec"
)

// RecordVersion is the version of the record format that this program writes.
const RecordVersion = 1

// Record is everything that is known of a task between two lives of the
// daemon. It is written before the deed it announces, atomically, one file a
// task. A Record in memory is a value that is replaced and never changed once
// it is shared.
type Record struct {
	Version int    `json:"version"`
	Task    string `json:"task"`
	// File is the task file (relative path) that last defined the task.
	File string `json:"file,omitempty"`
	// Wanted is the last good definition. It starts the VM while its file is
	// broken.
	Wanted *spec.Task `json:"wanted,omitempty"`
	// Applied is the definition that the process runs on (or last ran on).
	Applied *spec.Task `json:"applied,omitempty"`
	// UUID is what the guest sees.
	UUID string `json:"uuid,omitempty"`
	// Ports are the allocated host ports by label.
	Ports map[string]int `json:"ports,omitempty"`
	// Format is the image format that was detected once.
	Format *PinnedFormat `json:"format,omitempty"`

	// Intent is what is under way: the daemon that finds it after a crash
	// finishes it.
	Intent *Intent `json:"intent,omitempty"`
	// Process is the QEMU of this task; nil when there is none.
	Process *ProcessInfo `json:"process,omitempty"`

	// Held is an operator's `stop`: not started until `start`.
	Held bool `json:"held,omitempty"`
	// Kept is a task that went away with on_remove = "keep": its VM is left
	// alone and not shown until the task returns.
	Kept bool `json:"kept,omitempty"`

	// Restarts counts restarts by policy, Reboots those of the guest within
	// its process, both since the task was first started.
	Restarts int `json:"restarts,omitempty"`
	Reboots  int `json:"reboots,omitempty"`
	// Attempts are the times of the latest starts by restart policy, oldest
	// first, as far as the policy needs them.
	Attempts []time.Time `json:"attempts,omitempty"`
	// Due says that a start was begun and came to no process, since the daemon ended
	// first: whatever it was for, the next daemon makes it. While a start is under way
	// its Intent says so.
	Due bool `json:"due,omitempty"`
	// GaveUp is set when the restart policy's mode = "fail" has run out.
	GaveUp bool `json:"gave_up,omitempty"`
	// Failure says why the latest start did not get as far as a process.
	Failure  string    `json:"failure,omitempty"`
	FailedAt time.Time `json:"failed_at,omitzero"`

	LastExit *Exit `json:"last_exit,omitempty"`
}

// Stopping says whether a stop was announced and is not over.
func (r *Record) Stopping() bool { return r.Intent != nil && r.Intent.Kind == IntentStop }

// callOff takes back a start that came to no process: its intent, and the attempt
// that the restart policy counted when it began. It is to be made again.
func (r *Record) callOff(began time.Time) {
	r.Intent, r.Due = nil, true
	if n := len(r.Attempts); n > 0 && !r.Attempts[n-1].Before(began) {
		r.Attempts = r.Attempts[:n-1]
		r.Restarts--
	}
}

// PinnedFormat binds a detected image format to the file it was seen in, so
// that a guest that writes another format's header into its disk gains
// nothing.
type PinnedFormat struct {
	Format string `json:"format"`
	Device uint64 `json:"device"`
	Inode  uint64 `json:"inode"`
}

// The kinds of Intent.
const (
	IntentStart = "start"
	IntentStop  = "stop"
)

// Intent announces a deed. Times are the wall clock's.
type Intent struct {
	Kind   string    `json:"kind"`
	At     time.Time `json:"at"`
	BootID string    `json:"boot_id"`
	// SocketInode is the inode of the bound QMP socket: who holds it between
	// the fork and the record of its pid is the process that was started.
	SocketInode uint64 `json:"socket_inode,omitempty"`
	// LogOffset is where the output of the process that is being started begins in
	// qemu.log, in bytes.
	LogOffset int64 `json:"log_offset,omitempty"`
	// Reason says why a stop began, e.g. "removed".
	Reason string `json:"reason,omitempty"`
	// Rung is the highest rung of the stop ladder that was tried.
	Rung string `json:"rung,omitempty"`
}

// ProcessInfo identifies a QEMU process beyond its pid and says what it runs.
type ProcessInfo struct {
	PID int `json:"pid"`
	// StartTicks is field 22 of /proc/PID/stat, in clock ticks since boot.
	StartTicks uint64    `json:"start_ticks"`
	BootID     string    `json:"boot_id"`
	StartedAt  time.Time `json:"started_at"`
	// Argv is the command line with the program's path first.
	Argv    []string `json:"argv"`
	Version string   `json:"version,omitempty"`
	Format  string   `json:"format"`
	// Forwards are the host ports in force.
	Forwards []spec.Forward `json:"forwards,omitempty"`
	// Answered is set once QMP has answered, or can answer nobody any more: only
	// then is the VM running.
	Answered bool `json:"answered,omitempty"`
	// LogOffset is where this process's output begins in qemu.log, in bytes.
	LogOffset int64 `json:"log_offset,omitempty"`
	// EventsSeen is the time of the latest reset of the guest that Reboots
	// counts.
	EventsSeen time.Time `json:"events_seen,omitzero"`
}

// The causes of an exit, as status shows them.
const (
	CauseGuestShutdown = "guest-shutdown"
	CauseGuestReset    = "guest-reset"
	CauseGuestPanic    = "guest-panic"
	CauseStopped       = "stopped"
	CauseCrashed       = "crashed"
	CauseKilled        = "killed"
	CauseLaunchFailed  = "launch-failed"
	CauseHostReboot    = "host-reboot"
	CauseUnknown       = "unknown"
)

// Exit is how a process ended.
type Exit struct {
	At    time.Time `json:"at"`
	Cause string    `json:"cause"`
	// Code is nil where nobody could know it.
	Code   *int   `json:"code"`
	Signal string `json:"signal"`
	// Rung and Seconds say which rung of the stop ladder worked and how long
	// the whole stop took.
	Rung    string  `json:"rung"`
	Seconds float64 `json:"seconds"`
	// Words are QEMU's last lines on stderr, the newest last.
	Words []string `json:"words,omitempty"`
	// BootID tells exits of this boot from older ones.
	BootID string `json:"boot_id,omitempty"`
	// PID and StartedAt name the process that ended.
	PID       int       `json:"pid,omitempty"`
	StartedAt time.Time `json:"started_at,omitzero"`
}

// Observation is what is known of one task's machine at one moment. It is a
// value.
type Observation struct {
	Record *Record
	// Alive says that the recorded process exists; a VM that was adopted
	// counts the same as a child.
	Alive bool
	// Answering says that QMP answered this daemon (or the last one, in a view
	// without a daemon), for the process that is alive.
	Answering bool
	// Paused is QMP's run state when the guest's CPUs are stopped, e.g.
	// "paused", or "io-error: " and what is known of it; empty when they run.
	Paused string
	// Trouble says why a running VM cannot be spoken to, e.g. "QMP socket
	// lost"; empty when it can.
	Trouble string
	// Refused says why the record and its process may not be touched at all,
	// e.g. because a newer version wrote it; empty when they may.
	Refused string
}
