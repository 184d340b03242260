package reconcile

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"
	"github.com/hashicorp/go-hclog"
)

// rearmDelay is how often a directory that cannot be watched is tried again.
const rearmDelay = time.Second

// Watcher turns file events into pokes. An event carries no fact: it only says
// that a look is due, so events that are lost or merged cost nothing but time,
// and the periodic resync bounds that.
type Watcher struct {
	dir   string
	look  func(event bool)
	log   hclog.Logger
	notes *fsnotify.Watcher
	done  sync.WaitGroup
	// way are the paths whose change means that the directory itself may be
	// another one: the directory, what it lies in, and every symlink on the way
	// with what that lies in.
	way map[string]bool
	// inside are the two names of the directory: as it was given, and without
	// symlinks. Events come under either, for a directory has one watch.
	inside map[string]bool
}

// NewWatcher watches dir, which need not exist yet. look is called for every
// event; its argument says whether something happened inside the directory,
// and not only to the way there. Close ends it.
func NewWatcher(dir string, look func(event bool), log hclog.Logger) (*Watcher, error) {
	notes, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, err
	}
	w := &Watcher{dir: filepath.Clean(dir), look: look, log: log, notes: notes}
	w.arm()
	w.done.Go(w.run)
	return w, nil
}

// Close ends the watch and waits for its goroutine.
func (w *Watcher) Close() error {
	err := w.notes.Close()
	w.done.Wait()
	return err
}

func (w *Watcher) run() {
	again := time.NewTimer(rearmDelay)
	defer again.Stop()
	for {
		if w.watching() {
			again.Stop()
		} else {
			again.Reset(rearmDelay)
		}
		select {
		case event, open := <-w.notes.Events:
			if !open {
				return
			}
			w.handle(event)
		case err, open := <-w.notes.Errors:
			if !open {
				return
			}
			w.log.Warn("file events were lost; looking at everything", "error", err)
			w.look(true)
		case <-again.C:
			w.arm()
			if w.watching() {
				w.look(false)
			}
		}
	}
}

// handle judges one event by its name only.
func (w *Watcher) handle(event fsnotify.Event) {
	switch {
	case w.way[event.Name]:
		w.arm()
		w.look(true)
	case w.inside[filepath.Dir(event.Name)] && !noise(event):
		w.look(true)
	}
}

// noise are writes into files that are no task files, e.g. a log that somebody
// keeps there; their coming and going still counts, since editors work with
// them.
func noise(event fsnotify.Event) bool {
	return !strings.HasSuffix(event.Name, ".hcl") && (event.Op == fsnotify.Write || event.Op == fsnotify.Chmod)
}

// watching says whether the directory itself is under watch.
func (w *Watcher) watching() bool {
	return slices.ContainsFunc(w.notes.WatchList(), func(path string) bool { return w.inside[path] })
}

// arm watches the directory and the way to it: the directories that it lies in,
// which tell when they are moved away themselves, and those that hold symlinks.
// What was watched before is forgotten first: a directory that was replaced
// keeps its name, and only a new watch sees the new one.
func (w *Watcher) arm() {
	for _, path := range w.notes.WatchList() {
		_ = w.notes.Remove(path)
	}
	way, holders, real := wayTo(w.dir)
	w.way, w.inside = way, map[string]bool{w.dir: true, real: true}
	for path := range way {
		if filepath.Dir(path) != "/" {
			_ = w.notes.Add(path)
		}
	}
	for _, holder := range holders {
		_ = w.notes.Add(holder)
	}
	if w.notes.Add(w.dir) == nil {
		return
	}
	// The next directory that has to come will come in the last that exists.
	for up := filepath.Dir(w.dir); w.notes.Add(up) != nil && up != "/"; up = filepath.Dir(up) {
	}
}

// wayTo are all paths that the resolution of an absolute path passes: each of
// its directories, and for each symlink those of its target. holders are the
// directories that the symlinks are in, and real is the path without them. A
// loop of links ends the search.
//
// Directories right below the root are on the way, but arm does not watch them
// for their own sake: nobody swaps /etc or /tmp, and much happens in some.
func wayTo(path string) (way map[string]bool, holders []string, real string) {
	way = map[string]bool{}
	for {
		link, target := firstLink(path)
		last := path
		if link != "" {
			last = link
		}
		again := link != "" && way[link]
		for ; last != filepath.Dir(last); last = filepath.Dir(last) {
			way[last] = true
		}
		if link == "" || again {
			return way, holders, path
		}
		holders = append(holders, filepath.Dir(link))
		if !filepath.IsAbs(target) {
			target = filepath.Join(filepath.Dir(link), target)
		}
		path = filepath.Join(target, strings.TrimPrefix(path, link))
	}
}

// firstLink is the first component of an absolute path that is a symlink, and
// where it points.
func firstLink(path string) (link, target string) {
	at := "/"
	for part := range strings.SplitSeq(strings.TrimPrefix(path, "/"), "/") {
		at = filepath.Join(at, part)
		if target, err := os.Readlink(at); err == nil {
			return at, target
		}
	}
	return "", ""
}
