package runtime

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/qemu-reconciler/qemu-reconciler/spec"
)

// The descriptors that a QEMU gets, always under the same numbers; one that a
// machine has no use for is not passed. Sockets are bound and listening. Logs
// are open for writing and appending and nothing else: QEMU takes a descriptor
// of an fdset only for the very access mode that it asks for.
const (
	fdQMP        = 3
	fdQMPLog     = 4
	fdConsole    = 5
	fdConsoleLog = 6
	fdAgent      = 7
)

// The fdsets through which QEMU opens its logs: a descriptor works where the
// path could not be opened by the user that QEMU runs as.
const (
	setQMPLog     = 1
	setConsoleLog = 2
)

// What QEMU's seccomp filter is to deny: all that it can, or, for a machine that
// QEMU itself starts programs for, what does not kill it at that.
const (
	sandboxAll        = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"
	sandboxWithSpawns = "on,obsolete=deny,resourcecontrol=deny"
)

// displayOptions are those of the operator's args that ask for a display.
var displayOptions = []string{
	"display", "nographic", "vnc", "spice", "curses", "sdl", "gtk",
}

// CommandLine is all that a QEMU command line is made of.
type CommandLine struct {
	// Program is the emulator's path.
	Program  string
	Features Features
	Task     *spec.Task
	UUID     string
	// Format is the image's: given, or detected and pinned.
	Format string
	// BlockDevice says that the image path leads to one.
	BlockDevice bool
	// Forwards are the host ports to open, in label order.
	Forwards []spec.Forward
	// Sandbox asks for QEMU's seccomp filter, as far as it was built with it.
	Sandbox bool
}

// Argv gives the command line with the program first. It is a function of the
// CommandLine alone. What is ours comes before the operator's args, and the
// network after them.
func (c CommandLine) Argv() []string {
	return slices.Concat(
		[]string{c.Program},
		c.machine(),
		c.drive(),
		c.processor(),
		c.identity(),
		c.display(),
		c.sandbox(),
		c.console(),
		c.monitor(),
		c.agent(),
		c.Task.Config.Args,
		c.network(),
	)
}

// ConsolePlaced says whether the operator's args put the serial console
// somewhere, so that there is none of ours: by -serial, or by a serial port on
// the ISA bus, which QEMU too takes for the first one.
func ConsolePlaced(t *spec.Task) bool {
	return t.HasArg("serial") || hasDevice(t, "isa-serial")
}

func hasDevice(t *spec.Task, driver string) bool {
	return slices.ContainsFunc(t.ArgProperties("device", "driver"), func(device spec.Properties) bool {
		return slices.Contains(device["driver"], driver)
	})
}

func (c CommandLine) machine() []string {
	t := c.Task
	argv := []string{
		"-machine", options(t.Config.MachineType, "accel", t.Config.Accelerator),
		"-name", escape(t.Name),
		"-m", strconv.Itoa(t.Resources.MemoryMiB) + "M",
	}
	if !t.HasArg("smp") {
		argv = append(argv, "-smp", strconv.Itoa(t.Resources.Cores))
	}
	return argv
}

// drive opens the image by an explicit driver and format, so that neither its
// name nor its content can make QEMU open anything else.
func (c CommandLine) drive() []string {
	driver := "file"
	if c.BlockDevice {
		driver = "host_device"
	}
	place := c.Task.Config.DriveInterface
	var device []string
	if place == "virtio" && c.withoutPCI() { // if=virtio is a device on PCI
		place, device = "none", []string{"-device", c.virtio("blk") + ",drive=image0"}
	}
	return append([]string{"-drive", options("",
		"file.driver", driver,
		"file.filename", c.Task.Config.ImagePath,
		"format", c.Format,
		"if", place,
		"id", "image0",
	)}, device...)
}

// withoutPCI says whether the machine has no PCI bus, and virtio devices are
// mapped into its memory instead.
func (c CommandLine) withoutPCI() bool { return c.Task.Config.MachineType == "microvm" }

// virtio names a virtio device as the machine has it.
func (c CommandLine) virtio(kind string) string {
	if c.withoutPCI() {
		return "virtio-" + kind + "-device"
	}
	return "virtio-" + kind + "-pci"
}

func (c CommandLine) processor() []string {
	if c.Task.Config.Accelerator != "kvm" || c.Task.HasArg("cpu") {
		return nil
	}
	return []string{"-cpu", "host"}
}

func (c CommandLine) identity() []string {
	return []string{"-no-user-config", "-uuid", c.UUID}
}

func (c CommandLine) display() []string {
	if slices.ContainsFunc(displayOptions, c.Task.HasArg) {
		return nil
	}
	return []string{"-display", "none"}
}

func (c CommandLine) sandbox() []string {
	if !c.Sandbox || !c.Features.Sandbox {
		return nil
	}
	if spawns(c.Task) {
		return []string{"-sandbox", sandboxWithSpawns}
	}
	return []string{"-sandbox", sandboxAll}
}

// spawns says whether the operator's args have QEMU run a program of the host
// for a network: to set up an interface, as bridge always does and tap by
// default, to be the network, or to serve what a guest asks for. Under
// spawn=deny the kernel kills QEMU for it (SIGSYS, tried on 7.2) without a word.
func spawns(t *spec.Task) bool {
	return slices.ContainsFunc([]string{"netdev", "nic", "net"}, func(option string) bool {
		return slices.ContainsFunc(t.ArgProperties(option, "type"), spawnsFor)
	})
}

// spawnsFor judges one network backend. Of a key with several values any counts:
// the sandbox is better a little too wide than the machine's end.
func spawnsFor(backend spec.Properties) bool {
	return slices.ContainsFunc(backend["type"], func(kind string) bool {
		switch kind {
		case "bridge", "passt":
			return true
		case "tap":
			ready := backend["fd"] != nil || backend["fds"] != nil
			silent := slices.Contains(backend["script"], "no") && slices.Contains(backend["downscript"], "no")
			return !ready && !silent
		case "user":
			runs := func(forward string) bool { return strings.Contains(forward, "-cmd:") }
			return backend["smb"] != nil || slices.ContainsFunc(backend["guestfwd"], runs)
		}
		return false
	})
}

func (c CommandLine) console() []string {
	if ConsolePlaced(c.Task) {
		return nil
	}
	return append(loggedSocket("console0", fdConsole, setConsoleLog, fdConsoleLog), "-serial", "chardev:console0")
}

func (c CommandLine) monitor() []string {
	return append(loggedSocket("qmp", fdQMP, setQMPLog, fdQMPLog), "-mon", "chardev=qmp,mode=control")
}

// loggedSocket is a character device on a listening descriptor that writes what
// it says to a log too, also while nobody is connected.
func loggedSocket(id string, socket, set, log int) []string {
	return []string{
		"-add-fd", options("", "fd", strconv.Itoa(log), "set", strconv.Itoa(set)),
		"-chardev", options("socket",
			"id", id,
			"fd", strconv.Itoa(socket),
			"server", "on",
			"wait", "off",
			"logfile", fmt.Sprintf("/dev/fdset/%d", set),
			"logappend", "on",
		),
	}
}

// agent is the channel that qemu-ga in the guest looks for by its name.
func (c CommandLine) agent() []string {
	if !c.Task.Config.GuestAgent {
		return nil
	}
	return []string{
		"-chardev", options("socket", "id", "qga0", "fd", strconv.Itoa(fdAgent), "server", "on", "wait", "off"),
		"-device", c.virtio("serial") + ",id=qga0",
		"-device", "virtserialport,bus=qga0.0,chardev=qga0,name=org.qemu.guest_agent.0",
	}
}

// network is there only when something is to be reached from outside; without
// it the guest has QEMU's default NIC.
func (c CommandLine) network() []string {
	if len(c.Forwards) == 0 {
		return nil
	}
	pairs := []string{"id", "user.0"}
	for _, f := range c.Forwards {
		for _, protocol := range f.Protocols {
			pairs = append(pairs, "hostfwd", hostForward(f, protocol))
		}
	}
	return []string{"-netdev", options("user", pairs...), "-device", c.virtio("net") + ",netdev=user.0"}
}

// hostForward is a rule as -netdev and the monitor's hostfwd_add read it.
func hostForward(f spec.Forward, protocol string) string {
	return fmt.Sprintf("%s:%s:%d-:%d", protocol, f.HostIP, f.Host, f.Guest)
}

// options joins a comma-separated option. first may be empty, the rest are keys
// and values.
func options(first string, pairs ...string) string {
	var out []string
	if first != "" {
		out = append(out, escape(first))
	}
	for i := 0; i+1 < len(pairs); i += 2 {
		out = append(out, pairs[i]+"="+escape(pairs[i+1]))
	}
	return strings.Join(out, ",")
}

// escape doubles the commas, the only character with a meaning inside a value.
func escape(value string) string { return strings.ReplaceAll(value, ",", ",,") }
