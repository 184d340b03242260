package runtime

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// unusedPorts gives different ports that nothing has, for a short while.
func unusedPorts(t *testing.T, count int) []int {
	t.Helper()
	var ports []int
	for range count {
		l, err := net.Listen("tcp4", "0.0.0.0:0")
		must(t, err)
		defer l.Close()
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports
}

func TestPortFree(t *testing.T) {
	t.Parallel()
	port := unusedPorts(t, 1)[0]
	if err := PortFree("", port, []string{"tcp", "udp"}); err != nil {
		t.Errorf("nothing has it: %v", err)
	}
	if err := PortFree("127.0.0.1", port, []string{"tcp"}); err != nil {
		t.Errorf("nothing has it here: %v", err)
	}
}

func TestPortFreeNamesTheHolder(t *testing.T) {
	t.Parallel()
	tcp, err := net.Listen("tcp4", "127.0.0.1:0")
	must(t, err)
	defer tcp.Close()
	both, err := net.Listen("tcp", "[::]:0") // IPv4 as well
	must(t, err)
	defer both.Close()
	udp, err := net.ListenPacket("udp4", "127.0.0.1:0")
	must(t, err)
	defer udp.Close()
	tcpPort, bothPort := tcp.Addr().(*net.TCPAddr).Port, both.Addr().(*net.TCPAddr).Port
	udpPort := udp.LocalAddr().(*net.UDPAddr).Port
	for _, c := range []struct {
		ip        string
		port      int
		protocols []string
		want      string // the protocol at fault
	}{
		{"", tcpPort, []string{"tcp"}, "tcp"},
		{"127.0.0.1", tcpPort, []string{"udp", "tcp"}, "tcp"},
		{"127.0.0.2", tcpPort, []string{"tcp"}, ""},
		{"", tcpPort, []string{"udp"}, ""},
		{"", bothPort, []string{"tcp"}, "tcp"},
		{"", udpPort, []string{"tcp", "udp"}, "udp"},
		{"127.0.0.1", udpPort, []string{"udp"}, "udp"},
	} {
		err := PortFree(c.ip, c.port, c.protocols)
		var taken *PortError
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%+v: %v", c, err)
		case c.want == "":
		case !errors.As(err, &taken) || taken.Protocol != c.want || taken.PID != os.Getpid() || !errors.Is(err, unix.EADDRINUSE):
			t.Errorf("%+v: %v", c, err)
		case !strings.Contains(err.Error(), program(os.Getpid())) || !strings.Contains(err.Error(), itoa(os.Getpid())):
			t.Errorf("%+v: the holder is not named: %v", c, err)
		}
	}
}

// adrift gives sockets to nobody: they stay open, in a message that is not read.
func adrift(t *testing.T, files ...*os.File) {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	t.Cleanup(func() { unix.Close(pair[0]); unix.Close(pair[1]) })
	var fds []int
	for _, f := range files {
		fds = append(fds, int(f.Fd()))
	}
	must(t, unix.Sendmsg(pair[0], []byte{0}, unix.UnixRights(fds...), nil, 0))
	for _, f := range files {
		must(t, f.Close())
	}
}

// fileOf closes a socket of package net and gives a descriptor of it.
func fileOf(t *testing.T, socket interface {
	File() (*os.File, error)
	Close() error
}) *os.File {
	t.Helper()
	f, err := socket.File()
	must(t, err)
	must(t, socket.Close())
	return f
}

// TestPortHolderIsLookedForOnce: a holder that cannot be seen costs one look at
// the processes, however many connections it has.
func TestPortHolderIsLookedForOnce(t *testing.T) {
	looks := func(connections int) (allocations float64) {
		server, err := net.Listen("tcp4", "127.0.0.1:0")
		must(t, err)
		port := server.Addr().(*net.TCPAddr).Port
		var files []*os.File
		for range connections {
			client, err := net.Dial("tcp4", server.Addr().String())
			must(t, err)
			defer client.Close()
			accepted, err := server.Accept()
			must(t, err)
			files = append(files, fileOf(t, accepted.(*net.TCPConn)))
		}
		adrift(t, append(files, fileOf(t, server.(*net.TCPListener)))...)
		return testing.AllocsPerRun(1, func() {
			var taken *PortError
			if err := PortFree("", port, []string{"tcp"}); !errors.As(err, &taken) || taken.PID != 0 || !errors.Is(err, unix.EADDRINUSE) {
				t.Errorf("the holder cannot be seen: %v", err)
			}
		})
	}
	if few, many := looks(1), looks(60); many > 5*few {
		t.Errorf("%v allocations with a connection, %v with sixty", few, many)
	}
}

// TestConnectionsWithoutAListener: they keep others off a port, too, and are
// somebody's.
func TestConnectionsWithoutAListener(t *testing.T) {
	t.Parallel()
	server, err := net.Listen("tcp4", "127.0.0.1:0")
	must(t, err)
	defer server.Close()
	client, err := net.Dial("tcp4", server.Addr().String())
	must(t, err)
	defer client.Close()
	var taken *PortError
	err = PortFree("127.0.0.1", client.LocalAddr().(*net.TCPAddr).Port, []string{"tcp"})
	if !errors.As(err, &taken) || taken.PID != os.Getpid() {
		t.Errorf("not told: %v", err)
	}
}

func TestWhoHasIsBounded(t *testing.T) {
	t.Parallel()
	null, err := os.Open(os.DevNull)
	must(t, err)
	defer null.Close()
	links := map[string]bool{os.DevNull: true}
	if pid := whoHas(links, time.Now().Add(holderPatience)); pid == 0 {
		t.Error("nobody has it, not even this process")
	}
	if pid := whoHas(links, time.Now().Add(-time.Second)); pid != 0 {
		t.Errorf("%d was found after the time was up", pid)
	}
}

func TestPortFreeAddress(t *testing.T) {
	t.Parallel()
	// 192.0.2.0/24 is for documentation (RFC 5737): no host has it.
	if err := PortFree("192.0.2.1", 20000, []string{"tcp"}); !errors.Is(err, unix.EADDRNOTAVAIL) {
		t.Errorf("not this host's: %v", err)
	}
	for _, ip := range []string{"::1", "localhost", "127.1"} {
		if err := PortFree(ip, 20000, []string{"tcp"}); err == nil {
			t.Errorf("%s is no IPv4 literal", ip)
		}
	}
}

// TestParseSocketLine takes lines as a little-endian kernel prints them.
func TestParseSocketLine(t *testing.T) {
	t.Parallel()
	four := "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 12345 1 0000000000000000 100 0 0 10 0"
	got, ok := parseSocketLine(four)
	want := socketLine{addr: netip.MustParseAddr("127.0.0.1"), port: 8080, state: tcpListen, inode: 12345}
	if !ok || got != want {
		t.Errorf("%+v, %v", got, ok)
	}
	six := "   1: 0000000000000000FFFF00000100007F:0016 00000000000000000000000000000000:0000 01 00000000:00000000 00:00000000 00000000     0        0 7 1 0000000000000000 100 0 0 10 0"
	got, ok = parseSocketLine(six)
	want = socketLine{addr: netip.MustParseAddr("127.0.0.1"), port: 22, state: 1, inode: 7}
	if !ok || got != want {
		t.Errorf("%+v, %v", got, ok)
	}
	for _, line := range []string{
		"  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode",
		"", "0: x:y", strings.Replace(four, "0100007F", "0100007", 1), strings.Replace(four, "0100007F:1F90", "0100007F", 1),
	} {
		if got, ok := parseSocketLine(line); ok {
			t.Errorf("%q: %+v", line, got)
		}
	}
}
