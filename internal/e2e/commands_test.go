package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/qemu-reconciler/qemu-reconciler/internal/guest"
)

// expect runs a command and checks its exit code and what its output has.
func (h *Host) expect(code int, says string, args ...string) Result {
	h.t.Helper()
	result := h.Do(args...)
	if result.Code != code || !strings.Contains(result.Stdout+result.Stderr, says) {
		h.t.Errorf("%v: exit code %d (want %d), without %q?\n%s%s", args, result.Code, code, says, result.Stdout, result.Stderr)
	}
	return result
}

// Without a daemon: what can be looked at is, what acts exits 5, and mistakes in
// the command line exit 64.
func TestCommandsWithoutADaemon(t *testing.T) {
	t.Parallel()
	h := Start(t, Stopped())
	h.expect(0, "nothing to do", "plan")
	h.expect(0, "No tasks", "status", "--check")
	h.Write("web.hcl", h.Task("web", guest.Button))
	for _, args := range [][]string{{"stop", "web"}, {"start", "web"}, {"restart", "web"}, {"approve"}, {"stop", "web", "--no-wait"}} {
		h.expect(5, "no daemon answers", args...)
	}
	h.expect(0, "web", "status")
	h.expect(0, "web", "status", "web")
	h.expect(1, `no task "wbe"`, "status", "wbe")
	h.expect(1, `no task "wbe"`, "status", "wbe", "--json")
	h.expect(3, "pending", "status", "--check")
	h.expect(3, "pending", "status", "web", "--check")
	h.expect(2, "1 to start", "plan")
	h.expect(0, "1 valid task", "validate")
	h.expect(0, "-name web -m 128M", "argv", "web")
	h.expect(1, `no task "wbe"`, "argv", "wbe")
	h.expect(0, "qemu-reconciler", "version")
	h.expect(0, "qemu-reconciler", "completion", "bash")
	for _, args := range [][]string{{"status", "--jsn"}, {"stop"}, {"argv"}, {"argv", "a", "b"}, {"stats"}, {"plan", "web"}, {"run", "--timeout", "3s"}, {"completion"}, {"completion", "csh"}} {
		h.expect(64, "", args...)
	}
	h.Write("bad.hcl", "task \"bad\" {\n  config {\n    image_pth = \"x\"\n  }\n}\n")
	h.expect(1, "image_path", "plan")
	h.expect(1, "bad.hcl:3:5", "validate")
	h.expect(0, "bad", "status")
}

// validate judges files and directories, with the host and without it.
func TestValidate(t *testing.T) {
	t.Parallel()
	h := Start(t, Stopped(), AsNobody())
	good := filepath.Join(h.Disks, "good.hcl")
	h.must(os.WriteFile(good, []byte(h.Task("web", guest.Button)), 0o644))
	h.expect(0, "1 valid task", "validate", good)
	h.must(os.Remove(filepath.Join(h.Disks, "web.img")))
	h.expect(1, "web.img", "validate", good)
	h.expect(0, "1 valid task", "validate", "--offline", good)
	h.expect(1, "", "validate", h.Disks)
	h.expect(0, "", "validate", "--offline", h.Disks)
	h.expect(1, "nowhere", "validate", filepath.Join(h.Disks, "nowhere.hcl"))
	result := h.expect(1, "", "validate", "--json", good)
	var report struct {
		Files []FileStatus `json:"files"`
	}
	if err := json.Unmarshal([]byte(result.Stdout), &report); err != nil || len(report.Files) != 1 || report.Files[0].Errors[0].Line != 3 {
		t.Errorf("%v: %s", err, result.Stdout)
	}
	h.must(os.WriteFile(good, []byte(with(h.Task("web", guest.Button), "leader = true")), 0o644))
	h.expect(0, "warning", "validate", good)
}

// status --json, field for field, with a daemon, without one, and by name.
func TestStatusJSONFieldForField(t *testing.T) {
	t.Parallel()
	h := Start(t, Config(`host_name = "h"`))
	h.Write("web.hcl", h.Task("web", guest.Button, "port_map = { ssh = 22 }"))
	h.AwaitRunning("web")
	h.AwaitConverged()
	const port = `[{"label":"ssh","host_ip":"","host":"number","guest":22,"protocols":["tcp","udp"]}]`
	want := `{"format":1,"host":"h","vms_dir":"` + h.VMs + `","state_dir":"` + h.State + `","daemon":{"running":true,"pid":"number","version":"string"},` +
		`"converged":true,"drained":false,"files":[],"held_removals":[],"tasks":[{"name":"web","file":"web.hcl","desired":"running","phase":"running",` +
		`"reason":"","converged":true,"pid":"number","uuid":"string","started_at":"string","restarts":0,"reboots":0,"image_format":"raw","ports":` + port +
		`,"pending":[],"last_exit":null}]}`
	vague := map[string]bool{"pid": true, "version": true, "uuid": true, "started_at": true, "host": true}
	for _, args := range [][]string{{"status", "--json"}, {"status", "web", "--json"}} {
		if diff := cmp.Diff(plain(t, want, nil), plain(t, h.Do(args...).Stdout, vague)); diff != "" {
			t.Errorf("%v: %s", args, diff)
		}
	}
	task := h.StatusByCommand().Tasks[0]
	if _, offset := task.StartedAt.Zone(); offset != 0 {
		t.Errorf("started_at is not UTC: %s", task.StartedAt)
	}
	h.must(exec.Command("kill", "-9", fmt.Sprint(h.OnlyQEMU("web"))).Run())
	h.AwaitTask("web", "restart", func(after TaskStatus) bool { return after.Phase == "running" && after.PID != task.PID })
	var st map[string]any
	h.must(json.Unmarshal([]byte(h.Do("status", "--json").Stdout), &st))
	again := st["tasks"].([]any)[0].(map[string]any)
	exit := again["last_exit"].(map[string]any)
	for _, at := range []any{again["started_at"], exit["at"]} {
		if !regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$`).MatchString(at.(string)) {
			t.Errorf("a time is written as %s", at)
		}
	}
	for field, want := range map[string]any{"cause": "killed", "code": nil, "signal": "SIGKILL", "rung": "", "seconds": 0.0} {
		if got, there := exit[field]; !there || got != want {
			t.Errorf("last_exit.%s is %v (%v)", field, got, there)
		}
	}
	if at, ok := exit["at"].(string); !ok || !strings.HasSuffix(at, "Z") {
		t.Errorf("last_exit.at is %v", exit["at"])
	}
	h.Terminate()
	offline := h.StatusByCommand()
	if offline.Daemon.Running || offline.Daemon.PID != 0 || offline.Tasks[0].Phase != "running" || !offline.Converged {
		t.Errorf("without a daemon: %+v", offline)
	}
}

// plain reads JSON and replaces the values of vague fields by their type.
func plain(t *testing.T, text string, vague map[string]bool) any {
	t.Helper()
	var value any
	if err := json.Unmarshal([]byte(text), &value); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case []any:
			for _, e := range v {
				walk(e)
			}
		case map[string]any:
			for key, e := range v {
				switch e.(type) {
				case string:
					if vague[key] && key != "host" {
						v[key] = "string"
					}
				case float64:
					if vague[key] {
						v[key] = "number"
					}
				}
				walk(e)
			}
		}
	}
	walk(value)
	return value
}

// plan --json before an edit is applied: without a daemon, since one would
// apply it.
func TestPlanNamesFieldsAndPrices(t *testing.T) {
	t.Parallel()
	h := Start(t)
	text := h.Task("web", guest.Button)
	h.Write("web.hcl", with(text, "env = { SECRET = \"one\" }"))
	h.Write("gone.hcl", h.Task("gone", guest.Button))
	h.AwaitRunning("web")
	h.AwaitRunning("gone")
	h.expect(0, "nothing to do", "plan")
	h.Terminate()
	h.Write("web.hcl", with(moreMemory(text), "env = { SECRET = \"two\" }", "kill_timeout = \"7s\""))
	h.Write("new.hcl", h.Task("new", guest.Button))
	h.Remove("gone.hcl")
	result := h.expect(2, "", "plan", "--json")
	var plan struct {
		Format  int `json:"format"`
		Changes []struct {
			Task, Action, Price, Reason string
			Fields                      []struct {
				Field    string
				From, To any
				Price    string
			}
		} `json:"changes"`
		Errors []any `json:"errors"`
	}
	h.must(json.Unmarshal([]byte(result.Stdout), &plan))
	var got []string
	for _, c := range plan.Changes {
		got = append(got, c.Task+" "+c.Action+" "+c.Price)
		for _, f := range c.Fields {
			got = append(got, fmt.Sprintf("  %s %v %v %s", f.Field, f.From, f.To, f.Price))
		}
		if c.Reason == "" {
			t.Errorf("no reason for %s", c.Task)
		}
	}
	want := []string{"gone stop stop", "new start start", "web restart restart",
		"  env map[SECRET:(hidden)] map[SECRET:(hidden)] restart", "  kill_timeout 1m0s 7s live", "  resources.memory 128 160 restart"}
	if plan.Format != 1 || plan.Errors == nil || !cmp.Equal(got, want) || strings.Contains(result.Stdout, "two") {
		t.Errorf("%s\n%s", cmp.Diff(want, got), result.Stdout)
	}
	pending := h.StatusByCommand()
	if task, _ := pending.Task("web"); len(task.Pending) != 3 || task.Converged {
		t.Errorf("pending: %+v", task)
	}
}

// stop, start and restart, with and without waiting; a hold outlives daemons and
// ends with start or with the task.
func TestStopStartRestart(t *testing.T) {
	t.Parallel()
	h := Start(t)
	text := h.Task("web", guest.Button, graceful)
	h.Write("web.hcl", text)
	before := h.AwaitRunning("web")
	h.expect(1, "no task", "stop", "web", "wbe")
	h.ExpectUntouched(before)
	h.expect(0, "web", "restart", "web")
	restarted := h.AwaitPhase("web", "running")
	if restarted.PID == before.PID || restarted.Restarts != 0 || !restarted.Converged {
		t.Errorf("after restart: %+v", restarted)
	}
	h.expect(0, "web", "stop", "web")
	held := func() {
		t.Helper()
		task, _ := h.StatusByCommand().Task("web")
		if task.Phase != "stopped" || task.Reason != "held by operator" || task.PID != 0 || !task.Converged || task.Desired != "running" {
			t.Errorf("held: %+v", task)
		}
	}
	held()
	h.expect(0, "", "stop", "web")
	h.Kill()
	held()
	h.StartDaemon()
	h.Write("web.hcl", moreMemory(text)) // an edit lifts no hold
	h.ProvePass()
	held()
	h.expect(0, "web", "start", "web", "--no-wait")
	h.AwaitPhase("web", "running")
	h.expect(0, "", "start", "web")
	h.expect(0, "web", "stop", "--no-wait", "web")
	h.AwaitTask("web", "hold", func(task TaskStatus) bool { return task.Phase == "stopped" })
	h.Remove("web.hcl")
	h.AwaitGone("web")
	h.Write("web.hcl", text)
	h.AwaitPhase("web", "running")
	h.Write("web.hcl", with(text, `state = "stopped"`))
	h.AwaitPhase("web", "stopped")
	h.expect(1, "stopped", "start", "web")
	h.expect(1, "nothing to approve", "approve")
	h.expect(0, "web", "argv", "web")
}

// argv of a task that runs is its very command line.
func TestArgvIsWhatRuns(t *testing.T) {
	t.Parallel()
	h := Start(t)
	h.Write("web.hcl", h.Task("web", guest.Button, `args = ["-fw_cfg", "name=opt/x,string=it's a \"test\""]`))
	h.AwaitRunning("web")
	words, err := exec.Command("sh", "-c", "printf '%s\\n' "+h.expect(0, "", "argv", "web").Stdout).Output()
	h.must(err)
	cmdline, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", h.OnlyQEMU("web")))
	h.must(err)
	got, want := strings.Split(strings.TrimSpace(string(words)), "\n"), strings.Split(strings.TrimSuffix(string(cmdline), "\x00"), "\x00")
	if !slices.Equal(got, want) {
		t.Error(cmp.Diff(want, got))
	}
}
