package reconcile

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"
	"github.com/hashicorp/go-hclog"

	"github.com/qemu-reconciler/qemu-reconciler/runtime"
)

// blindInterval is how often it is looked while events cannot be relied on, and
// tried to be told of them again.
const blindInterval = time.Second

// Watcher turns file events into pokes. An event carries no fact: it only says
// that a look is due, so events that are lost or merged cost nothing but time,
// and the periodic resync bounds that. Where none can be had it looks by itself
// every second.
type Watcher struct {
	dir  string
	eyes Eyes
	log  hclog.Logger
	// notes and mounts are nil while there are none to be had.
	notes  *fsnotify.Watcher
	mounts *runtime.MountWatch
	end    chan struct{}
	done   sync.WaitGroup
	// blind says why events cannot be relied on; empty when they can. inSight says
	// that the directory itself is there and watched.
	blind   string
	inSight bool
	// counting says that the time to the next look without an event runs.
	counting bool
	// way are the paths whose change means that the directory itself may be
	// another one: the directory, what it lies in, and every symlink on the way
	// with what that lies in.
	way map[string]bool
	// inside are the two names of the directory: as it was given, and without
	// symlinks. Events come under either, for a directory has one watch.
	inside map[string]bool
}

// Eyes is who looks; *Engine is the one there is.
type Eyes interface {
	// PokeFiles asks for a look at the directory. event says that something
	// happened inside it, and not only to the way there.
	PokeFiles(event bool)
	// Blind says whether events cannot be relied on: a quiet directory proves
	// nothing then.
	Blind(blind bool)
}

// NewWatcher watches dir, which need not exist yet, until Close.
func NewWatcher(dir string, eyes Eyes, log hclog.Logger) *Watcher {
	w := &Watcher{dir: filepath.Clean(dir), eyes: eyes, log: log, end: make(chan struct{})}
	mounts, err := runtime.WatchMounts()
	if err != nil {
		log.Warn("mounts over the task directory are seen late", "error", err)
	} else {
		w.mounts = mounts
	}
	w.arm()
	w.done.Go(w.run)
	return w
}

// Close ends the watch and waits for its goroutine.
func (w *Watcher) Close() error {
	close(w.end)
	w.done.Wait()
	var errs []error
	if w.notes != nil {
		errs = append(errs, w.notes.Close())
	}
	if w.mounts != nil {
		errs = append(errs, w.mounts.Close())
	}
	return errors.Join(errs...)
}

func (w *Watcher) run() {
	again := time.NewTimer(blindInterval)
	defer again.Stop()
	for w.attend(again) {
	}
}

// attend waits for one thing to happen and judges it; it is false at the end. A
// panic costs only what it was about, which the resync sees.
func (w *Watcher) attend(again *time.Timer) (goesOn bool) {
	defer func() {
		if cause := recover(); cause != nil {
			w.log.Error("a file event was lost", "error", bug(cause))
			goesOn = true
		}
	}()
	switch sees := w.blind == "" && w.inSight; {
	case sees:
		again.Stop()
		w.counting = false
	case !w.counting: // else what happens here would put it off
		again.Reset(blindInterval)
		w.counting = true
	}
	select {
	case <-w.end:
		return false
	case event := <-w.events():
		w.handle(event)
	case err := <-w.errors():
		w.log.Warn("file events were lost; looking at everything", "error", err)
		w.arm()
		w.eyes.PokeFiles(true)
	case <-w.mountings():
		w.arm()
		w.eyes.PokeFiles(false)
	case <-again.C:
		w.counting = false
		w.arm()
		if w.blind != "" || w.inSight {
			w.eyes.PokeFiles(false)
		}
	}
	return true
}

// events, errors and mountings are nil, and never ready, where there are none.
func (w *Watcher) events() <-chan fsnotify.Event {
	if w.notes == nil {
		return nil
	}
	return w.notes.Events
}

func (w *Watcher) errors() <-chan error {
	if w.notes == nil {
		return nil
	}
	return w.notes.Errors
}

func (w *Watcher) mountings() <-chan struct{} {
	if w.mounts == nil {
		return nil
	}
	return w.mounts.Changed()
}

// handle judges one event by its name only.
func (w *Watcher) handle(event fsnotify.Event) {
	switch {
	case w.way[event.Name]:
		w.arm()
		w.eyes.PokeFiles(true)
	case w.inside[filepath.Dir(event.Name)] && !noise(event):
		w.eyes.PokeFiles(true)
	}
}

// noise are writes into files that are no task files, e.g. a log that somebody
// keeps there; their coming and going still counts, since editors work with
// them.
func noise(event fsnotify.Event) bool {
	return !strings.HasSuffix(event.Name, ".hcl") && (event.Op == fsnotify.Write || event.Op == fsnotify.Chmod)
}

// arm watches the directory and the way to it: the directories that it lies in,
// which tell when they are moved away themselves, and those that hold symlinks.
// What was watched before is forgotten first: a directory that was replaced
// keeps its name, and only a new watch sees the new one.
func (w *Watcher) arm() {
	err := w.watchAll()
	blind := ""
	switch silent := runtime.SilentFileSystem(w.dir); {
	case err != nil:
		blind = err.Error()
	case silent != "":
		blind = silent + " does not tell of changes that are made elsewhere"
	}
	if blind == w.blind {
		return
	}
	if blind != "" {
		w.log.Warn("file events cannot be relied on: looking every second instead", "dir", w.dir, "reason", blind)
	} else {
		w.log.Info("file events can be relied on again", "dir", w.dir)
	}
	w.blind = blind
	w.eyes.Blind(blind != "")
}

// watchAll is what arm does with inotify. What does not exist is no error: it
// will come in the last directory that does, which is watched instead.
func (w *Watcher) watchAll() error {
	if w.notes == nil {
		notes, err := fsnotify.NewWatcher()
		if err != nil {
			return runtime.WatchFault(err)
		}
		w.notes = notes
	}
	for _, path := range w.notes.WatchList() {
		_ = w.notes.Remove(path)
	}
	way, holders, real := wayTo(w.dir)
	w.way, w.inside = way, map[string]bool{w.dir: true, real: true}
	var errs []error
	add := func(path string) bool {
		err := w.notes.Add(path)
		if fault := runtime.WatchFault(err); fault != nil {
			errs = append(errs, fmt.Errorf("watch %s: %w", path, fault))
		}
		return err == nil
	}
	for path := range way {
		if filepath.Dir(path) != "/" {
			add(path)
		}
	}
	for _, holder := range holders {
		add(holder)
	}
	w.inSight = add(w.dir)
	for up := filepath.Dir(w.dir); !w.inSight && !add(up) && up != "/"; {
		up = filepath.Dir(up)
	}
	return errors.Join(errs...)
}
