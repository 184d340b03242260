package runtime

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/qemu-reconciler/qemu-reconciler/internal/crash"
	"github.com/qemu-reconciler/qemu-reconciler/spec"
)

// StartRequest says what to start.
type StartRequest struct {
	Task string
	// File is the task file, relative to the task directory.
	File string
	// Wanted gives the definition for the allocated host ports. Diagnostics
	// that are errors end the start.
	Wanted func(allocated map[string]int) (*spec.Task, []spec.Diagnostic)
	// Labels are the ports to allocate.
	Labels []string
	// Reserved are the static host ports of all tasks, with their owners:
	// they are never allocated.
	Reserved map[int]string
	// Reason says why, in a few words for the event log.
	Reason string
	// Record changes further fields of the record in the same write, once a
	// start, whether or not it succeeds; may be nil.
	Record func(*Record)
}

// Start starts the QEMU of a task that has none. When it returns nil, the
// process runs and is recorded; whether QMP ever answers is seen later. When it
// returns an error, nothing runs, and the record says why.
//
// The order makes it safe to die at any instruction: the record announces the
// start together with the socket that the process will hold, so that whoever
// comes after finds the process, or finds that there is none.
func (r *Runtime) Start(ctx context.Context, req StartRequest) (err error) {
	done, err := r.enter()
	if err != nil {
		return err
	}
	defer done()
	m := r.ensure(req.Task)
	end, err := m.take(ctx)
	if err != nil {
		return err
	}
	defer end()
	defer m.rescue(&err)
	if p := m.current().Process; p != nil {
		return fmt.Errorf("task %s runs already, pid %d", req.Task, p.PID)
	}
	if err := m.untouchable(); err != nil {
		return fmt.Errorf("task %s: %w", req.Task, err)
	}
	s := &start{m: m, req: req, began: time.Now(), files: map[int]*os.File{}}
	defer s.close()
	if err := withAdvice(s.run(ctx)); err != nil {
		// Its own end, and not that of a probe of an emulator that hangs.
		s.fail(err, ctx.Err() != nil || r.ctx.Err() != nil || errors.Is(err, ErrClosed))
		return fmt.Errorf("task %s: %w", req.Task, err)
	}
	return nil
}

// start is one start on its way.
type start struct {
	m     *machine
	req   StartRequest
	began time.Time

	ports   map[string]int
	task    *spec.Task
	command CommandLine
	pin     *PinnedFormat

	files  map[int]*os.File
	output *os.File
	offset int64
	inode  uint64
	// announced says that the record has what is known of this start.
	announced bool
}

func (s *start) run(ctx context.Context) error {
	ctx, cancel := s.m.rt.within(ctx)
	defer cancel()
	emulator := func() error { return s.emulator(ctx) }
	crash.Point("start.began")
	steps := []func() error{s.allocate, s.bind, emulator, s.image, s.portsFree, s.prepare, s.announce, s.launch}
	for _, step := range steps {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

func (s *start) allocate() (err error) {
	s.ports, err = s.m.rt.ports.allocate(s.req.Task, s.req.Labels, s.m.current().Ports, s.req.Reserved)
	return err
}

func (s *start) bind() error {
	task, diagnostics := s.req.Wanted(s.ports)
	for _, d := range diagnostics {
		if d.Severity == spec.SeverityError {
			return d
		}
	}
	if task == nil {
		return errors.New("there is no definition to start")
	}
	s.task = task
	s.command = CommandLine{
		Task: task, UUID: s.m.rt.uuidOf(task, s.m.current()),
		Forwards: task.Forwards(s.ports), Sandbox: s.m.rt.tuning.Load().Sandbox,
	}
	return nil
}

func (s *start) emulator(ctx context.Context) error {
	features, path, err := s.m.rt.options.Fingerprint.featuresWithin(ctx, s.task.Config.Emulator)
	s.command.Features, s.command.Program = features, path
	return err
}

// image finds out the format, or takes the one that is given or pinned to this
// very file.
func (s *start) image() error {
	image, err := judgeImage(s.task, s.m.current().Format)
	if err != nil {
		return err
	}
	s.command.Format, s.command.BlockDevice, s.pin = image.format, image.blockDevice, image.pin
	return nil
}

func (s *start) portsFree() error {
	for _, f := range s.command.Forwards {
		if err := PortFree(f.HostIP, f.Host, f.Protocols); err != nil {
			return fmt.Errorf("port %q: %w", f.Label, err)
		}
	}
	crash.Point("start.judged")
	return nil
}

// announce writes the intent. Without it nothing is started.
func (s *start) announce() error {
	crash.Point("start.prepared")
	intent := &Intent{
		Kind: IntentStart, At: time.Now().UTC(), BootID: BootID(), SocketInode: s.inode, LogOffset: s.offset, Reason: s.req.Reason,
	}
	err := s.m.change(saveFirst, func(r *Record) {
		s.describe(r)
		r.Applied, r.UUID, r.Intent = s.task, s.command.UUID, intent
		r.Failure, r.FailedAt = "", time.Time{}
	})
	s.announced = err == nil
	return err
}

// describe notes what is known so far, once a start, whether or not it succeeds.
func (s *start) describe(r *Record) {
	r.File, r.Due = s.req.File, false
	if s.ports != nil {
		r.Ports = s.ports
	}
	if s.task != nil {
		r.Wanted = s.task
	}
	if s.pin != nil {
		r.Format = s.pin
	}
	if s.req.Record != nil {
		s.req.Record(r)
	}
}

// launch is the only step that cannot be taken back.
func (s *start) launch() error {
	crash.Point("start.announced")
	argv := s.command.Argv()
	p, err := Launch(LaunchRequest{
		Argv: argv, Env: CleanEnv(os.Environ(), s.task, s.m.rt.layout, s.ports), Files: s.files, Output: s.output,
	})
	if err != nil {
		return err
	}
	info := &ProcessInfo{
		PID: p.PID(), StartTicks: p.StartTicks(), BootID: BootID(), StartedAt: time.Now().UTC(), Argv: argv,
		Format: s.command.Format, Forwards: s.command.Forwards, LogOffset: s.offset,
	}
	s.m.begin(p, func(r *Record) { r.Process, r.Intent = info, nil }, func() {
		s.m.event(EventStarted, because("started", s.req.Reason), map[string]any{"pid": info.PID, "at": info.StartedAt})
	})
	crash.Point("start.done")
	s.m.rt.poke()
	return nil
}

// fail records why there is no process. A start that was called off is no
// failure and no attempt; it leaves no intent behind.
func (s *start) fail(reason error, off bool) {
	now := time.Now().UTC()
	crash.Point("start.failing")
	s.m.keep(func(r *Record) {
		if !s.announced {
			s.describe(r)
		}
		r.Intent = nil
		if off {
			r.callOff(s.began)
			return
		}
		r.Failure, r.FailedAt = reason.Error(), now
		r.LastExit = &Exit{At: now, Cause: CauseLaunchFailed, BootID: BootID()}
	})
	if off {
		return
	}
	crash.Point("start.failed")
	s.m.event(EventStartFailed, reason.Error(), map[string]any{"reason": s.req.Reason})
	s.m.rt.poke()
}
