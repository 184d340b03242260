package reconcile

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/qemu-reconciler/qemu-reconciler/runtime"
	"github.com/qemu-reconciler/qemu-reconciler/spec"
)

var update = flag.Bool("update", false, "write the verdicts that are seen into the stories")

// story is the moment at which every test world is looked at.
var story = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// TestDiff reads stories. Each is a txtar file:
//
//	dir/NAME.hcl      what the task directory holds
//	applied/NAME.hcl  what the records hold as applied and wanted
//	world             one line a task (or "dir"): facts as key=value
//	verdicts          what Diff makes of it
//
// Times are offsets from now, e.g. exit=crashed@-3s.
func TestDiff(t *testing.T) {
	paths, err := filepath.Glob("testdata/diff/*.txtar")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no stories: %v", err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(path)
			if err != nil {
				t.Fatal(err)
			}
			w := readWorld(t, archive)
			got := showVerdicts(Diff(w))
			for i := range archive.Files {
				f := &archive.Files[i]
				if f.Name != "verdicts" {
					continue
				}
				if *update {
					f.Data = []byte(got)
					if err := os.WriteFile(path, txtar.Format(archive), 0o644); err != nil {
						t.Fatal(err)
					}
				}
				if diff := cmp.Diff(string(f.Data), got); diff != "" {
					t.Errorf("verdicts (-want +got):\n%s", diff)
				}
				return
			}
			t.Fatalf("the story has no verdicts; they are:\n%s", got)
		})
	}
}

// storyWorld is a world with what a story says for several of its lines.
type storyWorld struct {
	*World
	// ranThen is how many VMs ran when the tasks after it were missed.
	ranThen int
}

func readWorld(t *testing.T, archive *txtar.Archive) *World {
	t.Helper()
	w := storyWorld{World: &World{
		Now: story, Read: story, BootID: "this-boot", Set: &spec.Set{Dir: "/vms"}, Observed: map[string]runtime.Observation{},
		Absent: map[string]Absence{}, Busy: map[string]Step{}, Starting: map[string]*spec.Task{}, Asked: map[string]Ask{}, Faults: map[string]Fault{},
		Removals: runtime.Removals{Held: map[string]runtime.HeldRemoval{}, Begun: map[string]runtime.BegunRemoval{}},
	}}
	appliedTasks := map[string]*spec.Definition{}
	var facts string
	for _, f := range archive.Files {
		dir, name := filepath.Split(f.Name)
		switch {
		case f.Name == "world":
			facts = string(f.Data)
		case dir == "dir/":
			source := spec.Parse(name, f.Data, testEnv)
			w.Set.Files = append(w.Set.Files, spec.File{Path: name, Errors: source.Errors, Warnings: source.Warnings, Faulty: source.Faulty, Mentioned: source.Mentioned})
			w.Set.Definitions = append(w.Set.Definitions, source.Definitions...)
		case dir == "applied/":
			source := spec.Parse(name, f.Data, testEnv)
			if len(source.Errors) > 0 {
				t.Fatalf("applied definitions must be sound: %v", source.Errors)
			}
			for _, d := range source.Definitions {
				appliedTasks[d.Task.Name] = d
			}
		}
	}
	sortDefinitions(w.Set.Definitions)
	for name, d := range appliedTasks {
		w.Observed[name] = runtime.Observation{Record: &runtime.Record{Task: name, File: d.File, Wanted: d.Task, Applied: d.Task}}
	}
	for line := range strings.Lines(facts) {
		if fields := strings.Fields(line); len(fields) > 0 {
			applyFacts(t, &w, fields[0], fields[1:])
		}
	}
	return w.World
}

var testEnv = spec.Env{Dir: "/vms", HostName: "host1", HostArch: "x86_64"}

// storyStart is when the process of every task that runs was started; a removal that
// began before was of another.
var storyStart = story.Add(-time.Hour)

func applyFacts(t *testing.T, w *storyWorld, name string, facts []string) {
	t.Helper()
	o := w.Observed[name]
	if o.Record == nil {
		o.Record = &runtime.Record{Task: name}
	}
	for _, fact := range facts {
		key, value, _ := strings.Cut(fact, "=")
		if name == "dir" {
			applyDirFact(t, w, key, value)
			continue
		}
		switch key {
		case "absent":
			w.Absent[name] = Absence{Since: offset(t, value), Ran: w.ranThen}
		case "removal-held", "removal-approved":
			w.Removals.Held[name] = runtime.HeldRemoval{Since: story.Add(-time.Hour), Ran: w.ranThen, Approved: key == "removal-approved"}
		case "removal-begun":
			begun := runtime.BegunRemoval{At: offset(t, value), Ran: w.ranThen}
			if begun.At.After(storyStart) {
				begun.StartedAt = storyStart
			}
			w.Removals.Begun[name] = begun
		case "busy":
			w.Busy[name] = Step(value)
		case "starting":
			w.Busy[name], w.Starting[name] = StepStart, o.Record.Applied
			o.Record = &runtime.Record{Task: name}
		case "ask":
			w.Asked[name] = Ask(value)
		case "fault":
			i, _ := findDefinition(w.Set.Definitions, name)
			w.Faults[name] = Fault{Reason: "no space left", Until: offset(t, value), wanted: w.Set.Definitions[i].Task}
		default:
			applyRecordFact(t, &o, key, value)
		}
	}
	if name != "dir" {
		w.Observed[name] = o
	}
}

func applyDirFact(t *testing.T, w *storyWorld, key, value string) {
	t.Helper()
	switch key {
	case "error":
		w.Set.Err = fmt.Errorf("open /vms: %s", value)
	case "event":
		w.LastEvent = offset(t, value)
	case "unsettled":
		w.Set.Unsettled, w.Set.Writing = true, []string{value}
	case "complete":
		w.Set.CompleteAt = offset(t, value)
	case "stopping":
		w.Stopping = true
	case "read":
		w.Read = offset(t, value)
	case "blind":
		w.Blind = true
	case "ran":
		w.ranThen = number(t, value)
	case "max-removals":
		most := number(t, value)
		w.MaxRemovals = &most
	case "removals-unknown":
		w.RemovalsFault = "removals.json has version 9"
	default:
		t.Fatalf("unknown fact of the directory: %s", key)
	}
}

func applyRecordFact(t *testing.T, o *runtime.Observation, key, value string) {
	t.Helper()
	r := o.Record
	switch key {
	case "alive":
		o.Alive, o.Answering = true, true
		r.Process = &runtime.ProcessInfo{PID: 4242, StartedAt: storyStart, Answered: true}
		if r.Applied != nil {
			r.Process.Forwards = r.Applied.Forwards(r.Ports)
		}
	case "silent":
		o.Answering, r.Process.Answered = false, false
	case "paused":
		o.Paused = value
	case "trouble":
		o.Trouble = value
	case "held":
		r.Held = true
	case "due":
		r.Due = true
	case "gave-up":
		r.GaveUp = true
	case "refused":
		o.Refused = "its record is of version " + value
	case "format":
		r.Process.Format = value
	case "kept":
		r.Kept = true
	case "file":
		r.File = value
	case "unrecorded":
		r.Applied, r.Wanted = nil, nil
	case "stop-intent":
		r.Intent = &runtime.Intent{Kind: runtime.IntentStop, Reason: value}
	case "exit":
		cause, at, _ := strings.Cut(value, "@")
		r.LastExit = &runtime.Exit{Cause: cause, At: offset(t, at), BootID: "this-boot"}
	case "ran":
		d, err := time.ParseDuration(value)
		if err != nil {
			t.Fatal(err)
		}
		r.LastExit.StartedAt = r.LastExit.At.Add(-d)
	case "boot":
		r.LastExit.BootID = value
	case "rung":
		r.LastExit.Rung = value
	case "failure":
		r.Failure = value
	case "attempts":
		for at := range strings.SplitSeq(value, ",") {
			r.Attempts = append(r.Attempts, offset(t, at))
		}
	case "port":
		label, port, _ := strings.Cut(value, ":")
		r.Ports = map[string]int{label: number(t, port)}
	default:
		t.Fatalf("unknown fact: %s", key)
	}
}

func number(t *testing.T, text string) int {
	t.Helper()
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func offset(t *testing.T, text string) time.Time {
	t.Helper()
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatal(err)
	}
	return story.Add(d)
}

func showVerdicts(verdicts []Verdict) string {
	var out strings.Builder
	for _, v := range verdicts {
		step := string(v.Step)
		if v.Step == StepNone {
			step = "-"
		}
		fmt.Fprintf(&out, "%s: step=%s action=%s/%s phase=%s desired=%s converged=%t", v.Task, step,
			v.Change.Action, v.Change.Price, v.Phase, v.Desired, v.Converged)
		if v.ByPolicy {
			out.WriteString(" by-policy")
		}
		if v.Final {
			out.WriteString(" final")
		}
		if v.Braked {
			out.WriteString(" braked")
		}
		if v.Removal != nil && !v.Braked {
			out.WriteString(" removal")
		}
		if v.Hidden {
			out.WriteString(" hidden")
		}
		if v.Look {
			out.WriteString(" look")
		}
		if !v.Wake.IsZero() {
			fmt.Fprintf(&out, " wake=%s", v.Wake.Sub(story))
		}
		if v.Reason != "" {
			fmt.Fprintf(&out, "\n  status: %s", v.Reason)
		}
		if v.Change.Reason != "" {
			fmt.Fprintf(&out, "\n  plan: %s", v.Change.Reason)
		}
		for _, f := range v.Change.Fields {
			fmt.Fprintf(&out, "\n  field: %s %v -> %v (%s)", f.Field, f.From, f.To, f.Price)
		}
		out.WriteString("\n")
	}
	return out.String()
}
