package runtime

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qemu-reconciler/qemu-reconciler/internal/guest"
)

// halfStarted is a daemon's death between fork and exec: a process that holds
// the socket of an announced start and becomes a QEMU when it is told a name.
type halfStarted struct {
	*Process
	become *os.File
}

func (l *lab) halfStart(task string) *halfStarted {
	l.t.Helper()
	must(l.t, l.layout.PrepareTask(task))
	listener, inode, err := ListenUnix(l.layout.QMPSocket(task))
	must(l.t, err)
	defer listener.Close()
	gate, become, err := os.Pipe()
	must(l.t, err)
	defer gate.Close()
	qemu, err := exec.LookPath("qemu-system-x86_64")
	must(l.t, err)
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	must(l.t, err)
	defer null.Close()
	p, err := Launch(LaunchRequest{
		Argv: []string{"/bin/sh", "-c", `read name <&4; exec "$@" -name "$name"`, "sh",
			qemu, "-machine", "none", "-nodefaults", "-display", "none",
			"-chardev", "socket,id=qmp,fd=3,server=on,wait=off", "-mon", "chardev=qmp,mode=control"},
		Env:   []string{"PATH=/usr/bin:/bin"},
		Files: map[int]*os.File{3: listener, 4: gate}, Output: null,
	})
	must(l.t, err)
	must(l.t, l.Update(task, func(r *Record) {
		r.Intent = &Intent{Kind: IntentStart, At: time.Now(), BootID: BootID(), SocketInode: inode}
	}))
	return &halfStarted{Process: endWithTest(l.t, p), become: become}
}

// undecided reopens while the process still is what it is, and sees that
// nothing can be done to the task.
func (l *lab) undecided(task string) {
	l.t.Helper()
	l.reopen(func() {})
	o := l.Observe()[task]
	if o.Alive || o.Record.Intent == nil || o.Refused != "" || !strings.Contains(o.Trouble, "still holds its socket") {
		l.t.Errorf("undecided: %s", asJSON(o))
	}
	var undecided *UndecidedError
	for what, err := range map[string]error{
		"start":  l.Start(l.t.Context(), startOf(l.task(task, guest.Deaf))),
		"stop":   l.Stop(l.t.Context(), task, StopRequest{}),
		"forget": l.Forget(task),
	} {
		if !errors.As(err, &undecided) {
			l.t.Errorf("%s: %v", what, err)
		}
	}
}

// TestUndecidedBecomesQEMU: a start that takes longer than a daemon waits for is
// adopted when it is done, and never started a second time.
func TestUndecidedBecomesQEMU(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	half := l.halfStart("vm")
	l.undecided("vm")
	_, err := half.become.WriteString("vm\n")
	must(t, errors.Join(err, half.become.Close()))
	o := l.until("vm", "adoption", func(o Observation) bool { return o.Alive && o.Answering })
	if o.Record.Process.PID != half.PID() || o.Record.Intent != nil || o.Trouble != "" {
		t.Errorf("adopted: %s", asJSON(o))
	}
	l.stop("vm", StopRequest{})
}

// TestUndecidedEnds: one that dies before it becomes anything leaves the task
// free.
func TestUndecidedEnds(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	half := l.halfStart("vm")
	defer half.become.Close()
	l.undecided("vm")
	must(t, half.Signal(unix.SIGKILL))
	o := l.until("vm", "decision", func(o Observation) bool { return o.Trouble == "" })
	if o.Alive || o.Record.Intent != nil || o.Record.Process != nil {
		t.Errorf("decided: %s", asJSON(o))
	}
	l.start(l.task("vm", guest.Deaf))
	l.stop("vm", StopRequest{})
}
