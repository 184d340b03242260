package spec

import (
	"fmt"
	"slices"
	"strings"
)

// EmulatorPrefix begins the program name of every system emulator; the
// architecture follows.
const EmulatorPrefix = "qemu-system-"

// qemuArch gives QEMU's name for a machine as uname or Go says it, where they
// differ.
var qemuArch = map[string]string{
	"amd64": "x86_64", "386": "i386", "i486": "i386", "i586": "i386", "i686": "i386", "x86": "i386",
	"arm64": "aarch64", "armv6l": "arm", "armv7l": "arm", "armv8l": "arm",
	"ppc64le": "ppc64", "ppcle": "ppc", "loong64": "loongarch64",
	"mipsle": "mipsel", "mips64le": "mips64el", "mipsel64": "mips64el",
}

// QEMUArch is QEMU's name for a machine as uname says it, or Go's GOARCH.
func QEMUArch(machine string) string {
	if name, ok := qemuArch[machine]; ok {
		return name
	}
	return machine
}

// emulatorName is the program of an emulator that is written in full or as an
// architecture; an empty name is the host's own.
func emulatorName(name, hostArch string) string {
	if name == "" {
		name = QEMUArch(hostArch)
	}
	return EmulatorPrefix + strings.TrimPrefix(name, EmulatorPrefix)
}

// defaultMachines are the machine types taken when none is written, by the
// emulator's architecture.
var defaultMachines = map[string]string{
	"x86_64": "pc", "i386": "pc",
	"arm": "virt", "aarch64": "virt", "riscv32": "virt", "riscv64": "virt", "loongarch64": "virt",
	"ppc64": "pseries", "s390x": "s390-ccw-virtio",
}

// otherArchitectures are those for which QEMU has, or had, a system emulator
// beside the ones in defaultMachines.
var otherArchitectures = []string{
	"alpha", "avr", "cris", "hppa", "lm32", "m68k", "microblaze", "microblazeel", "mips", "mips64", "mips64el", "mipsel", "moxie",
	"nios2", "or1k", "ppc", "rx", "sh4", "sh4eb", "sparc", "sparc64", "tricore", "unicore32", "x86_64-microvm", "xtensa", "xtensaeb",
}

// family is a kind of machine types that offer the same places for a drive.
type family struct {
	name string
	// matches are machine types without their version.
	matches []string
	drives  []string
}

// families say what `-drive if=` works on which machine types: pc, q35, isapc
// and microvm as QEMU 7.2 was seen to accept or refuse them, the others as
// their boards are documented. A machine type of no family is not judged.
var families = []family{
	{"pc", []string{"pc", "pc-i440fx", "q35", "pc-q35"}, []string{"ide", "floppy", "pflash", "virtio", "none"}},
	{"isapc", []string{"isapc"}, []string{"ide", "floppy", "none"}},
	{"microvm", []string{"microvm"}, []string{"virtio", "none"}},
	{"virt", []string{"virt"}, []string{"pflash", "virtio", "none"}},
	{"pseries", []string{"pseries"}, []string{"scsi", "virtio", "none"}},
	{"s390-ccw-virtio", []string{"s390-ccw-virtio", "s390-ccw"}, []string{"virtio", "none"}},
}

// familyOf finds the family of a machine type such as "pc-q35-7.2".
func familyOf(machine string) (family, bool) {
	plain := machine
	if i := strings.LastIndexByte(machine, '-'); i > 0 && i+1 < len(machine) && machine[i+1] >= '0' && machine[i+1] <= '9' {
		plain = machine[:i]
	}
	for _, f := range families {
		if slices.Contains(f.matches, plain) {
			return f, true
		}
	}
	return family{}, false
}

// completeMachine fills in what follows from the emulator and machine type.
func (c *completion) completeMachine() {
	config := &c.task.Config
	config.Emulator = emulatorName(config.Emulator, c.env.HostArch)
	if config.MachineType == "" {
		config.MachineType = defaultMachines[config.architecture()]
		if config.architecture() == "x86_64-microvm" {
			config.MachineType = "microvm"
		}
	}
	if config.MachineType == "" && !slices.Contains(otherArchitectures, config.architecture()) {
		c.unknownEmulator(config.Emulator, config.architecture())
		return
	}
	if config.MachineType == "" {
		c.wrong("config.machine_type", "machine_type is missing",
			fmt.Sprintf("There is no usual machine type for %s; write one of those that %s -machine help lists.", config.Emulator, config.Emulator))
		return
	}
	kind, known := familyOf(config.MachineType)
	if config.DriveInterface == "" {
		config.DriveInterface = "virtio"
		if kind.name == "pc" {
			config.DriveInterface = "ide"
		}
	}
	if known && !slices.Contains(kind.drives, config.DriveInterface) {
		c.wrong("config.drive_interface", fmt.Sprintf("drive_interface %q does not exist on %s", config.DriveInterface, config.MachineType),
			fmt.Sprintf("Write %s.", choice(kind.drives)))
	}
}

// architecture is that of the emulator, by its name.
func (c *Config) architecture() string { return strings.TrimPrefix(c.Emulator, EmulatorPrefix) }

// unknownEmulator reports an emulator that QEMU does not come with. Only
// without a machine type: with one, it may be a build that has its own name.
func (c *completion) unknownEmulator(name, arch string) {
	mend := didYouMean(arch, append(sortedKeys(defaultMachines), otherArchitectures...))
	c.wrong("config.emulator", fmt.Sprintf("Unknown emulator %q", name),
		fmt.Sprintf("QEMU has no emulator for %q; write an architecture such as \"x86_64\", or machine_type too if the program has a name of its own.%s", arch, mend))
}
