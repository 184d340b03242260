package runtime

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/qemu-reconciler/qemu-reconciler/internal/guest"
)

func TestView(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	if snapshot, err := View(t.Context(), Layout{State: filepath.Join(l.images, "none"), Run: "/none"}); err != nil || len(snapshot.Observations) != 0 {
		t.Errorf("nothing there: %v, %v", snapshot, err)
	}
	info := l.start(l.task("vm", guest.Deaf)).Record.Process
	l.says("vm", guest.SaysReady) // its last word
	must(t, l.Update("idle", func(r *Record) { r.Held = true }))
	must(t, l.Close())
	must(t, os.WriteFile(l.layout.Record("bad"), []byte("x"), 0o600))
	before := listing(t, l.layout.State)
	snapshot, err := View(t.Context(), l.layout)
	must(t, err)
	vm, idle, bad := snapshot.Observations["vm"], snapshot.Observations["idle"], snapshot.Observations["bad"]
	if !vm.Alive || !vm.Answering || vm.Record.Process.PID != info.PID || idle.Alive || !idle.Record.Held || bad.Trouble == "" || snapshot.DaemonPID != 0 {
		t.Errorf("seen: %s", asJSON(snapshot))
	}
	if after := listing(t, l.layout.State); after != before {
		t.Errorf("looking changed something:\n%s\n%s", before, after)
	}
	for what, lose := range map[string]func(){
		"lost": func() { must(t, os.Remove(l.layout.Record("vm"))) },
		"announced": func() {
			must(t, os.WriteFile(l.layout.Record("vm"), []byte(`{"version":1,"task":"vm","intent":{"kind":"start"}}`), 0o600))
		},
	} {
		lose()
		snapshot, err := View(t.Context(), l.layout)
		must(t, err)
		if vm := snapshot.Observations["vm"]; !vm.Alive || vm.Record.Process.PID != info.PID {
			t.Errorf("a VM whose record is %s is not seen: %s", what, asJSON(snapshot))
		}
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := View(cancelled, l.layout); err == nil {
		t.Error("a view that nobody waits for")
	}
}

func listing(t *testing.T, root string) string {
	t.Helper()
	var out strings.Builder
	must(t, filepath.WalkDir(root, func(path string, entry os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err == nil {
			out.WriteString(path + " " + info.ModTime().String() + "\n")
		}
		return err
	}))
	return out.String()
}
