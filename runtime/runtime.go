package runtime

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/qemu-reconciler/qemu-reconciler/internal/crash"
	"github.com/qemu-reconciler/qemu-reconciler/spec"
)

// ErrClosed is returned by everything that needs an open Runtime.
var ErrClosed = errors.New("runtime is closed")

// Options of a Runtime. All but Layout may be left out.
type Options struct {
	// Layout says where state and sockets are; absolute paths.
	Layout Layout
	// Log gets what no operator of a single task needs; nil logs nothing.
	Log hclog.Logger
	// LogMaxSize limits each log file, in bytes; zero means what an empty
	// config.hcl does.
	LogMaxSize int64
	// Sandbox puts QEMU under its seccomp filter where it was built with one.
	Sandbox bool
	// DynamicPorts is where host ports are allocated from; zero means what an
	// empty config.hcl does. Ports that were given stay as they are.
	DynamicPorts spec.PortRange
	// Fingerprint knows the emulators; nil makes one. One that is given is its
	// giver's to close.
	Fingerprint *Fingerprint
	// Poke is called after anything changed by itself: an exit that no Stop waits
	// for, QMP's answer, a pause. It must not block. Nil calls nothing.
	Poke func()

	// sync brings a file or a directory to the disk; nil is fsync. Tests count it,
	// and hold it up.
	sync func(*os.File) error
}

func (o Options) withDefaults() Options {
	if o.Log == nil {
		o.Log = hclog.NewNullLogger()
	}
	o = o.tuned(o.tuning())
	if o.Fingerprint == nil {
		o.Fingerprint = NewFingerprint(o.Layout.EmulatorCache(), o.Log)
	}
	if o.Poke == nil {
		o.Poke = func() {}
	}
	if o.sync == nil {
		o.sync = (*os.File).Sync
	}
	return o
}

// Runtime is the only one who starts, stops and watches the QEMUs of a state
// directory. It is safe for concurrent use.
type Runtime struct {
	options Options
	tuning  atomic.Pointer[Tuning]
	layout  Layout
	log     hclog.Logger
	store   *Store
	events  *EventLog
	ports   *portTable
	host    string // machine id

	stateLock *lock
	runLock   *lock // after Open only the keeper's

	// ctx ends with Close; tasks are all goroutines.
	ctx    context.Context
	cancel context.CancelFunc
	tasks  sync.WaitGroup
	// ended is what this Runtime made for itself and Close ends as well.
	ended []func()

	// run is the directory of the sockets as it was made or found, runFault what
	// went wrong when it was last made anew, tasksDir the directory of the
	// records; only the keeper touches them.
	run      heldDirectory
	runFault string
	tasksDir heldDirectory
	// stateFault is what went wrong when the state directory was last made
	// anew, eventsFault when the last event was written.
	stateFault, eventsFault complaint
	// ends are the turns of ends whose logs are read.
	ends chan struct{}
	// securing says that a round of secure is under way, diskFault what went wrong
	// in the last one.
	securing  atomic.Bool
	diskFault complaint
	// greetings are the turns of QEMUs that are spoken to first.
	greetings chan struct{}
	// directory is what is remembered of the task directory.
	directory directoryFile
	// opened is closed when everything that runs is known.
	opened chan struct{}
	// hurry and watched wake the keeper; see soon and Probe.
	hurry, watched chan struct{}
	// removals is what the brake on mass removals remembers.
	removals removalsFile

	mu       sync.RWMutex
	machines map[string]*machine
	closed   bool
	// deposed says that another daemon has the state; nil as long as none has.
	deposed error
	// deeds are the calls under way; no new one begins after closed.
	deeds sync.WaitGroup
}

// Open takes the locks, reads the records, and takes charge of everything that
// runs: when it returns, the processes of all tasks are known. Sessions with
// them come up in the background. ctx bounds the opening only. The error is a
// *LockedError when another daemon is there.
func Open(ctx context.Context, options Options) (*Runtime, error) {
	ownFingerprint := options.Fingerprint == nil
	options = options.withDefaults()
	if BootID() == "" {
		return nil, errors.New("this boot has no id (/proc/sys/kernel/random/boot_id): no process could be told from another")
	}
	if err := options.Layout.Prepare(); err != nil {
		return nil, fmt.Errorf("state and run directories: %w", err)
	}
	r := &Runtime{
		options: options, layout: options.Layout, log: options.Log,
		store: OpenStore(options.Layout), ports: newPortTable(options.DynamicPorts),
		opened: make(chan struct{}), ends: make(chan struct{}, endsAtOnce), greetings: make(chan struct{}, greetedAtOnce),
		hurry: make(chan struct{}, 1), watched: make(chan struct{}, 1),
		host: machineID(), machines: map[string]*machine{}, directory: directoryFile{note: newDirectoryNote(options.Layout.Directory())},
		removals: removalsFile{note: newRemovalsNote(options.Layout.Removals())},
	}
	r.store.sync = options.sync
	r.Tune(options.tuning())
	if ownFingerprint {
		r.ended = append(r.ended, options.Fingerprint.Close)
	}
	r.ctx, r.cancel = context.WithCancel(context.WithoutCancel(ctx))
	if err := r.open(ctx); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	close(r.opened)
	r.tasks.Go(r.keeper)
	return r, nil
}

func (r *Runtime) open(ctx context.Context) error {
	var err error
	// First the one that is less easily lost: should the state directory have
	// been removed under another daemon, its lock is for that one to take again.
	if r.runLock, err = acquireLock(ctx, r.layout.RunLock()); err != nil {
		return err
	}
	if r.stateLock, err = acquireLock(ctx, r.layout.StateLock()); err != nil {
		return err
	}
	crash.Point("adopt.locked")
	if r.events, err = OpenEventLog(r.layout.Events(), r.options.LogMaxSize); err != nil {
		return fmt.Errorf("event log: %w", err)
	}
	r.events.sync = r.options.sync
	stored, err := r.store.Load()
	if err != nil {
		return err
	}
	crash.Point("adopt.loaded")
	if err := r.adopt(stored); err != nil {
		return err
	}
	crash.Point("adopt.adopted")
	r.sweepRunDirectory(ctx)
	crash.Point("adopt.swept")
	return errors.Join(r.tasksDir.hold(r.layout.TasksDir()), r.run.hold(r.layout.VMsDir()))
}

// Observe tells what is known of every task. It asks nobody: neither QEMU nor
// a disk can hold it up.
func (r *Runtime) Observe() map[string]Observation {
	r.mu.RLock()
	defer r.mu.RUnlock()
	out := make(map[string]Observation, len(r.machines))
	for name, m := range r.machines {
		out[name] = m.observe()
	}
	return out
}

// Event appends to the event log and tells the daemon's own log. A log that
// cannot be written stops nothing.
func (r *Runtime) Event(kind, task, message string, about map[string]any) {
	e := LogEvent{Time: time.Now(), Type: kind, Task: task, Message: message, Facts: about}
	e.tell(r.log)
	r.mu.RLock()
	deposed := r.deposed
	r.mu.RUnlock()
	if deposed != nil { // the file is another daemon's
		return
	}
	r.noteEvents(r.events.Append(e))
	r.soon() // it is written then, if it could not be, and brought to the disk
}

// noteEvents tells once that events cannot be written, and that they can again.
func (r *Runtime) noteEvents(err error) {
	switch before, changed := r.eventsFault.note(err); {
	case changed && err != nil:
		r.log.Error("events cannot be written; they are kept and written later", "error", withAdvice(err))
	case changed && before != "":
		r.log.Info("events are written again")
	}
}

// Close ends all sessions, watches and waits. The VMs stay. A stop under way
// is left as it is; its intent stays in the record.
func (r *Runtime) Close() error {
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return nil
	}
	r.closed = true
	r.mu.Unlock()
	r.cancel()
	for _, end := range r.ended {
		end()
	}
	r.deeds.Wait()
	r.tasks.Wait()
	var errs []error
	for _, m := range r.list() {
		m.save()
	}
	if r.events != nil {
		r.noteEvents(r.events.Flush())
		errs = append(errs, r.events.Close())
	}
	r.tasksDir.release()
	r.run.release()
	for _, l := range []*lock{r.stateLock, r.runLock} {
		if l != nil {
			errs = append(errs, l.release())
		}
	}
	return errors.Join(errs...)
}

// enter begins a call that Close waits for.
func (r *Runtime) enter() (done func(), err error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if r.closed {
		return nil, ErrClosed
	}
	if r.deposed != nil {
		return nil, r.deposed
	}
	r.deeds.Add(1)
	return r.deeds.Done, nil
}

// within gives a context that ends with the runtime too.
func (r *Runtime) within(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(r.ctx, cancel)
	return ctx, func() {
		stop()
		cancel()
	}
}

func (r *Runtime) find(task string) *machine {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.machines[task]
}

// ensure makes a task known. Nothing is written before its first change.
func (r *Runtime) ensure(task string) *machine {
	r.mu.Lock()
	defer r.mu.Unlock()
	m := r.machines[task]
	if m == nil {
		m = newMachine(r, &Record{Version: RecordVersion, Task: task})
		m.copied = m.record // neither is there
		m.unsynced.Store(false)
		r.machines[task] = m
	}
	return m
}

func (r *Runtime) list() []*machine {
	r.mu.RLock()
	defer r.mu.RUnlock()
	out := make([]*machine, 0, len(r.machines))
	for _, m := range r.machines {
		out = append(out, m)
	}
	return out
}

func (r *Runtime) poke() { r.options.Poke() }
