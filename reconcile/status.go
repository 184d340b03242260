package reconcile

import (
	"time"

	"github.com/qemu-reconciler/qemu-reconciler/spec"
)

// Phase is where a task stands.
type Phase string

// The phases of a task.
const (
	PhasePending  Phase = "pending"
	PhaseStarting Phase = "starting"
	PhaseRunning  Phase = "running"
	PhaseStopping Phase = "stopping"
	PhaseStopped  Phase = "stopped"
	PhaseBackoff  Phase = "backoff"
	PhaseFailed   Phase = "failed"
	PhaseHeld     Phase = "held"
)

// Status is `status --json`. Lists are never null.
type Status struct {
	Format       int          `json:"format"`
	Host         string       `json:"host"`
	VMsDir       string       `json:"vms_dir"`
	StateDir     string       `json:"state_dir"`
	Daemon       DaemonStatus `json:"daemon"`
	Converged    bool         `json:"converged"`
	Drained      bool         `json:"drained"`
	Tasks        []TaskStatus `json:"tasks"`
	Files        []FileStatus `json:"files"`
	HeldRemovals []string     `json:"held_removals"`
	// Unsettled are the files that are being written: they are taken when their
	// writers are done.
	Unsettled []string `json:"unsettled,omitempty"`
	// DirError says what is wrong with the task directory itself.
	DirError string `json:"dir_error,omitempty"`
}

// DaemonStatus says whether a daemon runs, and which.
type DaemonStatus struct {
	Running bool   `json:"running"`
	PID     int    `json:"pid"`
	Version string `json:"version"`
}

// TaskStatus is one task of Status.
type TaskStatus struct {
	Name        string            `json:"name"`
	File        string            `json:"file"`
	Desired     string            `json:"desired"`
	Phase       Phase             `json:"phase"`
	Reason      string            `json:"reason"`
	Converged   bool              `json:"converged"`
	PID         int               `json:"pid"`
	UUID        string            `json:"uuid"`
	StartedAt   *Moment           `json:"started_at"`
	Restarts    int               `json:"restarts"`
	Reboots     int               `json:"reboots"`
	ImageFormat string            `json:"image_format"`
	Ports       []PortStatus      `json:"ports"`
	Pending     []FieldChange     `json:"pending"`
	LastExit    *ExitStatus       `json:"last_exit"`
	Meta        map[string]string `json:"meta,omitempty"`
}

// Moment is a time as the status shows it: UTC, in milliseconds.
type Moment struct{ time.Time }

// MarshalJSON always writes three digits behind the point.
func (m Moment) MarshalJSON() ([]byte, error) {
	return []byte(m.UTC().Format(`"2006-01-02T15:04:05.000Z"`)), nil
}

// PortStatus is one port of a task. Guest is zero for a port that is allocated
// and kept but not forwarded.
type PortStatus struct {
	Label     string   `json:"label"`
	HostIP    string   `json:"host_ip"`
	Host      int      `json:"host"`
	Guest     int      `json:"guest"`
	Protocols []string `json:"protocols"`
}

// ExitStatus is how the task's latest process ended.
type ExitStatus struct {
	At      Moment   `json:"at"`
	Cause   string   `json:"cause"`
	Code    *int     `json:"code"`
	Signal  string   `json:"signal"`
	Rung    string   `json:"rung"`
	Seconds float64  `json:"seconds"`
	Words   []string `json:"words,omitempty"`
}

// FileStatus is a task file with errors or warnings.
type FileStatus struct {
	Path     string            `json:"path"`
	Errors   []spec.Diagnostic `json:"errors"`
	Warnings []spec.Diagnostic `json:"warnings"`
}
