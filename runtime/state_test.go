package runtime

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/qemu-reconciler/qemu-reconciler/spec"
)

// fullRecord has a value in every field that the golden file of version 1 has.
func fullRecord() *Record {
	at := time.Date(2026, 1, 2, 3, 4, 5, 678e6, time.UTC)
	code := 1
	task := &spec.Task{
		Name: "web", State: spec.StateRunning, Hosts: []string{"h*"}, OnChange: spec.OnChangeRestart, OnRemove: spec.OnRemoveStop,
		KillTimeout: spec.Duration(time.Minute), Env: map[string]string{"A": "b"}, Meta: map[string]string{"team": "x"},
		Config: spec.Config{
			ImagePath: "/srv/web.qcow2", Accelerator: "tcg", Args: []string{"-nodefaults"}, GracefulShutdown: true,
			Emulator: "qemu-system-x86_64", MachineType: "pc", DriveInterface: "ide", PortMap: map[string]int{"ssh": 22},
		},
		Resources: spec.Resources{MemoryMiB: 512, Cores: 2, Ports: []spec.Port{{Label: "ssh", Protocols: []string{"tcp"}}}},
		Restart:   spec.Restart{On: spec.RestartAlways, Interval: spec.Duration(10 * time.Minute), Delay: spec.Duration(time.Second), MaxDelay: spec.Duration(time.Minute), Mode: spec.ModeDelay},
	}
	return &Record{
		Version: 1, Task: "web", File: "web.hcl", Wanted: task, Applied: task, UUID: "6f1b1cb0-4b86-5c0e-9d4f-7b1a2c3d4e5f",
		Ports: map[string]int{"ssh": 20022}, Format: &PinnedFormat{Format: "qcow2", Device: 1, Inode: 2},
		Intent: &Intent{Kind: IntentStop, At: at, BootID: "b", SocketInode: 3, Reason: "removed", Rung: RungACPI},
		Process: &ProcessInfo{
			PID: 42, StartTicks: 4711, BootID: "b", StartedAt: at, Argv: []string{"/usr/bin/qemu-system-x86_64", "-name", "web"},
			Version: "7.2.22", Format: "qcow2", Forwards: task.Forwards(map[string]int{"ssh": 20022}), Answered: true, LogOffset: 10, EventsSeen: at,
		},
		Held: true, Kept: true, Restarts: 4, Reboots: 5, Attempts: []time.Time{at}, GaveUp: true, Failure: "f", FailedAt: at,
		LastExit: &Exit{At: at, Cause: CauseCrashed, Code: &code, Signal: "", Rung: RungQuit, Seconds: 1.5, Words: []string{"w"}, BootID: "b", PID: 41, StartedAt: at},
	}
}

func testStore(t *testing.T) *Store {
	t.Helper()
	layout := Layout{State: t.TempDir(), Run: t.TempDir()}
	must(t, layout.Prepare())
	return OpenStore(layout)
}

// TestGoldenRecord: a record that the first version wrote is understood for
// ever. The file is never regenerated; a change of the format is a new version.
func TestGoldenRecord(t *testing.T) {
	t.Parallel()
	got, _, err := readRecord(filepath.Join("testdata", "records", "v1.json"), "web")
	must(t, err)
	if diff := cmp.Diff(fullRecord(), got); diff != "" {
		t.Error(diff)
	}
	if len(upgrades)+1 != RecordVersion {
		t.Errorf("%d upgrades do not lead to version %d", len(upgrades), RecordVersion)
	}
}

func TestUpgradeChain(t *testing.T) {
	t.Parallel()
	var steps []string
	rename := func(step, from, to string) upgrade {
		return func(document map[string]json.RawMessage) error {
			steps = append(steps, step)
			document[to] = document[from]
			delete(document, from)
			return nil
		}
	}
	chain := []upgrade{rename("1→2", "label", "name"), rename("2→3", "name", "task")}
	for raw, want := range map[string]string{
		`{"version":1,"label":"web"}`: "1→2 2→3",
		`{"version":2,"name":"web"}`:  "2→3",
		`{"version":3,"task":"web"}`:  "",
	} {
		steps = nil
		record, _, err := decodeRecord([]byte(raw), chain)
		if err != nil || record.Task != "web" || record.Version != 3 || strings.Join(steps, " ") != want {
			t.Errorf("%s: %+v, %v, steps %v", raw, record, err, steps)
		}
	}
	failing := []upgrade{func(map[string]json.RawMessage) error { return errors.New("cannot be") }}
	if _, _, err := decodeRecord([]byte(`{"version":1,"task":"web"}`), failing); err == nil {
		t.Error("a failed upgrade gave a record")
	}
}

func TestStorePutLoadDelete(t *testing.T) {
	t.Parallel()
	s := testStore(t)
	for _, durable := range []bool{false, true} {
		record := fullRecord()
		record.Restarts++
		must(t, s.Put(record, durable))
		stored, err := s.Load()
		must(t, err)
		if diff := cmp.Diff(record, stored.Records["web"]); diff != "" {
			t.Errorf("durable %v: %s", durable, diff)
		}
	}
	// A dot in a task's name makes none of its files another's.
	for _, name := range []string{"web.json", "web.json.durable", "web.json.corrupt-1"} {
		must(t, s.Put(&Record{Version: 1, Task: name}, true))
	}
	stored, err := s.Load()
	must(t, err)
	if len(stored.Records) != 4 || len(stored.Spare)+len(stored.Corrupt)+len(stored.Untouchable) != 0 {
		t.Errorf("stored: %+v", stored)
	}
	for name := range stored.Records {
		info, err := os.Stat(s.layout.Record(name))
		must(t, err)
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", name, info.Mode())
		}
		must(t, s.Delete(name))
		must(t, s.Delete(name))
	}
	entries, err := os.ReadDir(s.layout.TasksDir())
	must(t, err)
	if len(entries) != 0 {
		t.Errorf("left: %v", entries)
	}
}

func TestStoreSetsAside(t *testing.T) {
	t.Parallel()
	s := testStore(t)
	write := func(name, content string) {
		must(t, os.WriteFile(filepath.Join(s.layout.TasksDir(), name), []byte(content), 0o600))
	}
	must(t, s.Put(&Record{Version: 1, Task: "safe", Held: true}, true))
	corrupt := map[string]string{
		"safe": "", "cut": `{"version":1,"task":"cut"`, "zero": `{"task":"zero"}`, "other": `{"version":1,"task":"web"}`,
		"port": `{"version":1,"task":"port","ports":{"a":70000}}`, "process": `{"version":1,"task":"process","process":{"pid":1}}`,
		"intent":     `{"version":1,"task":"intent","intent":{"kind":"dance"}}`,
		"definition": `{"version":1,"task":"definition","wanted":{"name":"web"}}`,
		"list":       `[]`, "type": `{"version":1,"task":"type","ports":7}`,
	}
	for name, content := range corrupt {
		write(name+".json", content)
	}
	write("newer.json", `{"version":2,"task":"newer"}`)
	must(t, os.Mkdir(filepath.Join(s.layout.TasksDir(), "unreadable.json"), 0o700))
	write(".web.json-123", "never finished")
	stored, err := s.Load()
	must(t, err)
	for name, content := range corrupt {
		if stored.Corrupt[name] == nil || stored.Records[name] != nil {
			t.Errorf("%s: %v", name, stored.Corrupt[name])
		}
		aside, err := filepath.Glob(filepath.Join(s.layout.TasksDir(), name+".json.corrupt-*"))
		if err != nil || len(aside) != 1 {
			t.Errorf("%s: set aside as %v, %v", name, aside, err)
			continue
		}
		if raw, err := os.ReadFile(aside[0]); err != nil || string(raw) != content {
			t.Errorf("%s: %q, %v", name, raw, err)
		}
	}
	var newer *NewerError
	if !errors.As(stored.Untouchable["newer"], &newer) || newer.Version != 2 || stored.Untouchable["unreadable"] == nil || len(stored.Untouchable) != 2 {
		t.Errorf("untouchable: %v", stored.Untouchable)
	}
	if spare := stored.Spare["safe"]; spare == nil || !spare.Held {
		t.Errorf("spare: %v", stored.Spare)
	}
	if _, err := os.Stat(filepath.Join(s.layout.TasksDir(), ".web.json-123")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("leftover: %v", err)
	}
	// A death before the copy is written in its place changes nothing.
	again, err := s.Load()
	must(t, err)
	if again.Corrupt["safe"] == nil || again.Spare["safe"] == nil || len(again.Corrupt) != 1 {
		t.Errorf("corrupt again: %v, spare: %v", again.Corrupt, again.Spare)
	}
	must(t, s.Put(again.Spare["safe"], false))
	again, err = s.Load()
	must(t, err)
	if len(again.Corrupt) != 0 || again.Records["safe"] == nil {
		t.Errorf("corrupt after it was replaced: %v", again.Corrupt)
	}
}

// TestStoreCannotSetAside: a corrupt record that stays where it is is left
// alone, and so is its copy.
func TestStoreCannotSetAside(t *testing.T) {
	t.Parallel()
	s := testStore(t)
	s.now = func() time.Time { return time.Unix(1, 0) }
	must(t, s.Put(&Record{Version: 1, Task: "web", Held: true}, true))
	must(t, os.Truncate(s.layout.Record("web"), 0))
	must(t, os.Mkdir(filepath.Join(s.layout.TasksDir(), "web.json.corrupt-19700101T000001.000000000"), 0o700))
	stored, err := s.Load()
	must(t, err)
	if stored.Untouchable["web"] == nil || len(stored.Corrupt)+len(stored.Spare)+len(stored.Records) != 0 {
		t.Errorf("loaded: %s", asJSON(stored))
	}
}

// TestStoreFullDisk: a write that fails leaves the record as it was, and
// nothing beside it.
func TestStoreFullDisk(t *testing.T) {
	t.Parallel()
	s := testStore(t)
	must(t, s.Put(&Record{Version: 1, Task: "web", Restarts: 1}, true))
	mountFull(t, s.layout.State, func() {
		must(t, s.layout.Prepare())
		must(t, s.Put(&Record{Version: 1, Task: "web", Restarts: 2}, true))
	})
	for _, durable := range []bool{false, true} {
		huge := &Record{Version: 1, Task: "web", Failure: strings.Repeat("x", 1<<20)}
		if err := s.Put(huge, durable); !errors.Is(err, unix.ENOSPC) {
			t.Errorf("durable %v: %v", durable, err)
		}
		stored, err := s.Load()
		must(t, err)
		if got := stored.Records["web"]; got == nil || got.Restarts != 2 {
			t.Errorf("durable %v: %+v", durable, got)
		}
	}
}

// mountFull puts a file system of 64 KiB over a directory for the test.
func mountFull(t *testing.T, dir string, fill func()) {
	t.Helper()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Skipf("needs the right to mount: %v", err)
	}
	t.Cleanup(func() { must(t, unix.Unmount(dir, 0)) })
	fill()
}

// FuzzRecord: no bytes make the reader fall, and what it takes it writes and
// takes again as the same.
func FuzzRecord(f *testing.F) {
	golden, err := os.ReadFile(filepath.Join("testdata", "records", "v1.json"))
	must(f, err)
	for _, seed := range []string{string(golden), "", "{}", `{"version":1}`, `{"version":1,"task":"a","attempts":null,"ports":{}}`, `{"version":1e0,"task":"\ud800"}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		record, _, err := decodeRecord(raw, upgrades)
		if err != nil {
			return
		}
		first, err := json.Marshal(record)
		if err != nil {
			t.Fatalf("%q cannot be written: %v", raw, err)
		}
		again, _, err := decodeRecord(first, upgrades)
		if err != nil {
			t.Fatalf("%q was taken and %s is not: %v", raw, first, err)
		}
		if second, err := json.Marshal(again); err != nil || string(second) != string(first) {
			t.Fatalf("%q: %s became %s (%v)", raw, first, second, err)
		}
		if clone, err := json.Marshal(record.clone()); err != nil || string(clone) != string(first) || lasting(record, record.clone()) {
			t.Fatalf("%s cloned is %s (%v)", first, clone, err)
		}
	})
}

// TestCloneIsApart: changing a clone leaves the original alone.
func TestCloneIsApart(t *testing.T) {
	t.Parallel()
	original := fullRecord()
	clone := original.clone()
	clone.Ports["ssh"], clone.Attempts[0], clone.Format.Inode = 1, time.Time{}, 9
	clone.Intent.Rung, clone.Process.Answered, clone.LastExit.Cause = "", false, ""
	if diff := cmp.Diff(fullRecord(), original); diff != "" {
		t.Error(diff)
	}
	if lasting(original, func() *Record { r := original.clone(); r.Intent, r.Process = nil, nil; return r }()) {
		t.Error("what is under way needs no sync")
	}
	for name, edit := range map[string]func(*Record){
		"held": func(r *Record) { r.Held = false }, "ports": func(r *Record) { r.Ports["ssh"]++ }, "format": func(r *Record) { r.Format.Inode++ },
		"applied": func(r *Record) { task := *r.Applied; task.Resources.Cores++; r.Applied = &task }, "uuid": func(r *Record) { r.UUID = "" },
		"exit": func(r *Record) { exit := *r.LastExit; exit.Code = nil; r.LastExit = &exit }, "restarts": func(r *Record) { r.Restarts++ },
		"reboots": func(r *Record) { r.Reboots++ }, "attempts": func(r *Record) { r.Attempts = nil }, "failure": func(r *Record) { r.Failure = "" },
	} {
		changed := original.clone()
		edit(changed)
		if !lasting(original, changed) {
			t.Errorf("%s would be lost in a power cut", name)
		}
	}
}

func TestDeriveUUID(t *testing.T) {
	t.Parallel()
	base := deriveUUID("m", "/s", "web")
	if base != deriveUUID("m", "/s", "web") || len(base) != 36 || base[14] != '5' {
		t.Errorf("UUID %s", base)
	}
	seen := map[string]string{base: "base"}
	for _, parts := range [][3]string{{"n", "/s", "web"}, {"m", "/t", "web"}, {"m", "/s", "db"}, {"m/", "s", "web"}, {"", "m/s", "web"}} {
		got := deriveUUID(parts[0], parts[1], parts[2])
		if other, taken := seen[got]; taken {
			t.Errorf("%v has the UUID of %s", parts, other)
		}
		seen[got] = fmt.Sprint(parts)
	}
	task := &spec.Task{Name: "web"}
	given := &spec.Task{Name: "web", UUID: "g"}
	for name, c := range map[string]struct {
		task   *spec.Task
		record *Record
		want   string
	}{
		"new":             {task, nil, base},
		"kept":            {task, &Record{UUID: "old", Applied: task}, "old"},
		"given":           {given, &Record{UUID: "old", Applied: task}, "g"},
		"given no longer": {task, &Record{UUID: "g", Applied: given}, base},
	} {
		if got := uuidOf(c.task, c.record, "m", "/s"); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}
