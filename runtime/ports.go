package runtime

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qemu-reconciler/qemu-reconciler/spec"
)

// PortError says that a host port cannot be had, and who has it as far as that
// can be seen: PID is zero and Program empty when it cannot.
type PortError struct {
	HostIP   string
	Port     int
	Protocol string
	PID      int
	Program  string
	Err      error
}

func (e *PortError) Error() string {
	address := fmt.Sprintf("host port %d/%s", e.Port, e.Protocol)
	if e.HostIP != "" {
		address += " on " + e.HostIP
	}
	switch {
	case e.PID != 0:
		return fmt.Sprintf("%s is taken by %s (pid %d)", address, e.Program, e.PID)
	case errors.Is(e.Err, unix.EADDRINUSE):
		return address + " is taken by a process that cannot be seen from here"
	case errors.Is(e.Err, unix.EADDRNOTAVAIL):
		return address + " cannot be opened: this host does not have that address"
	case errors.Is(e.Err, unix.EACCES):
		return address + " cannot be opened: ports of that number need a privilege (CAP_NET_BIND_SERVICE)"
	}
	return fmt.Sprintf("%s cannot be opened: %v", address, e.Err)
}

func (e *PortError) Unwrap() error { return e.Err }

// PortFree tries whether QEMU could open a host port: nil, or a *PortError for
// the first protocol ("tcp", "udp") for which it could not. hostIP is an IPv4
// literal or empty for all addresses. The port is bound for a moment and never
// listened on, so no client can be caught.
func PortFree(hostIP string, port int, protocols []string) error {
	addr := netip.IPv4Unspecified()
	if hostIP != "" {
		var err error
		if addr, err = netip.ParseAddr(hostIP); err != nil || !addr.Is4() {
			return &PortError{HostIP: hostIP, Port: port, Protocol: strings.Join(protocols, "+"), Err: errors.New("not an IPv4 address")}
		}
	}
	protocol, err := tryPort(addr, port, protocols)
	if err == nil {
		return nil
	}
	out := &PortError{HostIP: hostIP, Port: port, Protocol: protocol, Err: err}
	if errors.Is(err, unix.EADDRINUSE) {
		out.PID, out.Program = portHolder(addr, port, protocol)
	}
	return out
}

// tryPort gives the first protocol with which the port could not be bound.
func tryPort(addr netip.Addr, port int, protocols []string) (protocol string, err error) {
	for _, protocol := range protocols {
		if err := tryBind(addr, port, protocol); err != nil {
			return protocol, err
		}
	}
	return "", nil
}

// tryBind binds as QEMU's user network does: a TCP port may have connections of
// the past that linger, and a UDP port is not shared.
func tryBind(addr netip.Addr, port int, protocol string) error {
	kind := unix.SOCK_STREAM
	if protocol == "udp" {
		kind = unix.SOCK_DGRAM
	}
	fd, err := unix.Socket(unix.AF_INET, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if protocol == "tcp" {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
			return err
		}
	}
	return unix.Bind(fd, &unix.SockaddrInet4{Port: port, Addr: addr.As4()})
}

// holderPatience is how long the processes of the host are searched for the one
// that has a port, of which there may be ten thousand on a busy host: a start that
// fails anyway waits for its name.
const holderPatience = 30 * time.Second

// portHolder finds the process whose socket is in the way. A socket of IPv6 can
// be, since it takes IPv4 as well unless it was told not to. What cannot be seen
// stays unsaid: that the port is taken is known.
func portHolder(addr netip.Addr, port int, protocol string) (pid int, name string) {
	if pid := whoHas(socketsInTheWay(addr, port, protocol), time.Now().Add(holderPatience)); pid != 0 {
		return pid, program(pid)
	}
	return 0, ""
}

// whoHas looks at every process once for one that has any of the links open;
// zero when there is none, or none was met in time.
func whoHas(links map[string]bool, until time.Time) int {
	if len(links) == 0 {
		return 0
	}
	all, _ := pids()
	for _, pid := range all {
		if time.Now().After(until) {
			break
		}
		if has, _ := hasOpen(pid, links); has {
			return pid
		}
	}
	return 0
}

// socketsInTheWay gives the sockets that are bound to the port, on the address
// or one that includes it, as links of descriptors. Connections count only where
// nobody listens: a server's may be thousands, and tell no more than it does.
func socketsInTheWay(addr netip.Addr, port int, protocol string) map[string]bool {
	bound, connected := map[string]bool{}, map[string]bool{}
	for _, table := range []string{protocol, protocol + "6"} {
		for _, s := range readSockets("/proc/net/" + table) {
			switch {
			case s.inode == 0 || s.port != port || !spec.AddressesOverlap(s.addr.String(), addr.String()):
			case protocol == "tcp" && s.state != tcpListen:
				connected[socketLink(s.inode)] = true
			default:
				bound[socketLink(s.inode)] = true
			}
		}
	}
	if len(bound) == 0 {
		return connected
	}
	return bound
}

// readSockets reads a table of /proc/net (proc_pid_net(5)).
func readSockets(table string) []socketLine {
	f, err := os.Open(table)
	if err != nil {
		return nil
	}
	defer f.Close()
	var out []socketLine
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if s, ok := parseSocketLine(lines.Text()); ok {
			out = append(out, s)
		}
	}
	return out
}

// tcpListen is TCP_LISTEN of the kernel's tcp_states.h.
const tcpListen = 0x0a

// socketLine is what a line of /proc/net/tcp and its like says of a socket.
type socketLine struct {
	addr  netip.Addr
	port  int
	state uint64
	inode uint64
}

func parseSocketLine(line string) (socketLine, bool) {
	fields := strings.Fields(line)
	if len(fields) < 10 {
		return socketLine{}, false
	}
	host, hexPort, ok := strings.Cut(fields[1], ":")
	if !ok {
		return socketLine{}, false
	}
	addr, ok := parseHexAddr(host)
	port, errPort := strconv.ParseUint(hexPort, 16, 16)
	state, errState := strconv.ParseUint(fields[3], 16, 8)
	inode, errInode := strconv.ParseUint(fields[9], 10, 64)
	if !ok || errors.Join(errPort, errState, errInode) != nil {
		return socketLine{}, false
	}
	return socketLine{addr: addr, port: int(port), state: state, inode: inode}, true
}

// parseHexAddr reads an address as the kernel prints it: 32-bit words in the
// host's byte order.
func parseHexAddr(text string) (netip.Addr, bool) {
	var raw []byte
	for ; len(text) >= 8; text = text[8:] {
		word, err := strconv.ParseUint(text[:8], 16, 32)
		if err != nil {
			return netip.Addr{}, false
		}
		raw = binary.NativeEndian.AppendUint32(raw, uint32(word))
	}
	addr, ok := netip.AddrFromSlice(raw)
	return addr.Unmap(), ok && text == ""
}
