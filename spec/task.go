package spec

import (
	"fmt"
	"time"
)

// The words of task.state, on_change, on_remove, restart.on and restart.mode.
const (
	StateRunning = "running"
	StateStopped = "stopped"

	OnChangeRestart = "restart"
	OnChangeReboot  = "reboot"

	OnRemoveStop = "stop"
	OnRemoveKeep = "keep"

	RestartAlways  = "always"
	RestartFailure = "failure"
	RestartNever   = "never"

	ModeDelay = "delay"
	ModeFail  = "fail"
)

// Duration is a time.Duration that is written as text ("60s") in records and
// in plans, as the operator writes it.
type Duration time.Duration

// String gives the shortest form that parses back, e.g. "1m0s".
func (d Duration) String() string { return time.Duration(d).String() }

// MarshalText implements encoding.TextMarshaler.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Duration) UnmarshalText(text []byte) error {
	parsed, err := time.ParseDuration(string(text))
	if err != nil {
		return fmt.Errorf("duration %q: %w", text, err)
	}
	*d = Duration(parsed)
	return nil
}

// Task is one virtual machine as an operator wants it, with every default
// filled in. Records keep it as JSON, so that a change is judged between
// definitions and a new default never touches a VM that runs; the JSON names
// are those of the task file.
type Task struct {
	Name        string            `json:"name"`
	State       string            `json:"state"`
	Hosts       []string          `json:"hosts,omitempty"`
	OnChange    string            `json:"on_change"`
	OnRemove    string            `json:"on_remove"`
	KillTimeout Duration          `json:"kill_timeout"`
	User        string            `json:"user,omitempty"`
	Env         map[string]string `json:"env,omitempty"`
	Meta        map[string]string `json:"meta,omitempty"`
	DependsOn   []string          `json:"depends_on,omitempty"`
	// UUID is empty unless the operator gave one; the runtime derives it then.
	UUID      string    `json:"uuid,omitempty"`
	Config    Config    `json:"config"`
	Resources Resources `json:"resources"`
	Restart   Restart   `json:"restart"`
}

// Config is the driver's part of a task.
type Config struct {
	// ImagePath is as written, or joined as text to the task directory when
	// it was written relative.
	ImagePath string `json:"image_path"`
	// ImageFormat is empty when it is to be detected and pinned.
	ImageFormat      string   `json:"image_format,omitempty"`
	Accelerator      string   `json:"accelerator"`
	Args             []string `json:"args,omitempty"`
	GracefulShutdown bool     `json:"graceful_shutdown"`
	GuestAgent       bool     `json:"guest_agent"`
	// Emulator is always a program name such as "qemu-system-x86_64".
	Emulator       string `json:"emulator"`
	MachineType    string `json:"machine_type"`
	DriveInterface string `json:"drive_interface"`
	// PortMap maps a label to the guest's port.
	PortMap map[string]int `json:"port_map,omitempty"`
}

// Resources is what a task takes from the host.
type Resources struct {
	MemoryMiB int `json:"memory"`
	Cores     int `json:"cores"`
	// Ports are sorted by label. Without a network block there is one for
	// every label of port_map.
	Ports []Port `json:"ports,omitempty"`
}

// Port is one port block of resources.network.
type Port struct {
	Label string `json:"label"`
	// Static is the host port; zero means that one is allocated and kept.
	Static int `json:"static,omitempty"`
	// HostIP is an IPv4 literal; empty means all IPv4 addresses.
	HostIP    string   `json:"host_ip,omitempty"`
	Protocols []string `json:"protocols"`
}

// Restart is what happens when a VM ends by itself.
type Restart struct {
	On string `json:"on"`
	// Attempts is the number of restarts within Interval before Mode decides;
	// zero means unlimited.
	Attempts int      `json:"attempts"`
	Interval Duration `json:"interval"`
	Delay    Duration `json:"delay"`
	MaxDelay Duration `json:"max_delay"`
	Mode     string   `json:"mode"`
}

// Forward is a port of the guest that is reachable on the host.
type Forward struct {
	Label     string
	HostIP    string
	Host      int
	Guest     int
	Protocols []string
}

// Forwards lists the mapped ports in label order. allocated gives the host
// port of every label that has no static one.
func (t *Task) Forwards(allocated map[string]int) []Forward {
	var out []Forward
	for _, p := range t.Resources.Ports {
		guest, mapped := t.Config.PortMap[p.Label]
		if !mapped {
			continue
		}
		host := p.Static
		if host == 0 {
			host = allocated[p.Label]
		}
		out = append(out, Forward{Label: p.Label, HostIP: p.HostIP, Host: host, Guest: guest, Protocols: p.Protocols})
	}
	return out
}

// Dynamic lists the labels whose host port is to be allocated.
func (t *Task) Dynamic() []string {
	var labels []string
	for _, p := range t.Resources.Ports {
		if p.Static == 0 {
			labels = append(labels, p.Label)
		}
	}
	return labels
}

// HasArg says whether the operator's args contain the option, written with one
// dash or two. The value of another option is none, whatever it looks like.
func (t *Task) HasArg(option string) bool {
	for _, o := range splitArgs(t.Config.Args) {
		if o.name == option {
			return true
		}
	}
	return false
}
