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
// waiting, begun; or it failed.
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
	var before map[string]int
	if verb == verbRestart.name {
		before = processes(v.engine.Status())
	}
	if err := do(ctx, names, wait != "false"); err != nil {
		v.refuse(w, verb, body, wait != "false", before, err)
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
func (v taskVerbs) refuse(w http.ResponseWriter, verb string, request tasksRequest, wait bool, before map[string]int, err error) {
	var unknown *reconcile.UnknownTaskError
	var failed *reconcile.CommandError
	switch {
	case errors.As(err, &unknown):
		refuse(w, http.StatusNotFound, codeUnknownTask, unknownTasks(unknown.Names, v.engine.Status().VMsDir).Error())
	case v.daemon.Err() != nil:
		refuse(w, http.StatusServiceUnavailable, codeStopping, "the daemon is stopping; VMs stay as they are, and the next daemon finishes what was begun")
	case !errors.As(err, &failed):
		refuse(w, http.StatusInternalServerError, codeTaskFailed, err.Error())
	default:
		sentences := v.sentences(verb, failed.Reasons, before)
		message := strings.Join(slices.Sorted(maps.Values(sentences)), "; ")
		for _, name := range request.Names {
			if sentences[name] == "" && !failed.Others {
				sentences[name] = fmt.Sprintf("did not %s %s: nothing is done when a task is refused", verb, name)
			}
		}
		answer(w, http.StatusConflict, errorAnswer{
			Error: errorBody{Code: codeTaskFailed, Message: message}, Tasks: results(request.Names, wait, sentences),
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

// results are those of tasks that failed with a sentence, and of the others:
// done, or begun when nobody waits.
func results(names []string, wait bool, sentences map[string]string) []taskResult {
	out := make([]taskResult, len(names))
	for i, name := range names {
		out[i] = taskResult{Task: name, Error: sentences[name]}
		if out[i].Error == "" {
			out[i].Done, out[i].Begun = wait, !wait
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
