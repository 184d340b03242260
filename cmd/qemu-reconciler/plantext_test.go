package main

import (
	"encoding/json"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/qemu-reconciler/qemu-reconciler/reconcile"
	"github.com/qemu-reconciler/qemu-reconciler/spec"
)

func TestPlanText(t *testing.T) {
	plan := reconcile.PlanReport{Changes: []reconcile.Change{
		{Task: "new", Action: reconcile.ActionStart, Price: "start", Reason: "new task"},
		{Task: "web", Action: reconcile.ActionRestart, Price: "restart", Fields: []reconcile.FieldChange{
			{Field: "resources.memory", From: 512, To: 1024, Price: "restart", Reason: "memory is given at start"},
			{Field: "config.accelerator", From: "tcg", To: "kvm", Price: "restart"},
			{Field: "env.TOKEN", From: nil, To: "(hidden)", Price: "restart"},
			{Field: "config.args", From: []any{"-a", "<b>"}, To: []any{}, Price: "restart"},
		}},
		{Task: "gone", Action: reconcile.ActionHeld, Price: "held", Reason: "waits until bad.hcl is mended"},
	}, Errors: []reconcile.FileError{{Path: "bad.hcl", Line: 1, Column: 2, Summary: "x"}}}
	want := `new: start, new task
web: restart
    resources.memory: 512 -> 1024 (restart: memory is given at start)
    config.accelerator: "tcg" -> "kvm" (restart)
    env.TOKEN: (none) -> (hidden) (restart)
    config.args: ["-a", "<b>"] -> [] (restart)
gone: held, waits until bad.hcl is mended
Plan: 1 held, 1 to restart, 1 to start; 1 error.
`
	if diff := cmp.Diff(want, planText(plan, style{})); diff != "" {
		t.Error(diff)
	}
}

func TestPlanExit(t *testing.T) {
	change, fault := []reconcile.Change{{}}, []reconcile.FileError{{}}
	for _, c := range []struct {
		plan reconcile.PlanReport
		want int
		text string
	}{
		{reconcile.PlanReport{}, 0, "Plan: nothing to do.\n"},
		{reconcile.PlanReport{Changes: change}, 2, ""},
		{reconcile.PlanReport{Errors: fault}, 1, "Plan: nothing to do; 1 error.\n"},
		{reconcile.PlanReport{Changes: change, Errors: fault}, 1, ""},
	} {
		if got := planExit(c.plan); got != c.want {
			t.Errorf("%+v exits %d, want %d", c.plan, got, c.want)
		}
		if text := planText(c.plan, style{}); c.text != "" && text != c.text {
			t.Errorf("%+v reads %q, want %q", c.plan, text, c.text)
		}
	}
}

// Ports are written as a person would, whether they come from the daemon as
// JSON or not.
func TestPlanTextOfPorts(t *testing.T) {
	was := []spec.Port{{Label: "ssh", Static: 22022, HostIP: "127.0.0.1", Protocols: []string{"tcp"}}}
	is := append(was, spec.Port{Label: "extra", Protocols: []string{"tcp", "udp"}})
	raw, err := json.Marshal(is)
	if err != nil {
		t.Fatal(err)
	}
	var sent any
	if err := json.Unmarshal(raw, &sent); err != nil {
		t.Fatal(err)
	}
	want := "resources.network.port: ssh: 22022 on 127.0.0.1 (tcp) -> ssh: 22022 on 127.0.0.1 (tcp); extra: allocated (tcp, udp) (live)"
	for _, to := range []any{is, sent} {
		if got := changeText(reconcile.FieldChange{Field: "resources.network.port", From: was, To: to, Price: "live"}); got != want {
			t.Errorf("got %s", got)
		}
	}
	if got := changeText(reconcile.FieldChange{Field: "config.port_map", From: map[string]int{"ssh": 22, "http": 80}, Price: "restart"}); got != "config.port_map: { http = 80, ssh = 22 } -> (none) (restart)" {
		t.Errorf("got %s", got)
	}
}

// No word of a plan is broken: what is in it is copied.
func TestPlanTextBreaksNoWord(t *testing.T) {
	long := "/srv/" + strings.Repeat("images/", 20) + "disk.qcow2"
	args := []string{"-device", "virtio-rng-pci,rng=rng0", "-object", "rng-random,id=rng0,filename=/dev/urandom", "-device", "virtio-balloon-pci"}
	text := planText(reconcile.PlanReport{Changes: []reconcile.Change{{Task: "web", Action: reconcile.ActionRestart, Fields: []reconcile.FieldChange{
		{Field: "config.image_path", From: "/a", To: long, Price: "restart"}, {Field: "config.args", From: []string{}, To: args, Price: "restart"},
	}}}}, style{})
	for _, word := range append(args, long) {
		if !strings.Contains(text, strconv.Quote(word)) {
			t.Errorf("%s is broken:\n%s", word, text)
		}
	}
	for _, line := range strings.Split(text, "\n") {
		if width(line) > screenWidth && !strings.Contains(line, long) {
			t.Errorf("%d characters: %s", width(line), line)
		}
	}
}
