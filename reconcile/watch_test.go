package reconcile

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
)

// looks collects what a watcher asks for; each is a value on the channel.
type looks chan bool

func (l looks) PokeFiles(event bool) { l <- event }
func (l looks) Blind(bool)           {}

func watch(t *testing.T, dir string) <-chan bool {
	t.Helper()
	looks := make(looks, 1000)
	w := NewWatcher(dir, looks, hclog.NewNullLogger())
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	return looks
}

func expectLook(t *testing.T, looks <-chan bool, what string) {
	t.Helper()
	select {
	case <-looks:
	case <-time.After(10 * time.Second):
		t.Fatalf("%s was not seen", what)
	}
}

func drain(looks <-chan bool) {
	for {
		select {
		case <-looks:
		default:
			return
		}
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// seen proves that the watch of the directory works by writing a file into it
// until a look is asked for: the watcher arms itself in its own time.
func seen(t *testing.T, looks <-chan bool, dir, what string) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	for {
		drain(looks)
		check(t, os.WriteFile(filepath.Join(dir, "probe.hcl"), []byte(time.Now().String()), 0o600))
		select {
		case <-looks:
			return
		case <-deadline:
			t.Fatalf("%s: changes in the directory are not seen", what)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func TestWatcherSeesFiles(t *testing.T) {
	dir := t.TempDir()
	looks := watch(t, dir)
	path := filepath.Join(dir, "a.hcl")
	check(t, os.WriteFile(path, []byte("x"), 0o600))
	expectLook(t, looks, "a new file")
	drain(looks)
	check(t, os.Rename(path, filepath.Join(dir, "b.hcl")))
	expectLook(t, looks, "a rename")
	drain(looks)
	check(t, os.Remove(filepath.Join(dir, "b.hcl")))
	expectLook(t, looks, "a removal")
}

func TestWatcherFollowsTheDirectory(t *testing.T) {
	root := t.TempDir()
	dir := filepath.Join(root, "deep", "vms.d")
	looks := watch(t, dir)
	check(t, os.MkdirAll(dir, 0o700))
	expectLook(t, looks, "the directory's coming")
	seen(t, looks, dir, "made")

	check(t, os.Rename(filepath.Join(root, "deep"), filepath.Join(root, "old")))
	expectLook(t, looks, "the move of its parent")
	check(t, os.MkdirAll(dir, 0o700))
	seen(t, looks, dir, "replaced with its parent")

	check(t, os.RemoveAll(dir))
	expectLook(t, looks, "the directory's going")
	check(t, os.Mkdir(dir, 0o700))
	seen(t, looks, dir, "made again")
}

// git-sync swaps a symlink that leads to the directory, or to one above it.
func TestWatcherFollowsSwappedLinks(t *testing.T) {
	root := t.TempDir()
	for _, rev := range []string{"rev1", "rev2"} {
		check(t, os.MkdirAll(filepath.Join(root, rev, "vms.d"), 0o700))
	}
	link := filepath.Join(root, "current")
	check(t, os.Symlink("rev1", link))
	looks := watch(t, filepath.Join(link, "vms.d"))
	seen(t, looks, filepath.Join(root, "rev1", "vms.d"), "before the swap")
	drain(looks)
	check(t, os.Symlink("rev2", link+".new"))
	check(t, os.Rename(link+".new", link))
	expectLook(t, looks, "the swap")
	seen(t, looks, filepath.Join(root, "rev2", "vms.d"), "after the swap")
}

func TestWatcherIgnoresNoise(t *testing.T) {
	root := t.TempDir()
	dir := filepath.Join(root, "vms.d")
	check(t, os.Mkdir(dir, 0o700))
	log, err := os.Create(filepath.Join(dir, "some.log"))
	check(t, err)
	defer log.Close()
	looks := watch(t, dir)
	for range 10 {
		_, err := log.WriteString("noise\n")
		check(t, err)
		check(t, os.WriteFile(filepath.Join(root, "neighbour"), []byte("x"), 0o600))
	}
	check(t, os.WriteFile(filepath.Join(dir, "a.hcl"), []byte("x"), 0o600))
	expectLook(t, looks, "a task file after the noise")
	events := 1
	for len(looks) > 0 {
		if <-looks { // and no mount somewhere on this host
			events++
		}
	}
	if events > 3 {
		t.Errorf("%d looks; want those of the one file: it was made and written", events)
	}
}

// What happens beside a directory of which no event can be had does not put off
// the look at it.
func TestWatcherLooksBesideABusyDirectory(t *testing.T) {
	root, looks := t.TempDir(), make(looks, 1000)
	// The kernel watches no path with such a name in it. Mounts would wake, too.
	w := &Watcher{dir: filepath.Join(root, strings.Repeat("x", 300)), eyes: looks, log: hclog.NewNullLogger(), end: make(chan struct{})}
	w.arm()
	w.done.Go(w.run)
	defer func() { check(t, w.Close()) }()
	late, tick := time.After(20*time.Second), time.NewTicker(blindInterval/20)
	defer tick.Stop()
	for seen := 0; seen < 3; {
		check(t, os.WriteFile(filepath.Join(root, "neighbour"), []byte("x"), 0o600))
		select {
		case <-looks:
			seen++
		case <-tick.C:
		case <-late:
			t.Fatalf("%d looks in spite of the neighbour's writes", seen)
		}
	}
}

func TestWayToEndsInALoopOfLinks(t *testing.T) {
	root := t.TempDir()
	check(t, os.Symlink("b", filepath.Join(root, "a")))
	check(t, os.Symlink("a", filepath.Join(root, "b")))
	way, _, _ := wayTo(filepath.Join(root, "a", "vms.d"))
	if !way[filepath.Join(root, "a")] || !way[filepath.Join(root, "b")] {
		t.Errorf("both links are on the way: %v", way)
	}
}

// stumbling panics at the first event.
type stumbling struct {
	looks
	failed *bool
}

func (s stumbling) PokeFiles(event bool) {
	if !*s.failed {
		*s.failed = true
		panic("injected")
	}
	s.looks.PokeFiles(event)
}

// TestWatcherOutlivesAPanic: an event that makes the program fail is lost, and
// those after it are not.
func TestWatcherOutlivesAPanic(t *testing.T) {
	dir := t.TempDir()
	seen := make(looks, 1000)
	var log notebook
	w := NewWatcher(dir, stumbling{seen, new(bool)}, log.logger())
	late, tick := time.After(20*time.Second), time.NewTicker(20*time.Millisecond)
	defer tick.Stop()
	for n, again := 0, true; again; n++ {
		check(t, os.WriteFile(filepath.Join(dir, fmt.Sprintf("%d.hcl", n)), nil, 0o600))
		select {
		case <-seen:
			again = false
		case <-tick.C:
		case <-late:
			t.Fatal("no event after the panic")
		}
	}
	check(t, w.Close())
	if log.count("a file event was lost") != 1 || log.count("watch_test.go") == 0 {
		t.Error("the log does not have the stack")
	}
}
