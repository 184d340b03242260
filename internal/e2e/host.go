package e2e

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/qemu-reconciler/qemu-reconciler/internal/crash"
	"github.com/qemu-reconciler/qemu-reconciler/internal/guest"
)

// Host is one test's world: directories, a daemon, and its VMs.
type Host struct {
	// VMs, State and Run are the daemon's directories; Disks is for images and
	// is not watched. All are absolute.
	VMs, State, Run, Disks string

	t      testing.TB
	config string // config.hcl
	args   []string
	env    []string // added to that of every command
	under  []string // what starts `run`, itself and its arguments
	binary string   // the program
	orders string   // where the program with crash points looks for orders
	user   uint32   // zero: whoever runs the test
	logs   *os.File
	daemon *daemon
	proofs int
}

// Option changes the host that Start makes.
type Option func(*options)

type options struct {
	long, asNobody, stopped, brake, crashing, plain bool
	config                                          string
	args, env, under                                []string
	state, disks                                    string // sizes of file systems of their own
	run                                             string // where the run directory is made
}

// Long makes every path longer than a socket address can be (107 bytes), with
// blanks, a comma and letters beyond ASCII in it.
func Long() Option { return func(o *options) { o.long = true } }

// AsNobody runs the daemon as a user who owns its directories and is not root,
// whom file modes therefore keep out. It changes nothing for a test that is
// not run by root.
func AsNobody() Option { return func(o *options) { o.asNobody = true } }

// Brake leaves the brake on mass removals as it is by default. Without it tests
// may remove what they like: config.hcl has a max_removals that none reaches.
func Brake() Option { return func(o *options) { o.brake = true } }

// Config adds lines to config.hcl, which otherwise says only dynamic_ports and
// max_removals.
func Config(hcl string) Option { return func(o *options) { o.config += hcl + "\n" } }

// Secluded gives the daemon mounts of its own: what other tests mount would wake
// it. Who is not root sees no such tests.
func Secluded() Option {
	if os.Geteuid() != 0 {
		return func(*options) {}
	}
	return Under(`exec unshare --mount "$@"`)
}

// Args adds arguments to `run`, at this start and at later ones.
func Args(args ...string) Option { return func(o *options) { o.args = append(o.args, args...) } }

// Env adds NAME=value to the environment of the daemon and of all commands.
func Env(variables ...string) Option { return func(o *options) { o.env = append(o.env, variables...) } }

// Under starts the daemon by a shell that first executes a line, e.g. of umask.
func Under(line string) Option {
	return func(o *options) { o.under = []string{"sh", "-c", line + `; exec "$@"`, "sh"} }
}

// CrashPoints runs the program that dies where it is ordered to.
func CrashPoints() Option { return func(o *options) { o.crashing = true } }

// SmallState puts the state directory on a file system of its own of that size,
// e.g. "512k". The test is skipped when it may not mount.
func SmallState(size string) Option { return func(o *options) { o.state = size } }

// SmallDisks does so with the directory of the images.
func SmallDisks(size string) Option { return func(o *options) { o.disks = size } }

// RunUnder makes the run directory in another place than the rest, e.g. in memory
// as /run is.
func RunUnder(dir string) Option { return func(o *options) { o.run = dir } }

// Leader starts the daemon in a session of its own, as a service manager does.
func Leader() Option { return Under(`exec setsid "$@"`) }

// Stopped makes the host and starts no daemon.
func Stopped() Option { return func(o *options) { o.stopped = true } }

// Plain runs the program without the race detector, for what is measured.
func Plain() Option { return func(o *options) { o.plain = true } }

// nobody is a user id that owns no files of its own on any distribution.
const nobody = 65534

// hosts counts hosts, so that each gets ports of its own.
var hosts atomic.Int32

// Start makes a host, starts its daemon and waits until that answers. All of
// it ends with the test.
func Start(t testing.TB, opts ...Option) *Host {
	t.Helper()
	var o options
	for _, opt := range opts {
		opt(&o)
	}
	h := newHost(t, o)
	if !o.stopped {
		h.StartDaemon()
	}
	return h
}

func newHost(t testing.TB, o options) *Host {
	t.Helper()
	top, err := os.MkdirTemp("", "e2e")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(top) }) //nolint:errcheck // best effort: the system cleans its temporary directory
	dir := top
	if o.long {
		dir = filepath.Join(top, "a long, long way", strings.Repeat("größer als ein Sockelname ", 5), "down")
	}
	h := &Host{t: t, args: o.args, env: o.env, under: o.under, config: filepath.Join(dir, "config.hcl"),
		VMs: filepath.Join(dir, "vms.d"), State: filepath.Join(dir, "state"), Run: filepath.Join(dir, "run"), Disks: filepath.Join(dir, "disks")}
	if o.run != "" {
		run, err := os.MkdirTemp(o.run, "e2e-run")
		h.must(err)
		t.Cleanup(func() { os.RemoveAll(run) }) //nolint:errcheck // as above
		h.Run = filepath.Join(run, "run")
	}
	switch {
	case o.crashing:
		h.binary, h.orders = CrashBinary(t), filepath.Join(dir, "orders")
		h.env = append(h.env, crash.Variable+"="+h.orders)
	case o.plain:
		h.binary = LaterBinary(t)
	default:
		h.binary = Binary(t)
	}
	h.must(os.MkdirAll(h.VMs, 0o755))
	h.must(os.Mkdir(h.Disks, 0o755))
	if !o.brake {
		o.config += "max_removals = 1000\n"
	}
	h.mountSmall(h.State, o.state)
	h.mountSmall(h.Disks, o.disks)
	h.must(os.WriteFile(h.config, []byte(portRange()+o.config), 0o644))
	h.logs, err = os.Create(filepath.Join(dir, "daemon.log"))
	h.must(err)
	if o.asNobody && os.Geteuid() == 0 {
		h.user = nobody
		h.must(filepath.Walk(top, func(path string, _ os.FileInfo, err error) error {
			if err != nil {
				return err
			}
			return os.Lchown(path, nobody, nobody)
		}))
	}
	t.Cleanup(h.end)
	return h
}

// portRange gives each host of each test process 25 ports, below those that
// the kernel hands out by itself and below the program's own default.
func portRange() string {
	slot := (os.Getpid()*16 + int(hosts.Add(1))) % 390
	return fmt.Sprintf("dynamic_ports = \"%d-%d\"\n", 10000+slot*25, 10024+slot*25)
}

func (h *Host) must(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

// Write puts a task file in place at once: written elsewhere, then renamed.
func (h *Host) Write(name, content string) {
	h.t.Helper()
	temporary := filepath.Join(h.VMs, "."+name+".new")
	h.must(os.WriteFile(temporary, []byte(content), 0o644))
	h.must(os.Rename(temporary, filepath.Join(h.VMs, name)))
}

// WritePlain writes a task file where it is, as `cat >file` does.
func (h *Host) WritePlain(name, content string) {
	h.t.Helper()
	h.must(os.WriteFile(filepath.Join(h.VMs, name), []byte(content), 0o644))
}

// Remove removes a task file.
func (h *Host) Remove(name string) {
	h.t.Helper()
	h.must(os.Remove(filepath.Join(h.VMs, name)))
}

// remove removes a file that may be gone already.
func remove(path string) error {
	if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Image makes a tiny guest's disk image outside the task directory and gives
// its path.
func (h *Host) Image(name string, v guest.Variant) string {
	h.t.Helper()
	path := filepath.Join(h.Disks, name)
	h.must(guest.Write(path, v))
	if h.user != 0 {
		h.must(os.Chown(path, int(h.user), int(h.user)))
	}
	return path
}

// Task gives the text of a task on a fresh image of its own. lines go into the
// config block.
func (h *Host) Task(name string, v guest.Variant, lines ...string) string {
	h.t.Helper()
	image := h.Image(name+".img", v)
	return fmt.Sprintf("task %q {\n  config {\n    image_path = %q\n    emulator = \"x86_64\"\n    %s\n  }\n  resources {\n    memory = 128\n  }\n}\n",
		name, image, strings.Join(lines, "\n    "))
}

// moreMemory is the usual edit that needs a restart, of a text that Task made.
// It goes by the whole line: any number may be in the name of a directory.
func moreMemory(text string) string {
	return strings.Replace(text, "memory = 128\n", "memory = 160\n", 1)
}

// Console is what a task's guest has written to its serial console.
func (h *Host) Console(task string) string { return h.read("logs", task, "console.log") }

// QEMULog is what a task's QEMU has said.
func (h *Host) QEMULog(task string) string { return h.read("logs", task, "qemu.log") }

// DaemonLog is what all daemons of this host have logged.
func (h *Host) DaemonLog() string {
	data, err := os.ReadFile(h.logs.Name())
	h.must(err)
	return string(data)
}

// read gives a file of the state directory, or nothing while it is not there.
func (h *Host) read(parts ...string) string {
	data, err := os.ReadFile(filepath.Join(append([]string{h.State}, parts...)...))
	if err != nil && !os.IsNotExist(err) {
		h.t.Fatal(err)
	}
	return string(data)
}
