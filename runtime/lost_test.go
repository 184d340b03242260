package runtime

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/qemu-reconciler/qemu-reconciler/internal/guest"
	"github.com/qemu-reconciler/qemu-reconciler/spec"
)

// TestRecordLost: a QEMU whose record makes no sense any more, or is gone, is
// adopted from what runs.
func TestRecordLost(t *testing.T) {
	t.Parallel()
	garble := func(path string) func(*lab) {
		return func(l *lab) {
			must(l.t, os.WriteFile(filepath.Join(l.layout.TasksDir(), path), []byte("{\"version\": 1, "), 0o600))
		}
	}
	unlink := func(path string) func(*lab) {
		return func(l *lab) { must(l.t, os.Remove(filepath.Join(l.layout.TasksDir(), path))) }
	}
	for _, c := range []struct {
		name    string
		do      []func(*lab)
		corrupt bool
		applied bool
	}{
		{"corrupt", []func(*lab){garble("vm.json")}, true, true},
		{"gone", []func(*lab){unlink("vm.json")}, false, true},
		{"both corrupt", []func(*lab){garble("vm.json"), garble("vm.json.durable")}, true, false},
		{"both gone", []func(*lab){unlink("vm.json"), unlink("vm.json.durable")}, false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			before := l.start(l.task("vm", guest.Button)).Record
			l.secured()
			l.reopen(func() {
				for _, do := range c.do {
					do(l)
				}
			})
			o := l.sameProcess("vm", before.Process)
			if o.Record.UUID != before.UUID || o.Record.Process.Format != "raw" || (o.Record.Applied != nil) != c.applied {
				t.Errorf("adopted: %s", asJSON(o))
			}
			aside, err := filepath.Glob(filepath.Join(l.layout.TasksDir(), "vm.json.corrupt-*"))
			must(t, err)
			if (len(aside) == 1) != c.corrupt || slices.Contains(l.told("vm"), EventRecordCorrupt) != c.corrupt {
				t.Errorf("set aside: %v; events: %v", aside, l.told("vm"))
			}
			l.answering("vm")
			if exit := l.stop("vm", press(testPatience)); exit.Rung != RungACPI {
				t.Errorf("exit: %s", asJSON(exit))
			}
			l.reopen(func() {})
			if o := l.Observe()["vm"]; o.Alive || o.Record.LastExit == nil {
				t.Errorf("the new record was lost again: %s", asJSON(o))
			}
		})
	}
}

// TestLostWithoutProcess: what must survive survives in the durable copy, be the
// record corrupt or gone. A view without a daemon sees the same.
func TestLostWithoutProcess(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	ports := map[string]int{"corrupt": 20022, "gone": 20023}
	for name, port := range ports {
		must(t, l.Update(name, func(r *Record) { r.Held, r.Ports = true, map[string]int{"ssh": port} }))
	}
	for range 2 { // and it is still there the next time
		var seen map[string]Observation
		l.reopen(func() {
			must(t, os.Truncate(l.layout.Record("corrupt"), 0))
			must(t, os.Remove(l.layout.Record("gone")))
			snapshot, err := View(t.Context(), l.layout)
			must(t, err)
			seen = snapshot.Observations
		})
		for name, port := range ports {
			for who, observed := range map[string]map[string]Observation{"daemon": l.Observe(), "view": seen} {
				if o := observed[name]; o.Record == nil || !o.Record.Held || o.Record.Ports["ssh"] != port || o.Alive {
					t.Fatalf("%s as the %s sees it: %s", name, who, asJSON(o))
				}
			}
			l.onDisk(name)
		}
	}
	for name := range ports { // who was forgotten stays away
		must(t, l.Forget(name))
	}
	l.reopen(func() {})
	if left := l.Observe(); len(left) != 0 {
		t.Errorf("forgotten and back: %s", asJSON(left))
	}
}

func TestNewerRecord(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	task := l.task("vm", guest.Button)
	info := l.start(task).Record.Process
	newer := []byte(`{"version": 99, "task": "vm", "strange": true}`)
	l.reopen(func() {
		for _, name := range []string{"vm", "idle"} {
			must(t, os.WriteFile(l.layout.Record(name), newer, 0o600))
		}
	})
	o := l.sameProcess("vm", info)
	if !strings.Contains(o.Trouble, "version 99") || o.Refused != o.Trouble {
		t.Errorf("trouble: %q, refused: %q", o.Trouble, o.Refused)
	}
	if o := l.Observe()["idle"]; o.Alive || !strings.Contains(o.Refused, "version 99") {
		t.Errorf("idle: %s", asJSON(o))
	}
	idle := l.task("idle", guest.Deaf)
	for name, err := range map[string]error{
		"start":         l.Start(t.Context(), startOf(idle)),
		"start running": l.Start(t.Context(), startOf(task)),
		"stop":          l.Stop(t.Context(), "vm", StopRequest{}),
		"update":        l.Update("vm", func(r *Record) { r.Held = true }),
		"forget":        l.Forget("idle"),
	} {
		if err == nil {
			t.Errorf("%s of a task that is not to be touched", name)
		}
	}
	l.sameProcess("vm", info)
	for _, name := range []string{"vm", "idle"} {
		if raw, err := os.ReadFile(l.layout.Record(name)); err != nil || string(raw) != string(newer) {
			t.Errorf("%s: %q, %v", name, raw, err)
		}
	}
	must(t, signalTo(info, unix.SIGKILL))
	l.until("vm", "end seen from afar", func(o Observation) bool { return !o.Alive })
}

// TestUnwatchable: a process that cannot be watched is alive all the same, also
// where the record did not know of it.
func TestUnwatchable(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	reason := errors.New("too many open files")
	recorded := newMachine(l.Runtime, &Record{Version: RecordVersion, Task: "vm", Process: &ProcessInfo{PID: 7}})
	recorded.refuse(reason, nil)
	found := newMachine(l.Runtime, &Record{Version: RecordVersion, Task: "vm"})
	found.refuse(reason, &ProcessInfo{PID: 7})
	for _, m := range []*machine{recorded, found} {
		if o := m.observe(); !o.Alive || o.Refused != reason.Error() || o.Record.Process.PID != 7 {
			t.Errorf("seen: %s", asJSON(o))
		}
	}
	idle := newMachine(l.Runtime, &Record{Version: RecordVersion, Task: "vm"})
	idle.refuse(reason, nil)
	if o := idle.observe(); o.Alive || o.Refused == "" {
		t.Errorf("seen: %s", asJSON(o))
	}
}

// TestPortsWithoutRecord: a VM whose record is gone with all its copies comes
// back with its ports, which nobody else is given then.
func TestPortsWithoutRecord(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	task := l.task("vm", guest.Deaf)
	task.Config.PortMap = map[string]int{"ssh": 22}
	task.Resources.Ports = []spec.Port{{Label: "spare", Protocols: []string{"tcp"}}, {Label: "ssh", HostIP: "127.0.0.1", Protocols: []string{"tcp", "udp"}}}
	before := l.start(task).Record
	l.reopen(func() { must(t, OpenStore(l.layout).Delete("vm")) })
	o := l.sameProcess("vm", before.Process)
	if !maps.Equal(o.Record.Ports, before.Ports) || len(before.Ports) != 2 || o.Record.Process.Format != "raw" {
		t.Errorf("ports %v, they were %v; format %q", o.Record.Ports, before.Ports, o.Record.Process.Format)
	}
	want := before.Process.Forwards
	want[0].Label = "" // a command line does not tell
	if diff := cmp.Diff(want, o.Record.Process.Forwards); diff != "" {
		t.Errorf("forwards:\n%s", diff)
	}
	err := l.Update("other", func(r *Record) { r.Ports = map[string]int{"x": before.Ports["spare"]} })
	if err == nil || !strings.Contains(err.Error(), "task vm") {
		t.Errorf("another's port: %v", err)
	}
	if o := l.Observe()["other"]; len(o.Record.Ports) != 0 {
		t.Errorf("taken all the same: %s", asJSON(o))
	}
}

// TestPortsOfTwoRecords: of two records with one port that of the VM that runs
// has it, and the other task is not given another one instead.
func TestPortsOfTwoRecords(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	task := l.task("zz", guest.Deaf)
	task.Config.PortMap = map[string]int{"ssh": 22}
	task.Resources.Ports = []spec.Port{{Label: "ssh", Protocols: []string{"tcp"}}}
	port := l.start(task).Record.Ports["ssh"]
	must(t, l.Update("aa", func(r *Record) { r.Held = true }))
	l.reopen(func() { l.forge("aa", func(r *Record) { r.Ports = map[string]int{"ssh": port} }) })
	other := l.task("aa", guest.Deaf)
	other.Config.PortMap, other.Resources.Ports = task.Config.PortMap, task.Resources.Ports
	err := l.Start(t.Context(), startOf(other))
	if err == nil || !strings.Contains(err.Error(), "task zz") || !strings.Contains(err.Error(), itoa(port)) {
		t.Errorf("start: %v", err)
	}
	if o := l.Observe()["aa"]; o.Record.Ports["ssh"] != port || o.Record.Failure == "" {
		t.Errorf("afterwards: %s", asJSON(o))
	}
}
