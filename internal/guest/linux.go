package guest

import (
	"debug/elf"
	_ "embed"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// LinuxPort is where the Linux guest's HTTP server listens; it answers any GET
// of / with SaysHello.
const LinuxPort = 80

// SaysHello is the body of the Linux guest's web page.
const SaysHello = "hello from the guest"

// SaysAgent is what the Linux guest prints when its guest agent was asked to
// shut down.
const SaysAgent = "AGENT"

// linuxModules are the drivers that the init script counts on, as far as the
// kernel does not have them built in: the network card, the agent's channel,
// the power button and its events, and what makes random numbers.
var linuxModules = []string{"virtio_pci", "virtio_net", "virtio_console", "virtio_rng", "evdev", "button"}

//go:embed init.sh
var initScript []byte

// Linux is a kernel and a busybox as fetch.sh unpacks them: vmlinuz, busybox
// and modules/ in one directory.
type Linux struct{ dir string }

// FindLinux opens that directory; the error says how to make it.
func FindLinux(dir string) (Linux, error) {
	for _, name := range []string{"vmlinuz", "busybox", "modules"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			return Linux{}, fmt.Errorf("no Linux guest: %w (`make build/linux-guest` fetches it)", err)
		}
	}
	return Linux{dir: dir}, nil
}

// LinuxOptions choose a Linux guest's behaviour. The zero value prints READY,
// serves HTTP on LinuxPort of a virtio network card at 10.0.2.15 (the address
// that QEMU's user network forwards to), and prints BUTTON and powers off when
// the ACPI power button is pressed.
type LinuxOptions struct {
	// Agent answers a guest agent's messages on the virtio port
	// org.qemu.guest_agent.0: guest-sync, guest-sync-delimited, guest-ping,
	// and guest-shutdown, at which it prints AGENT and powers off.
	Agent bool
	// Deaf ignores the power button.
	Deaf bool
}

// Args are the arguments of QEMU that boot the guest with an initramfs that
// WriteInitramfs made. They need no disk and at least 128 MiB of memory.
func (l Linux) Args(initramfs string, o LinuxOptions) []string {
	words := []string{"console=ttyS0", "quiet", "panic=-1"}
	if o.Agent {
		words = append(words, "guest.agent")
	}
	if o.Deaf {
		words = append(words, "guest.deaf")
	}
	return []string{"-kernel", filepath.Join(l.dir, "vmlinuz"), "-initrd", initramfs, "-append", strings.Join(words, " ")}
}

// WriteInitramfs makes the initramfs at path. One serves all LinuxOptions:
// they are words of the kernel's command line.
func (l Linux) WriteInitramfs(path string) error {
	busybox, err := os.ReadFile(filepath.Join(l.dir, "busybox"))
	if err != nil {
		return err
	}
	var a archive
	for _, name := range []string{"bin", "dev", "proc", "sys", "modules", "www"} {
		a.directory(name)
	}
	a.characterDevice("dev/console", 5, 1) // the kernel opens it for init
	a.file("init", 0o755, initScript)
	a.file("bin/busybox", 0o755, busybox)
	a.file("www/index.html", 0o644, []byte(SaysHello+"\n"))
	if err := l.addModules(&a); err != nil {
		return err
	}
	return os.WriteFile(path, a.bytes(), 0o644)
}

// addModules adds the drivers and what they depend on, numbered in the order
// in which they are to be loaded.
func (l Linux) addModules(a *archive) error {
	paths, err := l.modulePaths()
	if err != nil {
		return err
	}
	loaded := make(map[string]bool)
	var add func(name string) error
	add = func(name string) error {
		path, isModule := paths[name]
		if !isModule || loaded[name] {
			return nil // built in, or there already
		}
		loaded[name] = true
		needs, err := moduleDependencies(path)
		if err != nil {
			return err
		}
		for _, needed := range needs {
			if err := add(needed); err != nil {
				return err
			}
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		a.file(fmt.Sprintf("modules/%02d-%s.ko", a.inode, name), 0o644, data)
		return nil
	}
	for _, name := range linuxModules {
		if err := add(name); err != nil {
			return err
		}
	}
	return nil
}

// modulePaths finds all modules by name. File names have dashes where module
// names may have underscores; both mean the same.
func (l Linux) modulePaths() (map[string]string, error) {
	paths := make(map[string]string)
	err := filepath.WalkDir(filepath.Join(l.dir, "modules"), func(path string, entry fs.DirEntry, err error) error {
		if name, is := strings.CutSuffix(filepath.Base(path), ".ko"); is && err == nil && entry.Type().IsRegular() {
			paths[moduleName(name)] = path
		}
		return err
	})
	return paths, err
}

// moduleDependencies reads the modules that a module names in its .modinfo
// section: zero-terminated key=value pairs, the key being "depends".
func moduleDependencies(path string) ([]string, error) {
	module, err := elf.Open(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	defer module.Close()
	section := module.Section(".modinfo")
	if section == nil {
		return nil, fmt.Errorf("%s: no .modinfo", path)
	}
	data, err := section.Data()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	var needs []string
	for _, pair := range strings.Split(string(data), "\x00") {
		if list, is := strings.CutPrefix(pair, "depends="); is && list != "" {
			for _, name := range strings.Split(list, ",") {
				needs = append(needs, moduleName(name))
			}
		}
	}
	return needs, nil
}

func moduleName(name string) string { return strings.ReplaceAll(name, "-", "_") }
