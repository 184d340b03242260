package e2e

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/qemu-reconciler/qemu-reconciler/internal/guest"
)

// otherBoot is a boot id that no boot has.
const otherBoot = "00000000-1111-4222-8333-444444444444"

// A record that names the pid of somebody else's process: that one is never
// signalled, whatever happens to the task.
func TestStrangerIsNeverSignalled(t *testing.T) {
	t.Parallel()
	for _, alive := range []bool{true, false} {
		h := Start(t)
		h.Write("web.hcl", h.Task("web", guest.Button))
		before := h.AwaitRunning("web")
		h.Terminate()
		if !alive {
			h.SignalQEMU("web", syscall.SIGKILL)
			h.AwaitNoQEMU()
		}
		stranger := StartStranger(t)
		h.EditRecord("web", func(record map[string]any) {
			record["process"].(map[string]any)["pid"] = stranger.PID()
		})
		if task, _ := h.StatusByCommand().Task("web"); task.PID == stranger.PID() {
			t.Errorf("without a daemon: %+v", task)
		}
		h.StartDaemon()
		after := h.AwaitPhase("web", "running")
		if (after.PID == before.PID) != alive || after.PID == stranger.PID() || after.UUID != before.UUID {
			t.Errorf("before %+v, after %+v", before, after)
		}
		h.Remove("web.hcl")
		h.AwaitGone("web")
		h.AwaitNoQEMU()
		expectUnharmed(t, stranger)
	}
}

// Another boot: nothing is believed about processes, even when pid and start
// time fit one; the rest of the record holds.
func TestHostReboot(t *testing.T) {
	t.Parallel()
	h := Start(t)
	h.Write("web.hcl", h.Task("web", guest.Button, "port_map = { http = 80 }"))
	h.Write("held.hcl", h.Task("held", guest.Button))
	before := h.AwaitRunning("web")
	h.AwaitRunning("held")
	if result := h.Do("stop", "held"); result.Code != 0 {
		t.Fatalf("stop: %+v", result)
	}
	h.Terminate()
	h.SignalQEMU("web", syscall.SIGKILL)
	h.AwaitNoQEMU()
	stranger := StartStranger(t)
	h.EditRecord("web", func(record map[string]any) {
		process := record["process"].(map[string]any)
		process["boot_id"], process["pid"] = otherBoot, stranger.PID()
		process["start_ticks"] = startTicks(t, stranger.PID())
	})
	h.must(os.RemoveAll(h.Run)) // /run is empty after a boot
	h.StartDaemon()
	after := h.AwaitPhase("web", "running")
	expectExit(t, after.LastExit, Exit{Cause: "host-reboot"})
	if after.UUID != before.UUID || after.Restarts != 0 || !cmp.Equal(after.Ports, before.Ports) || after.PID == stranger.PID() {
		t.Errorf("before %+v, after %+v", before, after)
	}
	if held, _ := h.Status().Task("held"); held.Phase != "stopped" || held.Reason != "held by operator" {
		t.Errorf("held: %+v", held)
	}
	expectUnharmed(t, stranger)
}

// A stranger notices what ends nobody, too.
func TestStrangerNotices(t *testing.T) {
	t.Parallel()
	for _, signal := range []syscall.Signal{syscall.SIGWINCH, syscall.SIGTERM, syscall.SIGCONT, syscall.SIGSTOP, syscall.SIGKILL} {
		stranger := StartStranger(t)
		expectUnharmed(t, stranger)
		if err := syscall.Kill(stranger.PID(), signal); err != nil {
			t.Fatal(err)
		}
		deadline := time.Now().Add(Patience)
		for stranger.Harm() == "" {
			if time.Now().After(deadline) {
				t.Fatalf("%s left no trace", signal)
			}
			<-time.After(pollInterval)
		}
	}
}

func expectUnharmed(t *testing.T, stranger Stranger) {
	t.Helper()
	if harm := stranger.Harm(); harm != "" {
		t.Errorf("a stranger was harmed: %s", harm)
	}
}

func startTicks(t *testing.T, pid int) uint64 {
	t.Helper()
	ticks, err := strconv.ParseUint(procStat(t, pid)[19], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return ticks
}

// procStat gives the fields of /proc/PID/stat after the name (field 3 on).
func procStat(t *testing.T, pid int) []string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(data), ") ")
	return strings.Fields(rest)
}
