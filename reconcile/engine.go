package reconcile

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/qemu-reconciler/qemu-reconciler/runtime"
	"github.com/qemu-reconciler/qemu-reconciler/spec"
)

// unsettledDelay is how soon the directory is looked at again while a file in
// it is being written; the wait doubles up to unsettledMaxDelay, since some
// writers take long and some never end.
const (
	unsettledDelay    = 10 * time.Millisecond
	unsettledMaxDelay = time.Second
)

// defaultMaxParallel is Tuning's. A start is a fork and an exec; the guests that follow
// compete for the host's CPUs whatever this limit is.
const defaultMaxParallel = 8

// brokenDelay is how soon the directory is looked at again while a file in it
// has errors: what is wrong may be mended elsewhere, e.g. by an image that
// arrives.
const brokenDelay = 5 * time.Second

// errNotRead stands for the content of the directory before the first look, so
// that nobody takes what runs for unknown or removed meanwhile.
var errNotRead = errors.New("it was not read yet")

// Machines is the runtime as the engine uses it; *runtime.Runtime is the one
// there is.
type Machines interface {
	Observe() map[string]runtime.Observation
	Start(ctx context.Context, req runtime.StartRequest) error
	Stop(ctx context.Context, task string, req runtime.StopRequest) error
	Update(task string, change func(*runtime.Record)) error
	Write(task string, change func(*runtime.Record)) error
	Secure(task string) error
	Forget(task string) error
	Preview(task *spec.Task, rec *runtime.Record) ([]string, error)
	Event(kind, task, message string, facts map[string]any)
	RememberRemovals(removals runtime.Removals) error
	Probe()
}

// Loader gives the desired set; *spec.Loader is the one there is.
type Loader interface {
	// Load reads what changed and returns the whole.
	Load() *spec.Set
	// Recheck makes the next Load judge anew what failed for the host's sake.
	Recheck()
	// Parsed counts the files that were parsed since the start.
	Parsed() int
}

// Config is what an Engine needs.
type Config struct {
	Loader   Loader
	Machines Machines
	// HostName, VMsDir, StateDir, Version and PID are shown by status.
	HostName, VMsDir, StateDir, Version string
	PID                                 int
	// BootID is the id of this boot of the host.
	BootID string
	// Tuning can be changed later.
	Tuning Tuning
	// Removals is what the brake on mass removals knew in the last life of the
	// daemon. RemovalsFault says why that is not known: then no VM is stopped for
	// a removal, and what was known is not overwritten.
	Removals      runtime.Removals
	RemovalsFault string
	// OnPass is called after every pass with the number of tasks, wanted or
	// recorded; it may be nil. A watchdog feeds on it.
	OnPass func(tasks int)
	Log    hclog.Logger
}

// Tuning is what can change while an Engine runs.
type Tuning struct {
	// Resync is how often everything is looked at though nothing happened; zero
	// means what an empty config.hcl does.
	Resync time.Duration
	// MaxParallel is the number of starts at once; zero means 8.
	MaxParallel int
	// MaxRemovals is how many removals a minute go unasked; nil holds them when
	// they are three or more and more than half of the VMs that ran.
	MaxRemovals *int
}

// Engine keeps the machines in step with the desired set. All methods are safe
// for concurrent use.
type Engine struct {
	cfg  Config
	poke chan struct{}
	work sync.WaitGroup

	mu sync.Mutex
	// starts has room for the starts that may be under way at once.
	starts chan struct{}
	look   bool          // the directory is to be read at the next pass
	lookAt time.Time     // and at the latest then
	passed chan struct{} // closed and replaced after every pass
	passes int
	// looking is the look that is under way; nil when there is none. looksBegun
	// and looksDone count them.
	looking               *look
	looksBegun, looksDone int

	set *spec.Set
	// reserved are the static host ports of the set's tasks, with their owners.
	reserved map[int]string
	// unsettled counts the looks in a row that found a file being written.
	unsettled int
	// sight is when the reading of set began.
	sight  time.Time
	event  time.Time
	blind  bool
	absent map[string]Absence
	busy   map[string]Step
	// starting are the definitions of the starts that are busy.
	starting map[string]*spec.Task
	asked    map[string]Ask
	faults   map[string]Fault
	bugs     map[string]string // by task, as they were logged
	stop     bool              // the daemon stops its VMs
	binding  map[*spec.Definition]binding
	told     told
	resting  resting

	// removals is what the brake remembers, and shown the removals that an operator
	// was shown last as waiting for approval. unsaved says that the latest write of
	// them failed.
	removals runtime.Removals
	shown    []string
	unsaved  bool
	// saving is held while removals are written; saved is what was written last.
	saving sync.Mutex
	saved  runtime.Removals
}

// binding is a definition with a certain allocation of ports.
type binding struct {
	ports map[string]int
	task  *spec.Task
}

// New makes an engine; Run makes it work.
func New(cfg Config) *Engine {
	e := &Engine{
		cfg: cfg, poke: make(chan struct{}, 1), passed: make(chan struct{}),
		absent: map[string]Absence{}, busy: map[string]Step{}, starting: map[string]*spec.Task{}, asked: map[string]Ask{}, faults: map[string]Fault{}, bugs: map[string]string{},
		resting: resting{}, told: told{tasks: map[string]standing{}}, binding: map[*spec.Definition]binding{}, removals: cfg.Removals, saved: cfg.Removals,
	}
	e.shown = unapproved(cfg.Removals)
	e.Tune(cfg.Tuning)
	return e
}

// Tune changes the Tuning of a running engine. Starts under way are not counted
// against a new limit, and removals that are held stay so.
func (e *Engine) Tune(tuning Tuning) {
	if tuning.Resync == 0 {
		tuning.Resync = spec.DefaultConfig().ResyncInterval
	}
	if tuning.MaxParallel == 0 {
		tuning.MaxParallel = defaultMaxParallel
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.cfg.Tuning = tuning
	if tuning.MaxParallel != cap(e.starts) {
		e.starts = make(chan struct{}, tuning.MaxParallel)
	}
}

// Poke asks for another pass over what is known. It never blocks, and any
// number of pokes before the pass are one.
func (e *Engine) Poke() {
	select {
	case e.poke <- struct{}{}:
	default:
	}
}

// Blind says whether the directory tells of what happens in it. While it does
// not, it must have looked the same for longer before a removal is believed.
func (e *Engine) Blind(blind bool) {
	e.mu.Lock()
	e.blind = blind
	e.mu.Unlock()
	e.Poke()
}

// PokeFiles asks for a pass that reads the directory again. event says that
// something happened in the directory just now.
func (e *Engine) PokeFiles(event bool) {
	e.mu.Lock()
	e.look = true
	if event {
		e.event = time.Now()
	}
	e.mu.Unlock()
	e.Poke()
}

// StatusNow is how everything stands now, for somebody outside. What it says of
// QEMUs that hang is made sure of soon. With show it is for the eyes of an
// operator: the removals that it lists as held are those that Approve lets go.
func (e *Engine) StatusNow(show bool) Status {
	e.cfg.Machines.Probe()
	status, shown := e.takeStatus(show)
	if show && len(shown) > 0 {
		// Who was shown that they are held may count on it, should the daemon
		// die in this moment.
		e.saveRemovals()
	}
	return status
}

// Status is how everything stands now. It blocks on nothing but memory.
func (e *Engine) Status() Status {
	status, _ := e.takeStatus(false)
	return status
}

// Health says which daemon this is. It costs next to nothing, and is answered only
// by an engine that does not hang.
func (e *Engine) Health() DaemonStatus {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.daemon()
}

func (e *Engine) daemon() DaemonStatus {
	return DaemonStatus{Running: true, PID: e.cfg.PID, Version: e.cfg.Version}
}

func (e *Engine) takeStatus(show bool) (s Status, shown []string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	w, verdicts := e.judgeNow()
	if show {
		e.shown = braked(verdicts)
	}
	return e.statusOf(w, verdicts), e.shown
}

func (e *Engine) statusOf(w *World, verdicts []Verdict) Status {
	s := statusOf(w, verdicts)
	s.Host, s.VMsDir, s.StateDir = e.cfg.HostName, e.cfg.VMsDir, e.cfg.StateDir
	s.Daemon = e.daemon()
	s.Converged = s.Converged && e.passes > 0
	return s
}

// judgeNow gives the verdicts of this moment over the set of the latest pass.
// The caller holds e.mu.
func (e *Engine) judgeNow() (*World, []Verdict) {
	w := e.world(time.Now())
	return w, Diff(w)
}

// Plan is what a pass over the directory as it is now would do, for the eyes of
// an operator: it shows held removals as StatusNow does.
func (e *Engine) Plan() PlanReport {
	set := e.load()
	e.mu.Lock()
	defer e.mu.Unlock()
	w := e.world(time.Now())
	w.Set = set
	verdicts := Diff(w.settled())
	e.shown = braked(verdicts)
	return Report(set, verdicts)
}
