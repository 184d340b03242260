package bench

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/google/uuid"

	"github.com/qemu-reconciler/qemu-reconciler/internal/e2e"
)

// peerRows are those rows that have a meaning for libvirt, too.
const peerRows = `^start\.ready$|^stop\.command$|^fleet50\.(ready|command|known|pss|threads)$|^rest\.(cpu|switches)$`

// nobody is whom libvirt runs as when root measures: for root it would use the
// system's directories.
const nobody = 65534

// domain is a VM like those that the reconciler is measured with.
const domain = `<domain type='qemu'><name>%[1]s</name><uuid>%[4]s</uuid><memory unit='MiB'>128</memory><vcpu>1</vcpu>
<os><type arch='x86_64' machine='pc'>hvm</type></os><features><acpi/></features><on_poweroff>destroy</on_poweroff>
<devices><emulator>/usr/bin/qemu-system-x86_64</emulator>
<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='%[2]s'/><target dev='hda' bus='ide'/></disk>
<serial type='file'><source path='%[3]s' append='on'/><target port='0'/></serial><memballoon model='none'/></devices></domain>
`

// libvirt is a libvirtd with a socket and directories of its own, in the
// session mode that needs no rights.
type libvirt struct {
	*run
	h        *e2e.Host
	dir      string
	daemon   *exec.Cmd
	names    []string
	consoles []*console
}

// libvirt measures the same with libvirt, on the images of a host without a
// daemon of ours.
func (r *run) libvirt(n int) {
	h := r.host(e2e.Stopped())
	v := &libvirt{run: r, h: h, dir: filepath.Join(h.Disks, "libvirt")}
	for i := range n {
		v.names = append(v.names, fmt.Sprintf("vm%03d", i))
	}
	v.furnish()
	v.begin()
	defer v.end()
	v.awaitAll("list --all", len(v.names))
	for _, phase := range r.phases(r.Repeats) {
		v.one(phase)
	}
	for i := range min(fleets, r.Repeats) {
		v.all(i == 0)
	}
}

func (v *libvirt) furnish() {
	v.must(os.MkdirAll(filepath.Join(v.dir, "config", "libvirt", "qemu"), 0o755))
	v.must(os.MkdirAll(filepath.Join(v.dir, "run"), 0o700))
	v.must(os.WriteFile(filepath.Join(v.dir, "libvirtd.conf"), nil, 0o644))
	// Without this libvirt starts a second daemon for logs.
	v.must(os.WriteFile(filepath.Join(v.dir, "config", "libvirt", "qemu.conf"), []byte("stdio_handler = \"file\"\n"), 0o644))
	for _, name := range v.names {
		task(v.h, name) // makes the image
		log := filepath.Join(v.dir, name+".log")
		v.consoles = append(v.consoles, v.watch.open(log))
		text := fmt.Sprintf(domain, name, filepath.Join(v.h.Disks, name+".img"), log, uuid.New())
		v.must(os.WriteFile(filepath.Join(v.dir, "config", "libvirt", "qemu", name+".xml"), []byte(text), 0o644))
	}
	if os.Geteuid() == 0 {
		v.must(filepath.Walk(filepath.Dir(v.h.Disks), func(path string, _ os.FileInfo, err error) error {
			if err != nil {
				return err
			}
			return os.Lchown(path, nobody, nobody)
		}))
		v.must(os.Chmod(filepath.Dir(v.h.Disks), 0o755))
	}
}

func (v *libvirt) command(words ...string) *exec.Cmd {
	cmd := exec.Command(words[0], words[1:]...)
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + v.dir, "LIBVIRT_AUTOSTART=0", "LIBVIRT_DEFAULT_URI=qemu:///session",
		"XDG_RUNTIME_DIR=" + filepath.Join(v.dir, "run"), "XDG_CONFIG_HOME=" + filepath.Join(v.dir, "config"),
		"XDG_CACHE_HOME=" + filepath.Join(v.dir, "cache"), "XDG_DATA_HOME=" + filepath.Join(v.dir, "data")}
	if os.Geteuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	}
	return cmd
}

func (v *libvirt) begin() {
	v.daemon = v.command("libvirtd", "--config", filepath.Join(v.dir, "libvirtd.conf"))
	log, err := os.OpenFile(filepath.Join(v.dir, "libvirtd.log"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	v.must(err)
	defer log.Close()
	v.daemon.Stdout, v.daemon.Stderr = log, log
	v.must(v.daemon.Start())
}

// end stops the daemon; its VMs are off by then, unless the run has failed.
func (v *libvirt) end() {
	for _, name := range v.names {
		if v.t.Failed() {
			_ = v.virsh("destroy " + name).Run() // most do not run
		}
	}
	v.kill(syscall.SIGTERM)
}

func (v *libvirt) kill(signal syscall.Signal) {
	v.must(v.daemon.Process.Signal(signal))
	_ = v.daemon.Wait() // it ended by a signal
}

// virsh runs some of virsh's commands in one process.
func (v *libvirt) virsh(commands string) *exec.Cmd { return v.command("virsh", "-q", commands) }

// awaitAll waits until a list has so many lines.
func (v *libvirt) awaitAll(list string, n int) {
	v.h.AwaitEvery(lookEvery, "answer of libvirt", func() bool {
		out, err := v.virsh(list).Output()
		return err == nil && len(strings.Fields(strings.TrimSpace(string(out)))) > 0 && strings.Count(strings.TrimSpace(string(out)), "\n")+1 >= n
	})
}

// each runs a command for each name, by so many clients at once.
func (v *libvirt) each(verb string, names []string, clients int) {
	var work sync.WaitGroup
	for part := range slices.Chunk(names, (len(names)+clients-1)/clients) {
		work.Go(func() {
			var commands []string
			for _, name := range part {
				commands = append(commands, verb+" "+name)
			}
			if out, err := v.virsh(strings.Join(commands, "; ")).CombinedOutput(); err != nil {
				v.t.Errorf("virsh %s: %v\n%s", verb, err, out)
			}
		})
	}
	work.Wait()
}

// pids are those of the VMs' processes.
func (v *libvirt) pids(names []string) []int {
	var pids []int
	for _, name := range names {
		text, err := os.ReadFile(filepath.Join(v.dir, "run", "libvirt", "qemu", "run", name+".pid"))
		v.must(err)
		pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
		v.must(err)
		pids = append(pids, pid)
	}
	return pids
}

// comeAndGo starts some VMs and stops them; with is done in between.
func (v *libvirt) comeAndGo(names []string, clients int, with func()) (ready, gone float64) {
	var nth []int
	for _, console := range v.consoles[:len(names)] {
		nth = append(nth, console.count()+1)
	}
	time.Sleep(v.Pause)
	began := time.Now()
	v.each("start", names, clients)
	var last time.Time
	for i, console := range v.consoles[:len(names)] {
		if at := console.await(v.t, nth[i]); at.After(last) {
			last = at
		}
	}
	ready = ms(last.Sub(began))
	with()
	ended := v.h.NoteEnds(v.pids(names)...)
	began = time.Now()
	v.each("shutdown", names, clients)
	gone = ms(slices.MaxFunc(<-ended, time.Time.Compare).Sub(began))
	v.h.Await("end in libvirt's own eyes", func() bool {
		out, err := v.virsh("list --name").Output()
		return err == nil && strings.TrimSpace(string(out)) == ""
	})
	return ready, gone
}

func (v *libvirt) one(phase time.Duration) {
	ready, gone := v.comeAndGo(v.names[:1], 1, func() { time.Sleep(phase) })
	v.peer("start.ready", ready)
	v.peer("stop.command", gone)
}

// all starts and stops all, with as many clients as serve libvirt best.
func (v *libvirt) all(measure bool) {
	id := fmt.Sprintf("fleet%d.", len(v.names))
	ready, gone := v.comeAndGo(v.names, peerClients, func() {
		if measure {
			v.measureRunning(id)
		}
	})
	v.peer(id+"ready", ready)
	v.peer(id+"command", gone)
}

// peerClients is how many virsh start VMs at once: libvirt does not become faster
// by more.
const peerClients = 4

func (v *libvirt) measureRunning(id string) {
	v.peer(id+"pss", mb(v.h.PSSOf(v.daemon.Process.Pid)))
	v.peer(id+"threads", float64(v.h.UsageOf(v.daemon.Process.Pid).Threads))
	if v.wanted("rest") {
		time.Sleep(v.Settle)
		cpu, switches := v.usageAtRest(v.h, v.daemon.Process.Pid)
		v.peer("rest.cpu", cpu)
		v.peer("rest.switches", switches)
	}
	for range min(adoptions, v.Repeats) {
		v.kill(syscall.SIGKILL)
		began := time.Now()
		v.begin()
		v.awaitAll("list --name --state-running", len(v.names))
		v.peer(id+"known", ms(time.Since(began)))
	}
}

func (v *libvirt) peer(id string, figure float64) {
	if row := v.rows[id]; row != nil {
		row.Peer = append(row.Peer, figure)
	}
}
