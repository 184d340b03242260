package main

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/go-hclog"

	"github.com/qemu-reconciler/qemu-reconciler/reconcile"
	"github.com/qemu-reconciler/qemu-reconciler/runtime"
)

// fakeEngine knows the tasks web and db. Its verbs end when finish is closed,
// or at once without wait.
type fakeEngine struct {
	begun  chan string
	finish chan struct{}
	fail   error
	// stopped is set when web has no process any more.
	stopped atomic.Bool
	// probed is set when all QEMUs would have been asked whether they answer.
	probed atomic.Bool
	held   []string
}

func newFakeEngine() *fakeEngine {
	return &fakeEngine{begun: make(chan string, 10), finish: make(chan struct{})}
}

func (f *fakeEngine) Health() reconcile.DaemonStatus {
	return reconcile.DaemonStatus{Running: true, PID: 1}
}

func (f *fakeEngine) Status() reconcile.Status {
	web := reconcile.TaskStatus{Name: "web", Phase: reconcile.PhaseRunning, PID: 7, Reason: "its removal waits until z.hcl is mended"}
	if f.stopped.Load() {
		web.Phase, web.PID = reconcile.PhaseBackoff, 0
	}
	return reconcile.Status{Format: 1, VMsDir: "/d", Tasks: []reconcile.TaskStatus{web, {Name: "db"}}, HeldRemovals: f.held}
}

func (f *fakeEngine) StatusNow(bool) reconcile.Status {
	f.probed.Store(true)
	return f.Status()
}

func (f *fakeEngine) StatusAfterLook(context.Context, bool) reconcile.Status { return f.Status() }

func (f *fakeEngine) Plan() reconcile.PlanReport {
	return reconcile.PlanReport{Format: 1, Changes: []reconcile.Change{{Task: "web", Action: reconcile.ActionRestart}}}
}

func (f *fakeEngine) act(ctx context.Context, verb string, names []string, wait bool) error {
	f.begun <- verb + " " + strings.Join(names, ",")
	unknown := slices.DeleteFunc(slices.Clone(names), func(name string) bool { return name == "web" || name == "db" })
	if len(unknown) > 0 {
		return &reconcile.UnknownTaskError{Names: unknown}
	}
	if f.fail != nil {
		f.stopped.Store(verb == "restart")
	}
	if !wait {
		return f.fail
	}
	select {
	case <-f.finish:
		return f.fail
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (f *fakeEngine) StartTasks(ctx context.Context, names []string, wait bool) error {
	return f.act(ctx, "start", names, wait)
}

func (f *fakeEngine) StopTasks(ctx context.Context, names []string, wait bool) error {
	return f.act(ctx, "stop", names, wait)
}

func (f *fakeEngine) RestartTasks(ctx context.Context, names []string, wait bool) error {
	return f.act(ctx, "restart", names, wait)
}

func (f *fakeEngine) Approve() ([]string, error) { return nil, reconcile.ErrNothingHeld }

// serve puts an engine behind a socket, and gives a client and what ends the daemon.
func serve(t *testing.T, e engine) (c *client, endDaemon context.CancelFunc) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	c = serveBy(t, newControl(ctx, e))
	t.Cleanup(cancel) // before the server is closed
	return c, cancel
}

// serveBy answers on a real socket, whose path is longer than the kernel takes.
func serveBy(t *testing.T, server *http.Server) *client {
	t.Helper()
	dir := filepath.Join(t.TempDir(), strings.Repeat("d", 120))
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "control.sock")
	listener, err := runtime.ListenControl(socket)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Close()
		<-served
	})
	return newClient(socket)
}

func TestControlAnswersStatusAndPlan(t *testing.T) {
	e := newFakeEngine()
	c, _ := serve(t, e)
	st, err := c.Status(t.Context(), false)
	if diff := cmp.Diff(e.Status(), st); diff != "" || err != nil {
		t.Error(diff, err)
	}
	plan, err := c.Plan(t.Context())
	if diff := cmp.Diff(e.Plan(), plan); diff != "" || err != nil {
		t.Error(diff, err)
	}
}

func TestControlWaitsForAnAction(t *testing.T) {
	e := newFakeEngine()
	c, _ := serve(t, e)
	done := make(chan error, 1)
	go func() {
		_, err := c.Act(t.Context(), "restart", []string{"web", "db"}, true)
		done <- err
	}()
	if got := <-e.begun; got != "restart web,db" {
		t.Errorf("the engine was asked for %q", got)
	}
	select {
	case err := <-done:
		t.Fatalf("returned before it was done: %v", err)
	default:
	}
	close(e.finish)
	if err := <-done; err != nil {
		t.Error(err)
	}
	if e.probed.Load() {
		t.Error("it had all QEMUs asked whether they answer")
	}
}

// A daemon of an earlier version, which knows no question for its health, is
// healthy when it says so.
func TestClientActsOnAnOlderDaemon(t *testing.T) {
	e := newFakeEngine()
	close(e.finish)
	older := newControl(t.Context(), e)
	knows := older.Handler
	older.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v1/health" {
			refuse(w, http.StatusNotFound, codeBadRequest, "there is no such thing in this version")
			return
		}
		knows.ServeHTTP(w, r)
	})
	c := serveBy(t, older)
	if results, err := c.Act(t.Context(), "stop", []string{"web"}, true); err != nil || len(results) != 1 || !results[0].Done {
		t.Errorf("%+v, %v", results, err)
	}
}

func TestControlDoesNotWaitWithoutWait(t *testing.T) {
	e := newFakeEngine()
	c, _ := serve(t, e)
	results, err := c.Act(t.Context(), "stop", []string{"web"}, false)
	if diff := cmp.Diff([]taskResult{{Task: "web", Begun: true}}, results); diff != "" || err != nil {
		t.Error(diff, err)
	}
}

func TestControlErrors(t *testing.T) {
	e := newFakeEngine()
	c, _ := serve(t, e)
	var answered *answerError
	if _, err := c.Act(t.Context(), "start", []string{"x/../y"}, false); !errors.As(err, &answered) || answered.Code != codeUnknownTask {
		t.Errorf("unknown task: %v", err)
	}
	if got := <-e.begun; got != "start x/../y" {
		t.Errorf("the name arrived as %q", got)
	}
	e.fail = &reconcile.CommandError{Reasons: map[string]string{"web": "port 22022 is taken"}}
	if _, err := c.Act(t.Context(), "start", []string{"web"}, false); !errors.As(err, &answered) || answered.Code != codeTaskFailed || answered.Message != "cannot start web: port 22022 is taken" {
		t.Errorf("failed task: %v", err)
	}
	if _, err := c.Approve(t.Context()); exitCode(err) != exitFailed || err.Error() != "nothing to approve" {
		t.Errorf("approve: %v", err)
	}
	e.held = []string{"web"}
	if _, err := c.Approve(t.Context()); err == nil || err.Error() != "nothing to approve; web: its removal waits until z.hcl is mended" {
		t.Errorf("approve: %v", err)
	}
	for method, path := range map[string]string{"GET": "/v1/nothing", "POST": "/v1/tasks/drop"} {
		if err := c.soon(t.Context(), method, path, tasksRequest{Names: []string{"web"}}, nil); err == nil || !strings.Contains(err.Error(), "there is no") {
			t.Errorf("unknown path: %v", err)
		}
	}
	if err := c.soon(t.Context(), "POST", "/v1/tasks/stop", tasksRequest{}, nil); err == nil || !strings.Contains(err.Error(), "names") {
		t.Errorf("no names: %v", err)
	}
	e.fail = nil
	if err := c.soon(t.Context(), "POST", "/v1/tasks/stop?wait=false", tasksRequest{Names: []string{"web"}}, new(tasksAnswer)); err != nil {
		t.Errorf("one task: %v", err)
	}
}

// A client that waits is told when the daemon goes, and that the VM stays.
func TestControlEndsWaitsWithTheDaemon(t *testing.T) {
	e := newFakeEngine()
	c, endDaemon := serve(t, e)
	done := make(chan error, 1)
	go func() {
		_, err := c.Act(t.Context(), "stop", []string{"web"}, true)
		done <- err
	}()
	<-e.begun
	endDaemon()
	var answered *answerError
	if err := <-done; !errors.As(err, &answered) || answered.Code != codeStopping {
		t.Errorf("got %v", err)
	}
}

func TestClientWithoutDaemon(t *testing.T) {
	dir := t.TempDir()
	missing := newClient(filepath.Join(dir, "control.sock"))
	if _, err := missing.Status(t.Context(), false); exitCode(err) != exitNoDaemon {
		t.Errorf("no socket: %v", err)
	}
	if _, err := newClient(filepath.Join(dir, "no", "dir", "control.sock")).Status(t.Context(), false); exitCode(err) != exitNoDaemon {
		t.Errorf("no directory: %v", err)
	}
	left := filepath.Join(dir, "left.sock")
	file, _, err := runtime.ListenUnix(left)
	if err != nil {
		t.Fatal(err)
	}
	file.Close() // the daemon was killed: its socket is still there
	if _, err := newClient(left).Status(t.Context(), false); exitCode(err) != exitNoDaemon {
		t.Errorf("left socket: %v", err)
	}
}

// A daemon that accepts and never answers does not hang anybody.
func TestClientGivesUpOnASilentDaemon(t *testing.T) {
	path := filepath.Join(t.TempDir(), "control.sock")
	file, _, err := runtime.ListenUnix(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	c := newClient(path)
	c.patience = 50 * time.Millisecond
	_, err = c.Status(t.Context(), false)
	var silent *silentDaemonError
	if !errors.As(err, &silent) {
		t.Fatalf("got %v", err)
	}
	if _, err := c.Act(t.Context(), "stop", []string{"web"}, true); !errors.As(err, &silent) {
		t.Errorf("a stop that waits: %v", err)
	}
	if note, fatal := withoutDaemon(err); fatal != nil || !strings.Contains(note, "does not answer") {
		t.Errorf("status says %q, %v", note, fatal)
	}
}

// A daemon whose socket was removed runs all the same, and is not denied.
func TestClientNamesADaemonWithoutItsSocket(t *testing.T) {
	c := newClient(filepath.Join(t.TempDir(), "control.sock"))
	c.holder = func(context.Context) int { return 4711 }
	_, err := c.Status(t.Context(), false)
	if err == nil || !strings.Contains(err.Error(), "daemon 4711 runs, but its control socket ") || exitCode(err) != exitFailed {
		t.Errorf("got %v", err)
	}
	if note, fatal := withoutDaemon(err); fatal != nil || !strings.HasPrefix(note, "Daemon 4711 runs, but its control socket is gone") {
		t.Errorf("status says %q, %v", note, fatal)
	}
}

// The watchdog hears of passes and of nothing else, and not of every one.
func TestWatchdogIsFedByPasses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fed := 0
		n := &notifier{log: hclog.NewNullLogger(), send: func(string) error { fed++; return nil }}
		every := 10 * time.Second
		n.passed(time.Now(), 0)
		if fed != 0 {
			t.Error("fed though there is no watchdog")
		}
		for range 100 {
			n.passed(time.Now(), every)
		}
		if fed != 1 {
			t.Errorf("100 passes at once fed it %d times", fed)
		}
		time.Sleep(every)
		if fed != 1 {
			t.Error("fed though the loop stood still")
		}
		n.passed(time.Now(), every)
		if fed != 2 {
			t.Error("not fed by a pass that was due")
		}
	})
}
