package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/qemu-reconciler/qemu-reconciler/reconcile"
)

// maxRequest bounds the body of a request, in bytes.
const maxRequest = 1 << 20

// tasksRequest is the body of a verb for several tasks.
type tasksRequest struct {
	Names []string `json:"names"`
}

// tasksAnswer says of each task of a verb what came of it.
type tasksAnswer struct {
	Tasks []taskResult `json:"tasks"`
}

// taskResult is what came of a verb for one task: it is done or, without
// waiting, begun; or it failed. Neither means that it was given up for
// another's failure before anybody knew.
type taskResult struct {
	Task  string `json:"task"`
	Done  bool   `json:"done"`
	Begun bool   `json:"begun"`
	// Error is a whole sentence that names the task.
	Error string `json:"error,omitempty"`
}

// taskVerbs serves start, stop and restart. All tasks of a request go to the
// engine in one call, which does nothing when it does not know one of them.
type taskVerbs struct {
	// daemon ends with the daemon, and every wait with it.
	daemon context.Context
	engine engine
}

// serve runs the verb in the path. With wait=false it answers once the action
// is accepted, else once it is done.
func (v taskVerbs) serve(w http.ResponseWriter, r *http.Request) {
	verb, wait := r.PathValue("verb"), r.URL.Query().Get("wait")
	var body tasksRequest
	err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxRequest)).Decode(&body)
	do, names := v.verb(verb), body.Names
	switch {
	case do == nil:
		refuse(w, http.StatusNotFound, codeBadRequest, "there is no verb "+verb+" in this version")
		return
	case wait != "" && wait != "true" && wait != "false":
		refuse(w, http.StatusBadRequest, codeBadRequest, "wait is true or false")
		return
	case err != nil || len(names) == 0:
		refuse(w, http.StatusBadRequest, codeBadRequest, `the body is {"names": ["TASK", ...]}`)
		return
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(v.daemon, cancel)()
	before := processes(v.engine.Status())
	if err := do(ctx, names, wait != "false"); err != nil {
		v.refuse(w, verb, names, before, err)
		return
	}
	answer(w, http.StatusOK, tasksAnswer{Tasks: results(names, wait != "false", nil)})
}

// verb is nil for a word that is none.
func (v taskVerbs) verb(name string) func(ctx context.Context, names []string, wait bool) error {
	switch name {
	case verbStart.name:
		return v.engine.StartTasks
	case verbStop.name:
		return v.engine.StopTasks
	case verbRestart.name:
		return v.engine.RestartTasks
	}
	return nil
}

// refuse says why a verb was not, or not for all tasks, carried out.
func (v taskVerbs) refuse(w http.ResponseWriter, verb string, names []string, before map[string]int, err error) {
	var unknown *reconcile.UnknownTaskError
	reasons, waited := failures(err)
	switch {
	case errors.As(err, &unknown):
		refuse(w, http.StatusNotFound, codeUnknownTask, unknownTasks(unknown.Names, v.engine.Status().VMsDir).Error())
	case v.daemon.Err() != nil:
		refuse(w, http.StatusServiceUnavailable, codeStopping, "the daemon is stopping; VMs stay as they are, and the next daemon finishes what was begun")
	case len(reasons) == 0:
		refuse(w, http.StatusInternalServerError, codeTaskFailed, err.Error())
	default:
		sentences := v.sentences(verb, reasons, before)
		answer(w, http.StatusConflict, errorAnswer{
			Error: errorBody{Code: codeTaskFailed, Message: strings.Join(slices.Sorted(maps.Values(sentences)), "; ")},
			Tasks: results(names, waited, sentences),
		})
	}
}

// sentences say of each task that failed what became of it. before are the
// processes from before the verb: a restart may have got half way.
func (v taskVerbs) sentences(verb string, reasons map[string]string, before map[string]int) map[string]string {
	after := processes(v.engine.Status())
	out := map[string]string{}
	for task, reason := range reasons {
		out[task] = fmt.Sprintf("cannot %s %s: %s", verb, task, reason)
		if verb == verbRestart.name && before[task] != 0 && after[task] != before[task] {
			out[task] = fmt.Sprintf("%s was stopped and could not be started again: %s", task, reason)
		}
	}
	return out
}

// failures takes the engine's error apart, by task. waited says that it came
// after the wait for all tasks, so that the others are done.
func failures(err error) (reasons map[string]string, waited bool) {
	reasons = map[string]string{}
	all := []error{err}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		all, waited = joined.Unwrap(), true
	}
	for _, e := range all {
		var failed *reconcile.TaskError
		if errors.As(e, &failed) {
			reasons[failed.Task] = failed.Reason
		}
	}
	return reasons, waited
}

// results are those of tasks that failed with a sentence, and of the others:
// done is what became of them.
func results(names []string, done bool, sentences map[string]string) []taskResult {
	out := make([]taskResult, len(names))
	for i, name := range names {
		out[i] = taskResult{Task: name, Error: sentences[name]}
		if out[i].Error == "" {
			out[i].Done, out[i].Begun = done, !done && len(sentences) == 0
		}
	}
	return out
}

// processes are the pids of the tasks that have one.
func processes(st reconcile.Status) map[string]int {
	out := map[string]int{}
	for _, t := range st.Tasks {
		if t.PID != 0 {
			out[t.Name] = t.PID
		}
	}
	return out
}
