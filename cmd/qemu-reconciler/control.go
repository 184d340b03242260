package main

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/qemu-reconciler/qemu-reconciler/reconcile"
)

// engine is what the control socket asks of the daemon's loop.
type engine interface {
	Health() reconcile.DaemonStatus
	Status() reconcile.Status
	StatusNow(show bool) reconcile.Status
	StatusAfterLook(ctx context.Context, show bool) reconcile.Status
	Plan() reconcile.PlanReport
	StartTasks(ctx context.Context, names []string, wait bool) error
	StopTasks(ctx context.Context, names []string, wait bool) error
	RestartTasks(ctx context.Context, names []string, wait bool) error
	Approve() ([]string, error)
}

// The codes of an error answer.
const (
	codeUnknownTask = "unknown-task"
	codeTaskFailed  = "task-failed"
	codeNothingHeld = "nothing-held"
	codeHeldChanged = "held-changed"
	codeStopping    = "stopping"
	codeBadRequest  = "bad-request"
)

// errorAnswer is the body of every answer that is not a success.
type errorAnswer struct {
	Error errorBody `json:"error"`
	// Tasks are the results of a verb that was carried out for some only.
	Tasks []taskResult `json:"tasks,omitempty"`
}

type errorBody struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

// approveAnswer names the removals that were let go.
type approveAnswer struct {
	Approved []string `json:"approved"`
}

// newControl is the daemon's HTTP server; the caller gives it the socket.
// Actions under way end with an error when ctx is done: the daemon is going,
// not the VM.
func newControl(ctx context.Context, e engine) *http.Server {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/health", func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, e.Health()) })
	mux.HandleFunc("GET /v1/status", func(w http.ResponseWriter, r *http.Request) { showStatus(w, r, e) })
	mux.HandleFunc("GET /v1/plan", func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, e.Plan()) })
	verbs := taskVerbs{daemon: ctx, engine: e}
	mux.HandleFunc("POST /v1/tasks/{verb}", verbs.serve)
	mux.HandleFunc("POST /v1/approve", func(w http.ResponseWriter, _ *http.Request) { approveHeld(w, e) })
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		refuse(w, http.StatusNotFound, codeBadRequest, "there is no "+r.Method+" "+r.URL.Path+" in this version")
	})
	return &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute}
}

// showStatus answers from memory, or with look=true after a look at the task
// directory. With show=true an operator sees the whole answer.
func showStatus(w http.ResponseWriter, r *http.Request, e engine) {
	show := r.URL.Query().Get("show") == "true"
	if r.URL.Query().Get("look") == "true" {
		answer(w, http.StatusOK, e.StatusAfterLook(r.Context(), show))
		return
	}
	answer(w, http.StatusOK, e.StatusNow(show))
}

// approveHeld says which removals wait for something else when there is none
// that an approval would let go.
func approveHeld(w http.ResponseWriter, e engine) {
	names, err := e.Approve()
	if err == nil {
		answer(w, http.StatusOK, approveAnswer{Approved: names})
		return
	}
	var changed *reconcile.HeldChangedError
	switch {
	case errors.As(err, &changed):
		refuse(w, http.StatusConflict, codeHeldChanged, err.Error())
	case errors.Is(err, reconcile.ErrNothingHeld):
		message := "nothing to approve"
		for _, held := range heldRemovals(e.Status()) {
			message += "; " + held
		}
		refuse(w, http.StatusConflict, codeNothingHeld, message)
	default:
		refuse(w, http.StatusInternalServerError, codeTaskFailed, err.Error())
	}
}

func refuse(w http.ResponseWriter, status int, code, message string) {
	answer(w, status, errorAnswer{Error: errorBody{Code: code, Message: message}})
}

// answer writes a JSON body. A client that has gone away is no concern.
func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}
