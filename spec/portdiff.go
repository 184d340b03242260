package spec

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// samePorts compares host ports by label.
func samePorts(a, b any) bool {
	byLabel := func(x, y Port) int { return cmp.Compare(x.Label, y.Label) }
	return slices.EqualFunc(slices.SortedFunc(slices.Values(a.([]Port)), byLabel), slices.SortedFunc(slices.Values(b.([]Port)), byLabel),
		func(x, y Port) bool { return x.Label == y.Label && x.onHost() == y.onHost() })
}

// onHost says what the port takes on the host: two ports for which it is the
// same cannot be told apart there. An allocated port is its label's own.
func (p Port) onHost() string {
	number := fmt.Sprint(p.Static)
	if p.Static == 0 {
		number = "allocated for " + p.Label
	}
	address := p.HostIP
	if anyAddress(address) {
		address = ""
	}
	return strings.Join([]string{number, address, strings.Join(slices.Sorted(slices.Values(p.Protocols)), "+")}, " ")
}

// anyAddress says whether a host_ip stands for all IPv4 addresses. A socket on all
// of IPv6 is on those of IPv4 as well.
func anyAddress(hostIP string) bool { return hostIP == "" || hostIP == "0.0.0.0" || hostIP == "::" }

// AddressesOverlap says whether two addresses of one port keep each other off it.
func AddressesOverlap(a, b string) bool { return a == b || anyAddress(a) || anyAddress(b) }

// forwarded are the ports of the task that QEMU is told of, each with its
// guest's port. Their labels are not among what it is told.
func (t *Task) forwarded() []string {
	var out []string
	for _, p := range t.Resources.Ports {
		if guest, mapped := t.Config.PortMap[p.Label]; mapped {
			out = append(out, fmt.Sprintf("%s to %d", p.onHost(), guest))
		}
	}
	slices.Sort(out)
	return out
}

// sameForwards finds a change of names alone.
func sameForwards(applied, wanted *Task) string {
	if slices.Equal(applied.forwarded(), wanted.forwarded()) {
		return "the forwarded ports stay the same: QEMU is not told"
	}
	return ""
}

// notForwarded finds a change of ports of which none is forwarded, before or
// after. What begins or ceases to be forwarded is a change of port_map.
func notForwarded(applied, wanted *Task) string {
	if why := sameForwards(applied, wanted); why != "" {
		return why
	}
	mapped := func(t *Task) []Port {
		return slices.DeleteFunc(slices.Clone(t.Resources.Ports), func(p Port) bool {
			_, was := applied.Config.PortMap[p.Label]
			_, is := wanted.Config.PortMap[p.Label]
			return !was && !is
		})
	}
	if samePorts(mapped(applied), mapped(wanted)) {
		return "a port that is not in port_map is not forwarded: QEMU is not told"
	}
	return ""
}
