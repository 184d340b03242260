package guest

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestLinuxServesAndHearsTheButton(t *testing.T) {
	address := freeAddress(t)
	m := bootLinux(t, LinuxOptions{}, "-netdev", "user,id=n,hostfwd=tcp:"+address+"-:80", "-device", "virtio-net-pci,netdev=n")
	m.expectLine(SaysReady)
	if body := get(t, "http://"+address+"/"); !strings.Contains(body, SaysHello) {
		t.Errorf("the web page is %q", body)
	}
	m.send(`{"execute":"system_powerdown"}`)
	m.expectLine(SaysButton)
	m.expectEvent("SHUTDOWN", "guest-shutdown")
	m.expectEnd()
}

func TestLinuxAgentAnswersAndShutsDown(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "a")
	m := bootLinux(t, LinuxOptions{Agent: true, Deaf: true}, "-device", "virtio-serial",
		"-chardev", "socket,id=a,path="+socket+",server=on,wait=off",
		"-device", "virtserialport,chardev=a,name=org.qemu.guest_agent.0")
	m.expectLine(SaysReady)
	conn, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience)) //nolint:errcheck // a socket has deadlines
	replies := bufio.NewReader(conn)
	for _, step := range []struct{ message, reply string }{
		{"\xff" + `{"execute":"guest-sync-delimited","arguments":{"id":4711}}`, "\xff" + `{"return": 4711}`},
		{`{"execute": "guest-sync", "arguments": {"id": 12}}`, `{"return": 12}`},
		{`{"execute":"guest-ping"}`, `{"return": {}}`},
		{`{"execute":"guest-unheard-of"}`, `{"error": {"class": "CommandNotFound", "desc": "not known here"}}`},
	} {
		fmt.Fprintln(conn, step.message)
		reply, err := replies.ReadString('\n')
		if err != nil || strings.TrimRight(reply, "\r\n") != step.reply {
			t.Fatalf("%s: got %q, %v", step.message, reply, err)
		}
	}
	fmt.Fprintln(conn, `{"execute":"guest-shutdown","arguments":{"mode":"powerdown"}}`)
	m.expectLine(SaysAgent)
	m.expectEvent("SHUTDOWN", "guest-shutdown")
	m.expectEnd()
}

func bootLinux(t *testing.T, o LinuxOptions, args ...string) *machine {
	t.Helper()
	linux, err := FindLinux(filepath.Join("..", "..", "build", "linux-guest"))
	if err != nil {
		t.Fatal(err)
	}
	initramfs := filepath.Join(t.TempDir(), "initramfs")
	if err := linux.WriteInitramfs(initramfs); err != nil {
		t.Fatal(err)
	}
	return start(t, append(append([]string{"-m", "128"}, linux.Args(initramfs, o)...), args...)...)
}

func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

func get(t *testing.T, url string) string {
	t.Helper()
	client := http.Client{Timeout: patience}
	response, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}
