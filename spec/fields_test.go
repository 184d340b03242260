package spec

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// base is a task with every field set.
func base() *Task {
	return &Task{
		Name: "web", State: StateRunning, Hosts: []string{"h*", "g*"}, OnChange: OnChangeRestart, OnRemove: OnRemoveStop, KillTimeout: 60e9,
		User: "nobody", Env: map[string]string{"A": "1", "B": "2"}, Meta: map[string]string{"m": "1"}, DependsOn: []string{"db", "cache"}, UUID: "u",
		Config: Config{
			ImagePath: "/a", ImageFormat: "raw", Accelerator: "tcg", Args: []string{"-a", "-b"}, GracefulShutdown: true, GuestAgent: true,
			Emulator: "qemu-system-x86_64", MachineType: "pc", DriveInterface: "ide", PortMap: map[string]int{"ssh": 22},
		},
		Resources: Resources{MemoryMiB: 512, Cores: 1, Ports: []Port{
			{Label: "http", Protocols: []string{"tcp", "udp"}}, {Label: "ssh", Static: 2222, HostIP: "127.0.0.1", Protocols: []string{"tcp"}},
		}},
		Restart: Restart{On: RestartAlways, Attempts: 3, Interval: 600e9, Delay: 1e9, MaxDelay: 60e9, Mode: ModeDelay},
	}
}

func TestDifferences(t *testing.T) {
	tests := []struct {
		name   string
		change func(*Task)
		want   []string // field, price and values as JSON
	}{
		{"nothing", func(*Task) {}, nil},
		{"state is no difference of the machine", func(t *Task) { t.State = StateStopped }, nil},
		{"memory", func(t *Task) { t.Resources.MemoryMiB = 1024 }, []string{`resources.memory restart 512 1024`}},
		{"several, sorted", func(t *Task) { t.UUID = "v"; t.Config.Args = nil; t.Resources.Cores = 2; t.KillTimeout = 5e9 },
			[]string{`config.args restart ["-a","-b"] []`, `kill_timeout live "1m0s" "5s"`, `resources.cores restart 1 2`, `uuid restart "u" "v"`}},
		{"order of arguments", func(t *Task) { t.Config.Args = []string{"-b", "-a"} }, []string{`config.args restart ["-a","-b"] ["-b","-a"]`}},
		{"order without meaning", func(t *Task) {
			t.Hosts, t.DependsOn = []string{"g*", "h*"}, []string{"cache", "db"}
			t.Resources.Ports[0].Protocols = []string{"udp", "tcp"}
			slices.Reverse(t.Resources.Ports)
		}, nil},
		{"all addresses, in other words", func(t *Task) { t.Resources.Ports[0].HostIP = "0.0.0.0" }, nil},
		{"all addresses are not one", func(t *Task) { t.Resources.Ports[1].HostIP = "" }, []string{
			`resources.network.port restart [{"label":"http","protocols":["tcp","udp"]},{"label":"ssh","static":2222,"host_ip":"127.0.0.1","protocols":["tcp"]}]` +
				` [{"label":"http","protocols":["tcp","udp"]},{"label":"ssh","static":2222,"protocols":["tcp"]}]`}},
		{"a port that is not forwarded", func(t *Task) { t.Resources.Ports = t.Resources.Ports[1:] }, []string{
			`resources.network.port live [{"label":"http","protocols":["tcp","udp"]},{"label":"ssh","static":2222,"host_ip":"127.0.0.1","protocols":["tcp"]}]` +
				` [{"label":"ssh","static":2222,"host_ip":"127.0.0.1","protocols":["tcp"]}]`}},
		{"a port that is not forwarded gets a number", func(t *Task) {
			t.Resources.Ports[0].Static, t.Resources.Ports[0].Protocols = 8080, []string{"udp"}
			t.Resources.Ports = t.Resources.Ports[:1]
			t.Config.PortMap = nil
		}, []string{`config.port_map restart {"ssh":22} {}`,
			`resources.network.port restart [{"label":"http","protocols":["tcp","udp"]},{"label":"ssh","static":2222,"host_ip":"127.0.0.1","protocols":["tcp"]}]` +
				` [{"label":"http","static":8080,"protocols":["udp"]}]`}},
		{"a port comes to be forwarded", func(t *Task) { t.Config.PortMap = map[string]int{"http": 80, "ssh": 22} },
			[]string{`config.port_map restart {"ssh":22} {"http":80,"ssh":22}`}},
		{"another guest port, and a port beside it", func(t *Task) {
			t.Config.PortMap, t.Resources.Ports = map[string]int{"ssh": 2200}, t.Resources.Ports[1:]
		}, []string{`config.port_map restart {"ssh":22} {"ssh":2200}`,
			`resources.network.port live [{"label":"http","protocols":["tcp","udp"]},{"label":"ssh","static":2222,"host_ip":"127.0.0.1","protocols":["tcp"]}]` +
				` [{"label":"ssh","static":2222,"host_ip":"127.0.0.1","protocols":["tcp"]}]`}},
		{"a label is renamed, its port has a number", func(t *Task) {
			t.Config.PortMap, t.Resources.Ports[1].Label = map[string]int{"shell": 22}, "shell"
		}, []string{`config.port_map live {"ssh":22} {"shell":22}`,
			`resources.network.port live [{"label":"http","protocols":["tcp","udp"]},{"label":"ssh","static":2222,"host_ip":"127.0.0.1","protocols":["tcp"]}]` +
				` [{"label":"http","protocols":["tcp","udp"]},{"label":"shell","static":2222,"host_ip":"127.0.0.1","protocols":["tcp"]}]`}},
		{"environment is hidden", func(t *Task) { t.Env = map[string]string{"A": "secret", "B": "2", "C": "secret"} },
			[]string{`env restart {"A":"(hidden)"} {"A":"(hidden)","C":"(hidden)"}`}},
		{"format given or detected", func(t *Task) { t.Config.ImageFormat = "" }, []string{`config.image_format restart "raw" ""`}},
		{"policy", func(t *Task) { t.Restart.Mode = ModeFail; t.Meta = nil; t.Config.GracefulShutdown = false },
			[]string{`config.graceful_shutdown live true false`, `meta live {"m":"1"} {}`, `restart.mode live "delay" "fail"`}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			wanted := base()
			test.change(wanted)
			var got []string
			for _, d := range Differences(base(), wanted) {
				from, _ := json.Marshal(d.From)
				to, _ := json.Marshal(d.To)
				line := strings.Join([]string{d.Field, string(d.Price), string(from), string(to)}, " ")
				if d.Reason == "" {
					t.Errorf("%s has no reason", d.Field)
				}
				got = append(got, line)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestEmptyIsAbsent holds that a list or map that is there and empty, as a
// record may have it, differs in nothing from none.
func TestEmptyIsAbsent(t *testing.T) {
	empty := &Task{
		Hosts: []string{}, Env: map[string]string{}, Meta: map[string]string{}, DependsOn: []string{},
		Config: Config{Args: []string{}, PortMap: map[string]int{}}, Resources: Resources{Ports: []Port{}},
	}
	if got := Differences(empty, &Task{}); got != nil {
		t.Errorf("%+v", got)
	}
}

// TestAbsentIsWrittenAsEmpty: no reader of JSON has to know that a list or map may
// be null.
func TestAbsentIsWrittenAsEmpty(t *testing.T) {
	full, bare := base(), &Task{}
	for _, differences := range [][]Difference{Differences(full, bare), Differences(bare, full)} {
		for _, d := range differences {
			from, _ := json.Marshal(d.From)
			to, _ := json.Marshal(d.To)
			if string(from) == "null" || string(to) == "null" {
				t.Errorf("%s: from %s to %s", d.Field, from, to)
			}
		}
	}
}

// TestEveryFieldHasAPrice changes each leaf of a Task by reflection: whoever
// adds a field must say what a change of it costs.
func TestEveryFieldHasAPrice(t *testing.T) {
	free := []string{"Name", "State"}
	var walk func(path []string, at reflect.Type, index []int)
	walk = func(path []string, at reflect.Type, index []int) {
		for i := range at.NumField() {
			f := at.Field(i)
			here, where := append(slices.Clone(path), f.Name), append(slices.Clone(index), i)
			if f.Type.Kind() == reflect.Struct {
				walk(here, f.Type, where)
				continue
			}
			wanted := base()
			reflect.ValueOf(wanted).Elem().FieldByIndex(where).SetZero()
			count, want := len(Differences(base(), wanted)), 1
			if slices.Contains(free, strings.Join(here, ".")) {
				want = 0
			}
			if count != want {
				t.Errorf("%s makes %d differences, want %d", strings.Join(here, "."), count, want)
			}
		}
	}
	walk(nil, reflect.TypeFor[Task](), nil)
}

func TestFieldsAreSorted(t *testing.T) {
	if !slices.IsSortedFunc(fields, func(a, b field) int { return strings.Compare(a.name, b.name) }) {
		t.Error("the table of fields is not sorted")
	}
}
