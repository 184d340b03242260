package runtime

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/qemu-reconciler/qemu-reconciler/spec"
)

var updateGolden = flag.Bool("update", false, "write the golden files anew")

// argvCase changes one thing of plainLine.
type argvCase struct {
	name   string
	change func(*CommandLine)
	// elsewhere says why QEMU on the test's host cannot be asked to take it.
	elsewhere string
}

func plainLine() CommandLine {
	return CommandLine{
		Program: "/usr/bin/qemu-system-x86_64",
		Task: &spec.Task{
			Name: "web",
			Config: spec.Config{
				ImagePath: "/srv/images/web.img", Accelerator: "tcg", Emulator: "qemu-system-x86_64",
				MachineType: "pc", DriveInterface: "ide",
			},
			Resources: spec.Resources{MemoryMiB: 128, Cores: 1},
		},
		UUID:   "6ba7b810-9dad-51d1-80b4-00c04fd430c8",
		Format: "raw",
	}
}

func withArgs(args ...string) func(*CommandLine) {
	return func(c *CommandLine) { c.Task.Config.Args = args }
}

var argvCases = []argvCase{
	{name: "plain", change: func(*CommandLine) {}},
	{name: "sandbox", change: func(c *CommandLine) { c.Sandbox, c.Features.Sandbox = true, true }},
	{name: "sandbox_not_built", change: func(c *CommandLine) { c.Sandbox = true }},
	{name: "sandbox_not_wanted", change: func(c *CommandLine) { c.Features.Sandbox = true }},
	{name: "sandbox_own_tap", change: func(c *CommandLine) {
		c.Sandbox, c.Features.Sandbox = true, true
		c.Task.Config.Args = []string{"-netdev", "tap,id=lan", "-device", "virtio-net-pci,netdev=lan"}
	}, elsewhere: "needs a tap device"},
	{name: "sandbox_own_tap_by_type", change: func(c *CommandLine) {
		c.Sandbox, c.Features.Sandbox = true, true
		c.Task.Config.Args = []string{"-netdev", "id=lan,type=tap,ifname=tap0", "-device", "virtio-net-pci,netdev=lan"}
	}, elsewhere: "needs a tap device"},
	{name: "sandbox_own_guestfwd", change: func(c *CommandLine) {
		c.Sandbox, c.Features.Sandbox = true, true
		c.Task.Config.Args = []string{"-nic", "user,guestfwd=tcp:10.0.2.100:80-cmd:/bin/cat"}
	}},
	{name: "kvm", change: func(c *CommandLine) { c.Task.Config.Accelerator = "kvm" }, elsewhere: "needs KVM"},
	{name: "kvm_own_cpu", elsewhere: "needs KVM", change: func(c *CommandLine) {
		c.Task.Config.Accelerator = "kvm"
		c.Task.Config.Args = []string{"-cpu", "max"}
	}},
	{name: "cores", change: func(c *CommandLine) { c.Task.Resources.Cores = 4 }},
	{name: "own_smp", change: withArgs("-smp", "2,maxcpus=4")},
	{name: "own_smp_two_dashes", change: withArgs("--smp", "2")},
	{name: "own_serial", change: withArgs("-serial", "null")},
	{name: "own_isa_serial", change: withArgs("-nodefaults", "-chardev", "null,id=mine", "-device", "isa-serial,chardev=mine")},
	{name: "own_display", change: withArgs("-display", "egl-headless"), elsewhere: "needs a GPU"},
	{name: "own_vnc", change: withArgs("-vnc", "none")},
	{name: "own_nographic", change: withArgs("-nographic")},
	{name: "guest_agent", change: func(c *CommandLine) { c.Task.Config.GuestAgent = true }},
	{name: "ports", change: func(c *CommandLine) {
		c.Forwards = []spec.Forward{
			{Label: "dns", Host: 21053, Guest: 53, Protocols: []string{"udp"}},
			{Label: "http", HostIP: "127.0.0.1", Host: 21080, Guest: 80, Protocols: []string{"tcp"}},
			{Label: "ssh", Host: 21022, Guest: 22, Protocols: []string{"tcp", "udp"}},
		}
	}},
	{name: "args_before_network", change: func(c *CommandLine) {
		c.Task.Config.Args = []string{"-nodefaults", "-device", "virtio-rng-pci"}
		c.Forwards = []spec.Forward{{Label: "ssh", HostIP: "127.0.0.1", Host: 21023, Guest: 22, Protocols: []string{"tcp"}}}
	}},
	{name: "commas", change: func(c *CommandLine) {
		c.Task.Config.ImagePath = "/srv/images/a,file.filename=,b.img"
	}},
	{name: "spaces_and_equals", change: func(c *CommandLine) {
		c.Task.Config.ImagePath = "/srv/images/json:{} =x \"y\" $z.img"
	}},
	{name: "block_device", change: func(c *CommandLine) {
		c.BlockDevice, c.Task.Config.ImagePath = true, "/dev/vg0/web"
	}, elsewhere: "needs a block device"},
	{name: "qcow2", change: func(c *CommandLine) { c.Format = "qcow2" }, elsewhere: "the image is raw"},
	{name: "virtio", change: func(c *CommandLine) { c.Task.Config.DriveInterface = "virtio" }},
	{name: "q35", change: func(c *CommandLine) { c.Task.Config.MachineType = "q35" }},
	{name: "microvm", change: func(c *CommandLine) {
		c.Task.Config.MachineType, c.Task.Config.DriveInterface = "microvm", "virtio"
		c.Task.Config.GuestAgent = true
		c.Forwards = []spec.Forward{{Label: "ssh", HostIP: "127.0.0.1", Host: 21025, Guest: 22, Protocols: []string{"tcp"}}}
	}},
	{name: "arm_virt", elsewhere: "needs another emulator", change: func(c *CommandLine) {
		c.Program = "/usr/bin/qemu-system-aarch64"
		c.Task.Config.MachineType, c.Task.Config.DriveInterface = "virt", "virtio"
	}},
	{name: "everything", change: func(c *CommandLine) {
		c.Sandbox, c.Features.Sandbox = true, true
		c.Task.Config.GuestAgent = true
		c.Task.Resources.Cores = 2
		c.Task.Config.Args = []string{"-device", "virtio-rng-pci", "-device", "pvpanic"}
		c.Forwards = []spec.Forward{{Label: "ssh", Host: 21024, Guest: 22, Protocols: []string{"tcp", "udp"}}}
	}},
}

func (c argvCase) line() CommandLine {
	line := plainLine()
	c.change(&line)
	return line
}

func TestArgvGolden(t *testing.T) {
	for _, c := range argvCases {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join("testdata", "argv", c.name+".golden")
			got := strings.Join(c.line().Argv(), "\n") + "\n"
			if *updateGolden {
				must(t, os.WriteFile(path, []byte(got), 0o644))
			}
			want, err := os.ReadFile(path)
			must(t, err)
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("command line (-golden +got):\n%s", diff)
			}
		})
	}
}

// TestArgvGoldenAll keeps files of cases that are gone from looking current.
func TestArgvGoldenAll(t *testing.T) {
	files, err := filepath.Glob("testdata/argv/*.golden")
	must(t, err)
	if len(files) != len(argvCases) {
		t.Errorf("%d golden files for %d cases", len(files), len(argvCases))
	}
}

func TestArgvIsPure(t *testing.T) {
	line := argvCases[len(argvCases)-1].line()
	first := line.Argv()
	// A caller may do with its copy what it wants.
	for i := range first {
		first[i] = "changed"
	}
	second := line.Argv()
	if diff := cmp.Diff(argvCases[len(argvCases)-1].line().Argv(), second); diff != "" {
		t.Errorf("second command line differs:\n%s", diff)
	}
}

func TestConsolePlaced(t *testing.T) {
	for _, c := range []struct {
		args []string
		want bool
	}{
		{nil, false},
		{[]string{"-nodefaults"}, false},
		{[]string{"-serial", "mon:stdio"}, true},
		{[]string{"--serial", "none"}, true},
		{[]string{"-device", "isa-serial,chardev=c"}, true},
		{[]string{"-device", "driver=isa-serial"}, true},
		{[]string{"-device", "chardev=c,driver=isa-serial"}, true},
		{[]string{"-device", `{"driver":"isa-serial","chardev":"c"}`}, true},
		{[]string{"-device", "isa-serial-multi"}, false},
		{[]string{"-append", "-device", "isa-serial"}, false},
		{[]string{"-device"}, false},
	} {
		if got := ConsolePlaced(&spec.Task{Config: spec.Config{Args: c.args}}); got != c.want {
			t.Errorf("ConsolePlaced(%q) = %v", c.args, got)
		}
	}
}

func TestSpawns(t *testing.T) {
	for _, c := range []struct {
		args []string
		want bool
	}{
		{nil, false},
		{[]string{"-netdev", "user,id=n"}, false},
		{[]string{"-netdev", "tap,id=n"}, true},
		{[]string{"--nic", "tap,ifname=tap0,script=no"}, true},
		{[]string{"-netdev", "tap,id=n,script=no,downscript=no"}, false},
		{[]string{"-netdev", "tap,id=n,fd=9"}, false},
		{[]string{"-netdev", "type=bridge,id=n,br=br0"}, true},
		{[]string{"-nic", "bridge"}, true},
		{[]string{"-netdev", "id=n,type=tap,ifname=tap0"}, true},
		{[]string{"-netdev", `{"type":"tap","id":"n","ifname":"tap0"}`}, true},
		{[]string{"-netdev", `{"type":"tap","id":"n","script":"no","downscript":"no"}`}, false},
		{[]string{"-netdev", "passt,id=n"}, true},
		{[]string{"-netdev", "user,id=n,guestfwd=tcp:10.0.2.100:80-cmd:/bin/cat"}, true},
		{[]string{"-net", "user,hostname=x,guestfwd=tcp:10.0.2.101:80-tcp:127.0.0.1:80,guestfwd=tcp:10.0.2.100:80-cmd:/bin/cat"}, true},
		{[]string{"-netdev", "user,id=n,guestfwd=tcp:10.0.2.100:80-chardev:c"}, false},
		{[]string{"-netdev", `{"type":"user","id":"n","guestfwd":[{"str":"tcp:10.0.2.100:80-cmd:/bin/cat"}]}`}, true},
		{[]string{"-nic", "user,smb=/srv/share"}, true},
		{[]string{"-netdev", "user,id=n,dnssearch=a,,type=tap"}, false},
		{[]string{"-device", "tap"}, false},
		{[]string{"-netdev"}, false},
	} {
		if got := spawns(&spec.Task{Config: spec.Config{Args: c.args}}); got != c.want {
			t.Errorf("spawns(%q) = %v", c.args, got)
		}
	}
}
