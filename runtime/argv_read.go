package runtime

import (
	"slices"
	"strconv"
	"strings"

	"github.com/qemu-reconciler/qemu-reconciler/spec"
)

// argumentOf gives what follows an option on a command line of ours; ours come
// before the operator's.
func argumentOf(argv []string, option string) string {
	for i, arg := range argv {
		if arg == option && i+1 < len(argv) {
			return argv[i+1]
		}
	}
	return ""
}

// imageFormatOf reads the boot disk's format from a command line of ours.
func imageFormatOf(argv []string) string {
	const comma = "\x00" // no argument has one
	drive := strings.ReplaceAll(argumentOf(argv, "-drive"), ",,", comma)
	for pair := range strings.SplitSeq(drive, ",") {
		if format, ok := strings.CutPrefix(pair, "format="); ok {
			return format
		}
	}
	return ""
}

// forwardsOf reads the host ports in force from a command line of ours, which
// does not tell their labels.
func forwardsOf(argv []string) []spec.Forward {
	var out []spec.Forward
	for i, arg := range argv {
		if i == 0 || argv[i-1] != "-netdev" || !strings.HasPrefix(arg, "user,id=user.0,") {
			continue
		}
		for pair := range strings.SplitSeq(arg, ",") {
			rule, is := strings.CutPrefix(pair, "hostfwd=")
			protocol, f, ok := parseForward(rule)
			if !is || !ok {
				continue
			}
			if at := slices.IndexFunc(out, func(o spec.Forward) bool {
				return o.HostIP == f.HostIP && o.Host == f.Host && o.Guest == f.Guest
			}); at >= 0 {
				out[at].Protocols = append(out[at].Protocols, protocol)
				continue
			}
			f.Protocols = []string{protocol}
			out = append(out, f)
		}
	}
	return out
}

// parseForward is hostForward the other way round.
func parseForward(rule string) (protocol string, f spec.Forward, ok bool) {
	host, guest, _ := strings.Cut(rule, "-:")
	parts := strings.Split(host, ":")
	if len(parts) != 3 {
		return "", f, false
	}
	var errHost, errGuest error
	f.HostIP = parts[1]
	f.Host, errHost = strconv.Atoi(parts[2])
	f.Guest, errGuest = strconv.Atoi(guest)
	return parts[0], f, errHost == nil && errGuest == nil
}
