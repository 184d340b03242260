package e2e

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/qemu-reconciler/qemu-reconciler/internal/guest"
)

// The disk under a guest's image is full: the guest is paused, which is told with
// the name of the file system, and goes on by itself when there is room. It never
// sees an error. An attempt in vain is told to nobody.
func TestGuestOnAFullDisk(t *testing.T) {
	t.Parallel()
	h := Start(t, SmallDisks("4m"))
	// Now and then QEMU 7.2 fails a PIO write of an IDE disk to the guest after
	// all when it is done again; a virtio disk has no such trouble.
	text := h.Task("web", guest.Writer, graceful, `drive_interface = "virtio"`)
	const size = 3 << 20
	h.must(os.Truncate(h.Disks+"/web.img", size))
	h.Write("bystander.hcl", h.Task("bystander", guest.Button))
	h.AwaitRunning("bystander")
	h.must(os.WriteFile(h.Disks+"/"+filler, make([]byte, 2<<20), 0o600))
	h.Write("web.hcl", text)
	before := h.AwaitRunning("web")
	paused := h.AwaitTask("web", "pause", func(task TaskStatus) bool { return strings.HasPrefix(task.Reason, "paused: io-error") })
	if paused.Phase != "running" || paused.Converged || !strings.Contains(paused.Reason, "the file system "+h.Disks+" is full") ||
		!strings.Contains(paused.Reason, "web.img") {
		t.Errorf("%+v", paused)
	}
	if result := h.Do("status", "--check"); result.Code != 3 {
		t.Errorf("status --check: %+v", result)
	}
	h.Kill() // the next daemon finds it paused
	h.StartDaemon()
	h.AwaitTask("web", "pause", func(task TaskStatus) bool { return strings.HasPrefix(task.Reason, "paused: io-error") })
	h.ExpectUntouched(before)

	wrote := func() int { return strings.Count(h.Console("web"), guest.SaysWrote) }
	few := wrote()
	h.must(os.Truncate(h.Disks+"/"+filler, 2<<20-256<<10))
	h.Await("a few more sectors", func() bool { return wrote() > few })
	h.Await("the next pause", func() bool { return room(h, h.Disks) == 0 })
	h.MakeRoom(h.Disks)
	// An error that reaches the guest would end its writing earlier.
	h.AwaitConsole("web", guest.SaysError)
	if want := size / (32 << 10); wrote() != want-1 {
		t.Errorf("the guest wrote %d times, and its disk has room for %d", wrote(), want-1)
	}
	h.AwaitConverged()
	// Each daemon told the pause that it found, and the last one its end. Between
	// the first sectors and the next pause it may have seen the guest run, or not.
	if paused, resumed := h.Count("paused", "web"), h.Count("resumed", "web"); paused != resumed+1 || resumed < 1 || resumed > 2 {
		t.Errorf("%d pauses and %d ends of them were told", paused, resumed)
	}
	h.ExpectUntouched(before)
	h.Remove("web.hcl")
	h.AwaitGone("web")
	h.AwaitConsole("web", guest.SaysButton)
}

// room is what a file system has, in blocks.
func room(h *Host, dir string) uint64 {
	h.t.Helper()
	var system syscall.Statfs_t
	h.must(syscall.Statfs(dir, &system))
	return system.Bfree
}

// A pause that somebody else made is his to end, whatever room there is.
func TestPauseOfSomebodyElse(t *testing.T) {
	t.Parallel()
	h := Start(t)
	socket := h.Disks + "/own"
	h.Write("web.hcl", h.Task("web", guest.Button, fmt.Sprintf(`args = ["-qmp", "unix:%s,server=on,wait=off"]`, socket)))
	h.AwaitRunning("web")
	say := openQMP(t, socket)
	say("stop")
	h.AwaitTask("web", "pause", func(task TaskStatus) bool { return task.Reason == "paused: paused" })
	// Two more looks of the daemon, which come every five seconds.
	probes := h.Count("paused", "web")
	for range 2 {
		h.ProvePass()
	}
	h.Kill()
	h.StartDaemon()
	h.Await("its first look", func() bool { return h.Count("paused", "web") > probes })
	if strings.Contains(say("query-status"), `"running": true`) || h.Count("resumed", "web") != 0 {
		t.Error("it was told to go on")
	}
}

// openQMP speaks to a monitor that the test has for itself.
func openQMP(t *testing.T, socket string) (say func(command string) (answer string)) {
	t.Helper()
	conn, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(Patience)); err != nil {
		t.Fatal(err)
	}
	answers := bufio.NewScanner(conn)
	say = func(command string) string {
		if _, err := fmt.Fprintf(conn, "{\"execute\":%q}\n", command); err != nil {
			t.Fatal(err)
		}
		for answers.Scan() && !strings.Contains(answers.Text(), `"return"`) {
		}
		if err := answers.Err(); err != nil {
			t.Fatal(err)
		}
		return answers.Text()
	}
	say("qmp_capabilities")
	return say
}
