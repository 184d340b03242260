package e2e

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/qemu-reconciler/qemu-reconciler/internal/guest"
)

// run --once converges and exits, leaving the VMs running; what does not
// converge is named.
func TestRunOnce(t *testing.T) {
	t.Parallel()
	h := Start(t, Stopped())
	h.Write("web.hcl", h.Task("web", guest.Button, graceful))
	h.Write("idle.hcl", with(h.Task("idle", guest.Button), `state = "stopped"`))
	h.expect(0, "", "run", "--once")
	pid := h.OnlyQEMU("web")
	h.expect(0, "", "run", "--once") // a second time: nothing to do
	if again := h.OnlyQEMU("web"); again != pid {
		t.Errorf("the QEMU was %d and is %d", pid, again)
	}
	h.Write("bad.hcl", h.Task("bad", guest.Button, `args = ["-device", "no-such-device"]`))
	h.expect(1, "no-such-device", "run", "--once", "--timeout", "5s")
	h.Remove("bad.hcl")
	h.Write("worse.hcl", "task {")
	began := time.Now()
	h.expect(1, "worse.hcl", "run", "--once")
	if took := time.Since(began); took > 30*time.Second {
		t.Errorf("a broken file was waited for: %s", took)
	}
	h.Remove("worse.hcl")
	h.Write("web.hcl", "# nobody\n")
	h.expect(0, "", "run", "--once")
	h.AwaitNoQEMU()
	if !strings.Contains(h.Console("web"), guest.SaysButton) {
		t.Error("it was not stopped gracefully")
	}
}

// --stop-on-exit stops all VMs gracefully, with --once and on SIGTERM.
func TestStopOnExit(t *testing.T) {
	t.Parallel()
	h := Start(t, Stopped(), Args("--stop-on-exit"))
	for _, name := range []string{"one", "two"} {
		h.Write(name+".hcl", h.Task(name, guest.Button, graceful))
	}
	h.expect(0, "", "run", "--once", "--stop-on-exit")
	if left := h.QEMUs(); len(left) != 0 {
		t.Fatalf("--once has ended and there is %v", left)
	}
	h.StartDaemon()
	h.AwaitPhase("one", "running")
	h.AwaitPhase("two", "running")
	if code := h.Terminate(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if left := h.QEMUs(); len(left) != 0 {
		t.Errorf("the daemon has ended and there is %v", left)
	}
	for _, name := range []string{"one", "two"} {
		if n := strings.Count(h.Console(name), guest.SaysButton); n != 2 {
			t.Errorf("%s saw the button %d times", name, n)
		}
	}
}

// SIGTERM and SIGINT leave the VMs running, and end even while a guest shuts
// down.
func TestSignalsLeaveTheVMs(t *testing.T) {
	t.Parallel()
	h := Start(t)
	h.Write("web.hcl", h.Task("web", guest.Deaf, graceful))
	before := h.AwaitRunning("web")
	if code := h.Terminate(); code != 0 {
		t.Errorf("SIGTERM: exit code %d", code)
	}
	h.StartDaemon()
	h.ExpectUntouched(before)
	h.expect(0, "", "stop", "--no-wait", "web")
	h.AwaitPhase("web", "stopping")
	h.Signal(syscall.SIGINT)
	h.waitForDaemon()
	if code := h.daemon.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("SIGINT: exit code %d", code)
	}
	if pid := h.OnlyQEMU("web"); pid != before.PID {
		t.Errorf("the QEMU was %d and is %d", before.PID, pid)
	}
	if h.Count("daemon-started", "") != 2 || h.Count("daemon-stopped", "") != 2 {
		t.Error("the daemon's starts and ends are not told")
	}
}

// SIGHUP re-reads config.hcl and looks again; no VM is touched, and a broken
// config.hcl changes nothing.
func TestSIGHUP(t *testing.T) {
	t.Parallel()
	h := Start(t)
	text := h.Task("web", guest.Button)
	h.Write("web.hcl", text)
	before := h.AwaitRunning("web")
	image := filepath.Join(h.Disks, "late.img")
	late := h.Task("late", guest.Button)
	h.must(os.Rename(image, image+".away"))
	h.Write("late.hcl", late)
	h.AwaitPhase("late", "failed")
	h.must(os.Rename(image+".away", image))
	h.Signal(syscall.SIGHUP)
	h.AwaitPhase("late", "running")
	config, err := os.ReadFile(h.config)
	h.must(err)
	h.must(os.WriteFile(h.config, append(config, "log_format = \"json\"\nlog_level = \"debug\"\n"...), 0o644))
	h.Signal(syscall.SIGHUP)
	h.Await("word on log_format", func() bool { return strings.Contains(h.DaemonLog(), "need a restart") })
	h.must(os.WriteFile(h.config, []byte("max_parallel = \"many\"\n"), 0o644))
	h.Signal(syscall.SIGHUP)
	h.Await("word on the mistake", func() bool { return strings.Contains(h.DaemonLog(), "config.hcl is broken") })
	h.must(os.WriteFile(h.config, config, 0o644))
	h.ProvePass()
	h.ExpectUntouched(before)
}

// A second daemon on the same state, or only on the same run directory, is
// refused and told who holds it. A dying predecessor is waited for.
func TestSecondDaemonIsRefused(t *testing.T) {
	t.Parallel()
	h := Start(t)
	h.Write("web.hcl", h.Task("web", guest.Button))
	before := h.AwaitRunning("web")
	holder := fmt.Sprintf("pid %d", h.DaemonPID())
	h.expect(1, holder, "run", "--once")
	other := *h
	other.State += ".other"
	other.expect(1, holder, "run", "--once")
	other = *h
	other.Run += ".other"
	other.expect(1, holder, "run", "--once")
	h.ExpectUntouched(before)
	// The old one is stopped for a moment and ends only then.
	old := h.daemon
	h.Signal(syscall.SIGSTOP)
	h.StartDaemonOnly()
	h.must(old.cmd.Process.Signal(syscall.SIGTERM))
	h.must(old.cmd.Process.Signal(syscall.SIGCONT))
	<-old.ended
	h.AwaitStatus("the next daemon", func(st Status) bool { return st.Daemon.PID == h.DaemonPID() })
	h.ExpectUntouched(before)
}

// A flag beats the environment, which beats config.hcl.
func TestWhereThingsAre(t *testing.T) {
	t.Parallel()
	top := t.TempDir()
	config := filepath.Join(top, "config.hcl")
	text := fmt.Sprintf("vms_dir = %q\nstate_dir = %q\nrun_dir = %q\nhost_name = \"h\"\n", top+"/c.d", top+"/c.state", top+"/c.run")
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	ask := func(env []string, flags ...string) string {
		t.Helper()
		cmd := exec.Command(Binary(t), append([]string{"status", "--json"}, flags...)...)
		cmd.Env = append(os.Environ(), env...)
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%v: %v", flags, err)
		}
		st := plain(t, string(out), nil).(map[string]any)
		return fmt.Sprintf("%v %v %v", st["host"], strings.TrimPrefix(st["vms_dir"].(string), top), strings.TrimPrefix(st["state_dir"].(string), top))
	}
	env := []string{"QEMU_RECONCILER_CONFIG=" + config}
	dirs := append(env, "QEMU_RECONCILER_VMS_DIR="+top+"/e.d", "QEMU_RECONCILER_STATE_DIR="+top+"/e.state", "QEMU_RECONCILER_RUN_DIR="+top+"/e.run")
	for _, test := range []struct {
		env, flags []string
		want       string
	}{
		{env, nil, "h /c.d /c.state"},
		{nil, []string{"--config", config}, "h /c.d /c.state"},
		{dirs, nil, "h /e.d /e.state"},
		{dirs, []string{"--vms-dir", top + "/f.d"}, "h /f.d /e.state"},
		{dirs, []string{"--vms-dir", top + "/f.d", "--state-dir", top + "/f.state"}, "h /f.d /f.state"},
	} {
		if got := ask(test.env, test.flags...); got != test.want {
			t.Errorf("%v %v: %s, want %s", test.env, test.flags, got, test.want)
		}
	}
}

// A plain user whose own state is empty is told of the system's. The system is
// one of a mount namespace of the test's own.
func TestPlainUserIsToldOfTheSystem(t *testing.T) {
	t.Parallel()
	home, err := os.MkdirTemp("", "e2e-home") // t.TempDir is below one that is private
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(home) }) //nolint:errcheck // best effort, as everywhere
	if err := os.Chmod(home, 0o777); err != nil {
		t.Fatal(err)
	}
	binary := Binary(t)
	enter := []string{"--mount"}
	become := fmt.Sprintf("setpriv --reuid %d --clear-groups --inh-caps=-all", nobody)
	if os.Geteuid() != 0 {
		enter, become = []string{"--user", "--map-current-user", "--keep-caps", "--mount"}, ""
	}
	script := `mount -t tmpfs none /var/lib && mkdir /var/lib/qemu-reconciler && exec ` + become + ` "$0" status`
	cmd := exec.Command("unshare", append(enter, "sh", "-c", script, binary)...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + home}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "/var/lib/qemu-reconciler") || !strings.Contains(string(out), "sudo") {
		t.Errorf("%v\n%s", err, out)
	}
}

// The service manager is told when the daemon is ready, looks again, and stops;
// the watchdog is fed.
func TestServiceManagerIsTold(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "n")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetReadDeadline(time.Now().Add(Patience)); err != nil {
		t.Fatal(err)
	}
	hear := func(want string) {
		t.Helper()
		for buffer := make([]byte, 4096); ; {
			n, err := conn.Read(buffer)
			if err != nil {
				t.Fatalf("no %s: %v", want, err)
			}
			if strings.HasPrefix(string(buffer[:n]), want) {
				return
			}
		}
	}
	h := Start(t, Stopped(), Env("NOTIFY_SOCKET="+path, "WATCHDOG_USEC=300000"))
	h.StartDaemonOnly()
	hear("READY=1")
	h.Status() // ready means that it answers
	hear("WATCHDOG=1")
	hear("WATCHDOG=1")
	h.Signal(syscall.SIGHUP)
	hear("RELOADING=1")
	hear("READY=1")
	h.Signal(syscall.SIGTERM)
	hear("STOPPING=1")
}
