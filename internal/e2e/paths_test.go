package e2e

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/qemu-reconciler/qemu-reconciler/internal/guest"
)

// A whole life in directories whose paths no socket address can hold, with
// blanks, a comma and umlauts in them: start, crash, adoption, ports, hold,
// graceful stop.
func TestLifeInLongPaths(t *testing.T) {
	t.Parallel()
	h := Start(t, Long())
	if len(h.Run) < 130 {
		t.Fatalf("%q is not long", h.Run)
	}
	name := strings.Repeat("n", 63) // the longest
	h.Write("web.hcl", h.Task(name, guest.Button, graceful, "port_map = { http = 80 }", "guest_agent = true"))
	before := h.AwaitRunning(name)
	h.Kill()
	h.StartDaemon()
	h.AwaitConverged()
	h.ExpectUntouched(before)
	h.SignalQEMU(name, 9)
	h.AwaitTask(name, "restart", func(task TaskStatus) bool { return task.Phase == "running" && task.Restarts == 1 })
	h.expect(0, "", "restart", name)
	h.expect(0, "", "plan")
	h.Remove("web.hcl")
	h.AwaitGone(name)
	h.AwaitNoQEMU()
	h.AwaitConsole(name, guest.SaysButton)
}

// Whatever the umask: directories 0700, files and sockets 0600.
func TestModes(t *testing.T) {
	t.Parallel()
	for _, umask := range []string{"000", "027", "077"} {
		t.Run(umask, func(t *testing.T) {
			t.Parallel()
			h := Start(t, Under("umask "+umask))
			h.Write("web.hcl", h.Task("web", guest.Button, "guest_agent = true"))
			h.AwaitRunning("web")
			h.AwaitEvent("running", "web")
			seen := 0
			for _, top := range []string{h.State, h.Run} {
				h.must(filepath.WalkDir(top, func(path string, entry fs.DirEntry, err error) error {
					h.must(err)
					info, err := entry.Info()
					if os.IsNotExist(err) { // a record that was being written
						return nil
					}
					h.must(err)
					want := fs.FileMode(0o600)
					if info.IsDir() {
						want = 0o700
					}
					if info.Mode().Perm() != want {
						t.Errorf("%s has mode %s", path, info.Mode())
					}
					seen++
					return nil
				}))
			}
			if seen < 15 {
				t.Errorf("only %d files were looked at", seen)
			}
		})
	}
}

// What QEMU gets of the daemon's surroundings: the environment without the
// service manager's word and with the task's, and nothing else.
func TestSurroundingsOfQEMU(t *testing.T) {
	t.Parallel()
	manager := []string{"NOTIFY_SOCKET=/nowhere/n", "WATCHDOG_USEC=60000000", "WATCHDOG_PID=1", "LISTEN_FDS=1", "LISTEN_PID=1", "LISTEN_FDNAMES=x", "INVOCATION_ID=0123"}
	secret := filepath.Join(t.TempDir(), "inherited")
	h := Start(t, Env(append(manager, "KEEP=me")...), Under(fmt.Sprintf("echo 500 >/proc/self/oom_score_adj; cd /tmp; exec 9>%q", secret)))
	h.Write("web.hcl", with(h.Task("web", guest.Button, "guest_agent = true"), `env = { QEMU_AUDIO_DRV = "none" }`))
	h.AwaitRunning("web")
	pid := h.OnlyQEMU("web")
	proc := func(name string) string {
		t.Helper()
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, name))
		h.must(err)
		return string(data)
	}
	environ := strings.Split(proc("environ"), "\x00")
	for _, variable := range manager {
		name, _, _ := strings.Cut(variable, "=")
		if slices.ContainsFunc(environ, func(v string) bool { return strings.HasPrefix(v, name+"=") }) {
			t.Errorf("QEMU has %s", name)
		}
	}
	for _, variable := range []string{"KEEP=me", "QEMU_AUDIO_DRV=none"} {
		if !slices.Contains(environ, variable) {
			t.Errorf("QEMU has no %s", variable)
		}
	}
	if adj := strings.TrimSpace(proc("oom_score_adj")); adj != "0" {
		t.Errorf("oom_score_adj is %s", adj)
	}
	if adj, err := os.ReadFile(fmt.Sprintf("/proc/%d/oom_score_adj", h.DaemonPID())); err != nil || string(bytes.TrimSpace(adj)) != "500" {
		t.Errorf("the daemon's own is %s (%v)", adj, err)
	}
	if cwd, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid)); err != nil || cwd != "/" {
		t.Errorf("cwd is %s (%v)", cwd, err)
	}
	if session := procStat(t, pid)[3]; session != fmt.Sprint(pid) {
		t.Errorf("the session is %s, and not QEMU's own", session)
	}
	// Other descriptors are QEMU's own: its image, its timers, its event loops.
	allowed := []string{"socket:", "pipe:", "anon_inode:", "/dev/", h.Disks, filepath.Join(h.State, "logs", "web"), filepath.Join(h.Run, "vms", "web"), "/usr/", "/memfd:"}
	links, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	h.must(err)
	for _, link := range links {
		target, err := os.Readlink(link)
		if err == nil && !slices.ContainsFunc(allowed, func(prefix string) bool { return strings.HasPrefix(target, prefix) }) {
			t.Errorf("descriptor %s is %s", filepath.Base(link), target)
		}
	}
	if daemon, err := os.ReadFile(secret); err != nil || len(daemon) != 0 {
		t.Errorf("%s: %v", secret, err)
	}
	sockets := h.listening(pid)
	if want := []string{"console.sock", "qga.sock", "qmp.sock"}; !slices.Equal(sockets, want) {
		t.Errorf("QEMU listens on %v", sockets)
	}
}

// listening names the unix sockets on which a process listens.
func (h *Host) listening(pid int) []string {
	h.t.Helper()
	table, err := os.ReadFile("/proc/net/unix")
	h.must(err)
	links, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	h.must(err)
	open := make(map[string]bool)
	for _, link := range links {
		if target, err := os.Readlink(link); err == nil {
			open[target] = true
		}
	}
	var names []string
	for line := range strings.Lines(string(table)) {
		const acceptsConnections = "00010000" // __SO_ACCEPTCON in the flags
		fields := strings.Fields(line)
		if len(fields) > 7 && fields[3] == acceptsConnections && open["socket:["+fields[6]+"]"] {
			names = append(names, filepath.Base(line[strings.Index(line, fields[7]):len(line)-1]))
		}
	}
	slices.Sort(names)
	return names
}
