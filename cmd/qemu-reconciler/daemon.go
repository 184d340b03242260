package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/qemu-reconciler/qemu-reconciler/reconcile"
	"github.com/qemu-reconciler/qemu-reconciler/runtime"
	"github.com/qemu-reconciler/qemu-reconciler/spec"
)

// closePatience is how long answers under way are waited for at the end.
const closePatience = time.Second

// parsePatience is how long a pass waits for files that take long to parse, so
// that they hold up no other.
const parsePatience = 100 * time.Millisecond

// daemonProcess is everything that `run` puts together.
type daemonProcess struct {
	setup   *setup
	log     hclog.Logger
	notify  *notifier
	feed    time.Duration
	host    *runtime.Fingerprint
	runtime *runtime.Runtime
	loader  *spec.Loader
	engine  *reconcile.Engine
	// pokeable is the engine once it exists: the runtime speaks before that.
	pokeable atomic.Pointer[reconcile.Engine]
	watcher  *reconcile.Watcher
	control  *http.Server
	// socket is the loop's once it runs; socketTrouble is why it could not be
	// made anew.
	socket        *controlSocket
	socketTrouble string

	// logLevel is the flag's.
	logLevel string
	// memory is the loop's once it runs.
	memory memoryBound

	// life ends the loop and the answers under way, not the VMs.
	life context.Context
	end  context.CancelFunc
	work sync.WaitGroup
}

// openDaemon takes the locks, adopts what runs, and makes everything that the
// loop needs; ctx is for the opening alone.
func openDaemon(ctx context.Context, s *setup, log hclog.Logger) (*daemonProcess, error) {
	d := &daemonProcess{setup: s, log: log, notify: newNotifier(log), feed: watchdogEvery(log)}
	d.life, d.end = context.WithCancel(context.Background())
	if err := d.open(ctx); err != nil {
		return nil, errors.Join(err, d.close())
	}
	return d, nil
}

func (d *daemonProcess) open(ctx context.Context) (err error) {
	startThreads()
	runtime.GoBeforeGuests(d.log) // with those threads
	s, host := d.setup, d.setup.fingerprint(d.log)
	d.host = host
	if d.runtime, err = runtime.Open(ctx, s.runtimeOptions(host, d.log, d.poke)); err != nil {
		return err
	}
	d.memory.fit(len(d.runtime.Observe()))
	loading := s.loaderOptions(host)
	loading.Patience, loading.Crashed = parsePatience, d.crashed
	loading.Ready = func() { d.engine.PokeFiles(false) }
	loading.Held, loading.Remember = d.runtime.HeldDirectory(), d.rememberDirectory
	d.loader = spec.NewLoader(loading)
	config := d.engineConfig()
	if config.Removals, err = d.runtime.Removals(); err != nil {
		config.RemovalsFault = err.Error()
		d.log.Error("it is not known which removals are held: no VM is stopped for a removal until that is mended and the daemon restarted", "error", err)
	}
	d.engine = reconcile.New(config)
	d.pokeable.Store(d.engine)
	d.watcher = reconcile.NewWatcher(s.dirs.VMs, d.engine, d.log)
	d.control = newControl(d.life, d.engine)
	if d.socket, err = listenControl(s.controlSocket(), d.control); err != nil {
		return err
	}
	d.runtime.Event("daemon-started", "", "the daemon is ready", map[string]any{
		"pid": os.Getpid(), "version": currentBuild().Version, "vms_dir": s.dirs.VMs, "state_dir": s.dirs.State,
	})
	return nil
}

// rememberDirectory notes for the next daemon which directory holds the task
// files.
func (d *daemonProcess) rememberDirectory(held spec.DirectoryID) {
	if err := d.runtime.RememberDirectory(d.setup.dirs.VMs, held); err != nil {
		d.log.Warn("it is not written down which directory holds the task files: after a restart of the daemon an empty one stops nothing until a file is in it", "error", err)
	}
}

// crashed logs a bug that a task file has brought to light.
func (d *daemonProcess) crashed(file string, reason any, stack []byte) {
	d.log.Error("a bug in qemu-reconciler, please report it", "file", file, "panic", reason, "stack", hclog.Fmt("%s", stack))
}

// passed is called after every pass of the loop.
func (d *daemonProcess) passed(tasks int) {
	d.memory.fit(tasks)
	d.notify.passed(time.Now(), d.feed)
	d.mendControl()
}

func (d *daemonProcess) engineConfig() reconcile.Config {
	s := d.setup
	return reconcile.Config{
		Loader: d.loader, Machines: d.runtime,
		HostName: s.hostName, VMsDir: s.dirs.VMs, StateDir: s.dirs.State, Version: currentBuild().Version, PID: os.Getpid(),
		BootID: runtime.BootID(), Tuning: engineTuning(s.config),
		OnPass: d.passed, Log: d.log,
	}
}

// engineTuning is what config.hcl says to the loop.
func engineTuning(config *spec.DaemonConfig) reconcile.Tuning {
	return reconcile.Tuning{Resync: config.ResyncInterval, MaxParallel: config.MaxParallel, MaxRemovals: config.MaxRemovals}
}

// runtimeOptions are what config.hcl says to the runtime.
func (s *setup) runtimeOptions(host *runtime.Fingerprint, log hclog.Logger, poke func()) runtime.Options {
	return runtime.Options{
		Layout: s.layout(), Log: log, LogMaxSize: s.config.LogMaxSize, Sandbox: s.config.Sandbox,
		DynamicPorts: s.config.DynamicPorts, Fingerprint: host, Poke: poke,
	}
}

func (d *daemonProcess) poke() {
	if e := d.pokeable.Load(); e != nil {
		e.Poke()
	}
}

// serve starts the control socket, the loop, and the watchdog's pulse.
func (d *daemonProcess) serve() {
	d.serveControl(d.socket) // first: from then on it is the loop's to renew
	d.work.Go(func() { d.engine.Run(d.life) })
	if d.feed > 0 {
		d.work.Go(d.pulse)
	}
}

// pulse asks for passes so that an idle loop feeds the watchdog, too.
func (d *daemonProcess) pulse() {
	tick := time.NewTicker(d.feed)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			d.engine.Poke()
		case <-d.life.Done():
			return
		}
	}
}

// untilStopped serves SIGHUP until a signal ends the daemon.
func (d *daemonProcess) untilStopped(sig *signals) {
	for {
		select {
		case <-sig.stop.Done():
			return
		case <-sig.hangup:
			d.lookAgain()
		}
	}
}

// stopAll is --stop-on-exit; ctx gives up on the rest.
func (d *daemonProcess) stopAll(ctx context.Context) error {
	d.log.Info("stopping all VMs before the exit")
	if err := d.engine.StopAll(ctx); err != nil {
		return fmt.Errorf("not all VMs were stopped: %w", err)
	}
	return nil
}

// close ends what was opened, the last first; the VMs stay.
func (d *daemonProcess) close() error {
	var errs []error
	d.end()
	if d.host != nil {
		d.host.Close() // a pass may wait for an emulator that hangs
	}
	if d.control != nil {
		ctx, cancel := context.WithTimeout(context.Background(), closePatience)
		defer cancel()
		if d.control.Shutdown(ctx) != nil {
			errs = append(errs, d.control.Close())
		}
	}
	if d.watcher != nil {
		errs = append(errs, d.watcher.Close())
	}
	d.work.Wait()
	if d.socket != nil {
		d.runtime.Event("daemon-stopped", "", d.farewell(), map[string]any{"pid": os.Getpid()})
	}
	if d.runtime != nil {
		errs = append(errs, d.runtime.Close())
	}
	return errors.Join(errs...)
}

// farewell says what becomes of the VMs, for those who fear for them.
func (d *daemonProcess) farewell() string {
	running := 0
	for _, o := range d.runtime.Observe() {
		if o.Alive {
			running++
		}
	}
	if running == 0 {
		return "the daemon ends; no VM runs"
	}
	return fmt.Sprintf("the daemon ends; %d running VMs go on", running)
}
