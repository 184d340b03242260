package e2e

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/qemu-reconciler/qemu-reconciler/internal/guest"
)

// A port of the host, allocated by the daemon, reaches a server in a guest,
// over a restart of the VM too.
func TestPortReachesAListenerInTheGuest(t *testing.T) {
	t.Parallel()
	h := Start(t)
	h.Write("web.hcl", h.Task("web", guest.Button, "graceful_shutdown = true", h.LinuxArgs(guest.LinuxOptions{}),
		fmt.Sprintf("port_map = { http = %d }", guest.LinuxPort)))
	before := h.AwaitRunning("web")
	if len(before.Ports) != 1 || before.Ports[0].Host == 0 || before.Ports[0].Guest != guest.LinuxPort {
		t.Fatalf("ports %+v", before.Ports)
	}
	awaitPage(h, before.Ports[0].Host)
	if result := h.Do("restart", "web"); result.Code != 0 {
		t.Fatalf("restart: %+v", result)
	}
	after := h.AwaitTask("web", "another process", func(task TaskStatus) bool {
		return task.Phase == "running" && task.PID != before.PID
	})
	if after.Ports[0].Host != before.Ports[0].Host {
		t.Errorf("the port was %d and is %d", before.Ports[0].Host, after.Ports[0].Host)
	}
	if after.LastExit == nil || after.LastExit.Rung != "acpi" || after.LastExit.Cause != "stopped" {
		t.Errorf("last exit %+v", after.LastExit)
	}
	awaitPage(h, after.Ports[0].Host)
}

// awaitPage waits until the guest answers. QEMU accepts connections before the
// guest does, so only the answer counts.
func awaitPage(h *Host, port int) {
	h.t.Helper()
	client := http.Client{Timeout: Patience, Transport: &http.Transport{DisableKeepAlives: true}}
	h.Await("web page of the guest", func() bool {
		response, err := client.Get(fmt.Sprintf("http://127.0.0.1:%d/", port))
		if err != nil {
			return false
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		return err == nil && strings.Contains(string(body), guest.SaysHello)
	})
}

// A guest that ignores the button but has an agent is stopped by the agent.
func TestGuestAgentStopsTheGuest(t *testing.T) {
	t.Parallel()
	h := Start(t)
	h.Write("web.hcl", h.Task("web", guest.Button, "graceful_shutdown = true", "guest_agent = true",
		h.LinuxArgs(guest.LinuxOptions{Agent: true, Deaf: true})))
	h.AwaitRunning("web")
	h.Remove("web.hcl")
	h.AwaitGone("web")
	h.AwaitNoQEMU()
	h.AwaitConsole("web", guest.SaysAgent)
	if stopped := h.AwaitEvent("stopped", "web"); !stopped.Says("rung", "agent") {
		t.Errorf("stopped by another rung: %s", stopped.Line)
	}
}
