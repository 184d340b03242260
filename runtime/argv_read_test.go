package runtime

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/qemu-reconciler/qemu-reconciler/spec"
)

// What was written on a command line is read from it again, and nothing that the
// operator wrote.
func TestForwardsOfCommandLine(t *testing.T) {
	want := []spec.Forward{
		{Host: 20001, Guest: 80, Protocols: []string{"tcp", "udp"}},
		{HostIP: "127.0.0.1", Host: 22022, Guest: 22, Protocols: []string{"tcp"}},
	}
	task := &spec.Task{Name: "web"}
	task.Config.Args = []string{"-netdev", "user,id=mine,hostfwd=tcp::1-:1", "-netdev", "user,id=user.01,hostfwd=tcp::2-:2"}
	argv := CommandLine{Program: "qemu", Task: task, Forwards: want}.Argv()
	if diff := cmp.Diff(want, forwardsOf(argv)); diff != "" {
		t.Error(diff)
	}
	for _, odd := range []string{"", "tcp", "tcp::", "tcp::x-:80", "tcp::1", "tcp::1-:", "tcp:[::1]:1-:1"} {
		if protocol, f, ok := parseForward(odd); ok {
			t.Errorf("%q is %s %+v", odd, protocol, f)
		}
	}
}
