package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"strconv"
	"syscall"
	"time"

	"github.com/qemu-reconciler/qemu-reconciler/reconcile"
	"github.com/qemu-reconciler/qemu-reconciler/runtime"
)

// answerTimeout is for everything that does not wait for a VM: the daemon
// answers from memory.
const answerTimeout = 3 * time.Second

// client speaks to the daemon over its control socket.
type client struct {
	socket string
	http   *http.Client
	// holder gives the pid of the daemon whose socket this is, whether it can
	// be reached or not; zero for none. Nil knows of none.
	holder func(context.Context) int
	// patience is how long an answer from memory may take.
	patience time.Duration
}

func newClient(socket string) *client {
	return &client{socket: socket, patience: answerTimeout, http: &http.Client{Transport: &http.Transport{
		DialContext: runtime.ControlDialer(socket), DisableKeepAlives: true,
	}}}
}

// noDaemonError says that nobody listens on the control socket.
type noDaemonError struct{ socket string }

func (e *noDaemonError) Error() string {
	return fmt.Sprintf("no daemon answers on %s: start it with `qemu-reconciler run` or as the systemd service, or name its --run-dir", e.socket)
}

// lostSocketError says that a daemon runs and nobody listens on its socket.
type lostSocketError struct {
	socket string
	pid    int
}

func (e *lostSocketError) Error() string {
	return fmt.Sprintf("daemon %d runs, but its control socket %s is gone: it makes a new one when it looks again, at once after `kill -HUP %d`",
		e.pid, e.socket, e.pid)
}

func isNoDaemon(err error) bool {
	var none *noDaemonError
	return errors.As(err, &none)
}

// silentDaemonError says that a daemon is there and does not answer in time.
type silentDaemonError struct {
	socket string
	after  time.Duration
}

func (e *silentDaemonError) Error() string {
	return fmt.Sprintf("the daemon on %s does not answer within %s: look at its log, and restart it if it hangs (its VMs go on)", e.socket, e.after)
}

// answerError is an error that the daemon answered.
type answerError struct {
	errorBody
	tasks []taskResult
}

func (e *answerError) Error() string { return e.Message }

// Status asks for the daemon's status after a look at the task directory: a
// script that has just written a file must not hear of convergence before that
// file was read. With show the operator sees all of it, and may approve the
// removals that it lists as held. It never hangs.
func (c *client) Status(ctx context.Context, show bool) (reconcile.Status, error) {
	var st reconcile.Status
	err := c.soon(ctx, http.MethodGet, "/v1/status?look=true&show="+strconv.FormatBool(show), nil, &st)
	return st, err
}

// Plan asks what a pass would do.
func (c *client) Plan(ctx context.Context) (reconcile.PlanReport, error) {
	var plan reconcile.PlanReport
	err := c.soon(ctx, http.MethodGet, "/v1/plan", nil, &plan)
	return plan, err
}

// Approve lets the held removals go and gives their names.
func (c *client) Approve(ctx context.Context) ([]string, error) {
	var out approveAnswer
	err := c.soon(ctx, http.MethodPost, "/v1/approve", nil, &out)
	return out.Approved, err
}

// Act asks for start, stop or restart of tasks. With wait it returns when that
// is done, however long a guest takes to power off. The results are there with
// an *answerError, too, as far as there are any.
func (c *client) Act(ctx context.Context, verb string, tasks []string, wait bool) ([]taskResult, error) {
	path := "/v1/tasks/" + verb + "?wait=" + strconv.FormatBool(wait)
	send := c.soon
	if wait {
		if err := c.health(ctx); err != nil {
			return nil, err
		}
		send = c.do
	}
	var out tasksAnswer
	err := send(ctx, http.MethodPost, path, tasksRequest{Names: tasks}, &out)
	var failed *answerError
	if errors.As(err, &failed) {
		return failed.tasks, err
	}
	return out.Tasks, err
}

// health notices a daemon that hangs before there is a wait for a guest: there is no
// telling later how long that takes from how long the daemon is silent. The status
// would do as well, but has every QEMU asked whether it answers.
func (c *client) health(ctx context.Context) error {
	err := c.soon(ctx, http.MethodGet, "/v1/health", nil, &reconcile.DaemonStatus{})
	if older := (*answerError)(nil); errors.As(err, &older) {
		return nil // one that was not restarted after an upgrade does not know the question
	}
	return err
}

// soon is do with the deadline of an answer from memory.
func (c *client) soon(ctx context.Context, method, path string, body, out any) error {
	inner, cancel := context.WithTimeout(ctx, c.patience)
	defer cancel()
	err := c.do(inner, method, path, body, out)
	if err != nil && ctx.Err() == nil && inner.Err() != nil {
		return &silentDaemonError{socket: c.socket, after: c.patience}
	}
	return err
}

// do sends body as JSON, unless it is nil, and reads the answer into out.
func (c *client) do(ctx context.Context, method, path string, body, out any) error {
	var text []byte
	if body != nil {
		var err error
		if text, err = json.Marshal(body); err != nil {
			return fmt.Errorf("request to the daemon: %w", err)
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://daemon"+path, bytes.NewReader(text))
	if err != nil {
		return fmt.Errorf("request to the daemon: %w", err)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return c.explain(ctx, err)
	}
	defer resp.Body.Close()
	text, err = io.ReadAll(resp.Body)
	if err != nil {
		return c.explain(ctx, err)
	}
	if resp.StatusCode != http.StatusOK {
		return failure(resp.Status, text)
	}
	if err := json.Unmarshal(text, out); err != nil {
		return fmt.Errorf("the daemon's answer is not what this version expects (is it of another version?): %w", err)
	}
	return nil
}

// explain turns a transport's error into what an operator can act on.
func (c *client) explain(ctx context.Context, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		if c.holder != nil {
			if pid := c.holder(ctx); pid != 0 {
				return &lostSocketError{socket: c.socket, pid: pid}
			}
		}
		return &noDaemonError{socket: c.socket}
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("permission denied on %s: the daemon belongs to another user; run this as that user (root: with sudo)", c.socket)
	case ctx.Err() != nil:
		return ctx.Err()
	}
	return fmt.Errorf("the connection to the daemon on %s broke: %w; look with `qemu-reconciler status`", c.socket, err)
}

func failure(status string, body []byte) error {
	var a errorAnswer
	if err := json.Unmarshal(body, &a); err != nil || a.Error.Message == "" {
		return fmt.Errorf("the daemon answered %s", status)
	}
	return &answerError{errorBody: a.Error, tasks: a.Tasks}
}
