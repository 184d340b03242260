package e2e

import (
	"fmt"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/qemu-reconciler/qemu-reconciler/internal/guest"
)

// A stranger takes a port while the VM is down: the start fails and names the
// holder, no other port is taken instead, and once it is free the VM has its own
// again. So it is with a static port and with an allocated one.
func TestPortTakenByAStranger(t *testing.T) {
	t.Parallel()
	for _, static := range []bool{false, true} {
		t.Run(fmt.Sprintf("static %v", static), func(t *testing.T) {
			t.Parallel()
			h := Start(t)
			text := h.Task("web", guest.Button, "port_map = { http = 80 }")
			if static {
				text = strings.Replace(text, "memory = 128", fmt.Sprintf("memory = 128\n network {\n port \"http\" { static = %d }\n }", freePort(t)), 1)
			}
			h.Write("web.hcl", text)
			before := h.AwaitRunning("web")
			h.expect(0, "", "stop", "web")
			stranger, err := net.Listen("tcp4", fmt.Sprintf("0.0.0.0:%d", before.Ports[0].Host))
			h.must(err)
			defer stranger.Close()
			holder := fmt.Sprintf("pid %d", os.Getpid())
			h.expect(1, holder, "start", "web")
			task := h.AwaitPhase("web", "backoff")
			if !strings.Contains(task.Reason, holder) || !strings.Contains(task.Reason, fmt.Sprint(before.Ports[0].Host)) || task.LastExit.Cause != "launch-failed" {
				t.Errorf("%+v", task)
			}
			if !cmp.Equal(task.Ports, before.Ports) {
				t.Errorf("the ports were %+v and are %+v", before.Ports, task.Ports)
			}
			h.must(stranger.Close())
			h.expect(0, "", "start", "web")
			if after := h.AwaitPhase("web", "running"); !cmp.Equal(after.Ports, before.Ports) {
				t.Errorf("the ports were %+v and are %+v", before.Ports, after.Ports)
			}
		})
	}
}

// A task gets the host port that another one is about to free: it waits for it
// and does not fail.
func TestPortMovesBetweenTasks(t *testing.T) {
	t.Parallel()
	h := Start(t)
	port := freePort(t)
	task := func(name string) string {
		return strings.Replace(h.Task(name, guest.Slow, graceful, "port_map = { http = 80 }"),
			"memory = 128", fmt.Sprintf("memory = 128\n network {\n port \"http\" { static = %d }\n }", port), 1)
	}
	h.Write("web.hcl", task("old"))
	h.AwaitRunning("old")
	h.Write("web.hcl", task("new"))
	waiting := h.AwaitTask("new", "wait", func(task TaskStatus) bool { return strings.Contains(task.Reason, "old") })
	if waiting.Phase != "pending" {
		t.Errorf("%+v", waiting)
	}
	h.AwaitRunning("new")
	h.AwaitConverged()
	if n := h.Count("start-failed", "new"); n != 0 {
		t.Errorf("it failed %d times", n)
	}
}

// A port without a port_map entry is allocated and kept, not forwarded; ports of
// expressions are those that are forwarded.
func TestPortsInExpressions(t *testing.T) {
	t.Parallel()
	h := Start(t)
	text := h.Task("web", guest.Button, "port_map = { http = 80 }", `args = ["-fw_cfg", "name=opt/p,string=${port.http}-${NOMAD_PORT_http}-${port.spare}"]`)
	h.Write("web.hcl", strings.Replace(text, "memory = 128", "memory = 128\n network {\n port \"http\" {}\n port \"spare\" {}\n }", 1))
	before := h.AwaitRunning("web")
	if len(before.Ports) != 2 || before.Ports[1].Label != "spare" || before.Ports[1].Host == 0 || before.Ports[1].Guest != 0 {
		t.Fatalf("ports %+v", before.Ports)
	}
	argv := h.expect(0, "", "argv", "web").Stdout
	for _, want := range []string{fmt.Sprintf("string=%d-80-%d", before.Ports[0].Host, before.Ports[1].Host), fmt.Sprintf("hostfwd=tcp::%d-:80", before.Ports[0].Host)} {
		if !strings.Contains(argv, want) {
			t.Errorf("no %s in %s", want, argv)
		}
	}
	if strings.Contains(argv, fmt.Sprintf("hostfwd=tcp::%d", before.Ports[1].Host)) {
		t.Errorf("the spare port is forwarded: %s", argv)
	}
	h.expect(0, "", "restart", "web")
	if after := h.AwaitPhase("web", "running"); !cmp.Equal(after.Ports, before.Ports) {
		t.Errorf("the ports were %+v and are %+v", before.Ports, after.Ports)
	}
}

// staticPorts counts the ports that freePort has given.
var staticPorts atomic.Int32

// freePort gives a port below those that hosts of tests allocate and the kernel
// hands out by itself, each only once.
func freePort(t *testing.T) int {
	t.Helper()
	for range 1000 {
		port := 9000 + (os.Getpid()*7+int(staticPorts.Add(1)))%1000
		listener, err := net.Listen("tcp4", fmt.Sprintf("0.0.0.0:%d", port))
		if err != nil {
			continue
		}
		if err := listener.Close(); err != nil {
			t.Fatal(err)
		}
		return port
	}
	t.Fatal("there is no free port")
	return 0
}
