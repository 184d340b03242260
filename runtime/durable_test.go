package runtime

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/qemu-reconciler/qemu-reconciler/internal/guest"
	"github.com/qemu-reconciler/qemu-reconciler/spec"
)

// testDisk is what the disk has when nothing gets there but by a sync: the bytes
// of a file as they were when it was synced, the names of a directory likewise.
type testDisk struct {
	mu    sync.Mutex
	bytes map[uint64][]byte
	names map[string]map[string]uint64
	// files and dirs count the syncs of each name or path.
	files, dirs map[string]int
	// stuck holds up every sync while it is held.
	stuck sync.RWMutex
}

func newTestDisk() *testDisk {
	return &testDisk{bytes: map[uint64][]byte{}, names: map[string]map[string]uint64{}, files: map[string]int{}, dirs: map[string]int{}}
}

func (d *testDisk) sync(file *os.File) error {
	d.stuck.RLock()
	defer d.stuck.RUnlock()
	d.mu.Lock()
	defer d.mu.Unlock()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	if !info.IsDir() {
		d.files[filepath.Base(file.Name())]++
		raw, err := io.ReadAll(io.NewSectionReader(file, 0, 1<<30))
		if errors.Is(err, unix.EBADF) { // open for writing only
			raw, err = os.ReadFile(file.Name())
		}
		d.bytes[inode(info)] = raw
		return err
	}
	d.dirs[file.Name()]++
	entries, err := os.ReadDir(file.Name())
	names := map[string]uint64{}
	for _, entry := range entries {
		if info, err := entry.Info(); err == nil {
			names[entry.Name()] = inode(info)
		}
	}
	d.names[file.Name()] = names
	return err
}

func inode(info os.FileInfo) uint64 { return info.Sys().(*syscall.Stat_t).Ino }

// cut is a power cut: of each directory that was ever synced the names of then are
// left, and in them the bytes that were synced, if any.
func (d *testDisk) cut(t *testing.T, dirs ...string) {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, dir := range dirs {
		entries, err := os.ReadDir(dir)
		must(t, err)
		for _, entry := range entries {
			if !entry.IsDir() {
				must(t, os.Remove(filepath.Join(dir, entry.Name())))
			}
		}
		for name, inode := range d.names[dir] {
			if name != "lock" && !strings.HasPrefix(name, temporaryPrefix) {
				_ = os.WriteFile(filepath.Join(dir, name), d.bytes[inode], 0o600) // a directory stays
			}
		}
	}
}

// syncs is how many there were of files, by the beginning of their names, or of all.
func (d *testDisk) syncs(prefix string) (n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for name, count := range d.files {
		if strings.HasPrefix(name, prefix) {
			n += count
		}
	}
	if prefix == "" {
		for _, count := range d.dirs {
			n += count
		}
	}
	return n
}

// dirSyncs is how many there were of a directory.
func (d *testDisk) dirSyncs(path string) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.dirs[path]
}

// copies is how many copies of a task's record were synced.
func (d *testDisk) copies(task string) int { return d.syncs("." + task + safeSuffix) }

// newDiskLab is a lab whose syncs go to a disk of the test's.
func newDiskLab(t *testing.T) (*lab, *testDisk) {
	t.Helper()
	disk := newTestDisk()
	l := newLabWith(t, disk.sync)
	return l, disk
}

// secured waits until the disk has everything.
func (l *lab) secured() {
	l.t.Helper()
	eventually(l.t, "everything on the disk", func() error {
		if l.lacks() || l.securing.Load() {
			return errors.New("something is not")
		}
		return nil
	})
}

// secureByHand keeps the keeper's hands off the disk: from here on it is the
// test's.
func (l *lab) secureByHand() {
	l.t.Helper()
	eventually(l.t, "the keeper's hands off", func() error {
		if l.securing.Swap(true) {
			return errors.New("it is at it")
		}
		return nil
	})
}

// rounds waits for two rounds of the keeper, of which the first was whole: it takes
// the lock anew that was removed.
func (l *lab) rounds() {
	l.t.Helper()
	for range 2 {
		must(l.t, os.Remove(l.layout.RunLock()))
		l.soon()
		eventually(l.t, "a round of the keeper", func() error {
			_, err := os.Stat(l.layout.RunLock())
			return err
		})
	}
}

// TestHistoryOutlivesAPowerCut: everything but processes is on the disk itself a
// moment after it came about, and nothing is brought there while nothing happens.
func TestHistoryOutlivesAPowerCut(t *testing.T) {
	t.Parallel()
	l, disk := newDiskLab(t)
	task := l.task("vm", guest.Button)
	l.start(task)
	l.secured()
	must(t, l.Update("vm", func(r *Record) { r.Restarts = 7 }))
	l.kill("vm", unix.SIGKILL)
	exit := l.ended("vm")
	eventually(t, "event", func() error {
		if !slices.Contains(l.told("vm"), EventExited) {
			return errors.New("not told")
		}
		return nil
	})
	l.secured()
	rest := disk.syncs("")
	l.rounds()
	if more := disk.syncs("") - rest; more != 0 {
		t.Errorf("%d syncs while nothing happened", more)
	}
	before := l.Observe()["vm"].Record
	told := l.told("vm")
	l.reopen(func() { disk.cut(t, l.layout.TasksDir(), l.layout.State) })
	o := l.Observe()["vm"]
	if o.Record == nil || o.Record.LastExit == nil || !cmp.Equal(*o.Record.LastExit, exit) || o.Record.Restarts != 7 || !cmp.Equal(o.Record.Applied, before.Applied) {
		t.Errorf("before %s, after %s", asJSON(before), asJSON(o))
	}
	if after := l.told("vm"); !cmp.Equal(after[:min(len(told), len(after))], told) {
		t.Errorf("events before %v, after %v", told, after)
	}
}

// TestForgottenStaysForgotten: nothing of it is back after a power cut.
func TestForgottenStaysForgotten(t *testing.T) {
	t.Parallel()
	l, disk := newDiskLab(t)
	must(t, l.Update("gone", func(r *Record) { r.Held = true }))
	l.secured()
	must(t, l.Forget("gone"))
	l.secured()
	l.reopen(func() { disk.cut(t, l.layout.TasksDir()) })
	if o, back := l.Observe()["gone"]; back {
		t.Errorf("it is back: %s", asJSON(o))
	}
}

// TestSecuredHoldsOutliveAPowerCut: many at once, while the keeper goes round and
// deeds write the same records.
func TestSecuredHoldsOutliveAPowerCut(t *testing.T) {
	t.Parallel()
	l, disk := newDiskLab(t)
	l.secured()
	var work sync.WaitGroup
	const tasks = 20
	for i := range tasks {
		name := fmt.Sprintf("vm%d", i)
		work.Go(func() {
			if err := l.Write(name, func(r *Record) { r.Held = true }); err != nil {
				t.Error(err)
			}
			if err := l.Secure(name); err != nil {
				t.Error(err)
			}
		})
		work.Go(func() { _ = l.ensure(name).change(saveAnyway, func(r *Record) { r.Restarts++ }) })
	}
	work.Go(func() { _ = l.secure() })
	work.Wait()
	l.reopen(func() { disk.cut(t, l.layout.TasksDir()) })
	held := 0
	for _, o := range l.Observe() {
		if o.Record.Held {
			held++
		}
	}
	if held != tasks {
		t.Errorf("%d of %d holds outlived it", held, tasks)
	}
	if err := l.Secure("nobody"); err != nil {
		t.Error(err)
	}
}

// TestNobodyWaitsForTheDisk: while no sync ends, VMs start, end, are stopped and
// forgotten as ever; only a host port that is new is waited for, and what an
// operator is told.
func TestNobodyWaitsForTheDisk(t *testing.T) {
	t.Parallel()
	l, disk := newDiskLab(t)
	withPorts := func(labels ...string) *spec.Task {
		task := l.task("ports", guest.Button)
		for _, label := range labels {
			task.Resources.Ports = append(task.Resources.Ports, spec.Port{Label: label, Protocols: []string{"tcp"}})
		}
		return task
	}
	l.start(withPorts("a", "b"))
	had := l.Observe()["ports"].Record.Ports
	l.stop("ports", press(testPatience))
	l.secured()
	disk.stuck.Lock()
	release := sync.OnceFunc(disk.stuck.Unlock)
	defer release()
	l.start(withPorts("a"))
	if now := l.Observe()["ports"].Record.Ports; len(now) != 1 || now["a"] != had["a"] {
		t.Errorf("ports %v, before %v", now, had)
	}
	l.start(l.task("vm", guest.Button))
	l.rounds() // the keeper does not wait either
	l.kill("vm", unix.SIGKILL)
	l.ended("vm")
	l.start(l.task("vm", guest.Button))
	l.stop("vm", press(testPatience))
	must(t, l.Forget("vm"))
	l.stop("ports", press(testPatience))
	var returned atomic.Int32
	var waiting sync.WaitGroup
	waiting.Go(func() {
		defer returned.Add(1)
		if err := l.Start(t.Context(), startOf(withPorts("a", "c"))); err != nil {
			t.Error(err)
		}
	})
	waiting.Go(func() {
		defer returned.Add(1)
		if err := l.Update("kept", func(r *Record) { r.Kept = true }); err != nil {
			t.Error(err)
		}
	})
	must(t, l.Write("held", func(r *Record) { r.Held = true }))
	if !l.onDisk("held").Held {
		t.Error("the hold is not written")
	}
	waiting.Go(func() {
		defer returned.Add(1)
		if err := l.Secure("held"); err != nil {
			t.Error(err)
		}
	})
	l.rounds()
	if n := returned.Load(); n != 0 || l.Observe()["ports"].Alive {
		t.Errorf("%d of a start with a new port, an update and a hold did not wait for the disk", n)
	}
	release()
	waiting.Wait()
	if !l.Observe()["ports"].Alive {
		t.Error("it does not run")
	}
}

// TestSyncsAreFew: what changes often is brought to the disk once a round, and of
// hundreds that change at once some in each.
func TestSyncsAreFew(t *testing.T) {
	t.Parallel()
	l, disk := newDiskLab(t)
	l.secured()
	l.secureByHand()
	const tasks = 2*copiesAtOnce + 50
	for i := range tasks {
		m := l.ensure(fmt.Sprintf("vm%d", i))
		for range 5 {
			m.keep(func(r *Record) { r.Restarts++ })
		}
	}
	for _, want := range []int{copiesAtOnce, copiesAtOnce, 50, 0} {
		before, names := disk.syncs(".vm"), disk.dirSyncs(l.layout.TasksDir())
		must(t, l.secure())
		if got := disk.syncs(".vm") - before; got != want {
			t.Errorf("%d copies were synced, want %d", got, want)
		}
		if got := disk.dirSyncs(l.layout.TasksDir()) - names; got > 1 {
			t.Errorf("the directory was synced %d times", got)
		}
	}
	if l.lacks() {
		t.Error("something is not on the disk")
	}
}

// TestFloodsOfReboots: their count is brought to the disk as often as it is told.
func TestFloodsOfReboots(t *testing.T) {
	t.Parallel()
	l, disk := newDiskLab(t)
	l.start(l.task("vm", guest.Deaf))
	l.secured()
	l.secureByHand()
	m, began := l.find("vm"), time.Now()
	life := m.currentLife()
	for _, step := range []struct {
		after time.Duration
		want  int
	}{{0, 1}, {time.Second, 0}, {rebootTelling / 2, 0}, {2 * rebootTelling, 1}} {
		before := disk.copies("vm")
		for range 20 {
			m.countReboots(life, 1, time.Now())
		}
		m.tellReboots(life, began.Add(step.after))
		must(t, l.secure())
		if got := disk.copies("vm") - before; got != step.want {
			t.Errorf("after %v: %d copies were synced, want %d", step.after, got, step.want)
		}
	}
}

// TestSuccessorSecures: what a daemon had not brought to the disk when it was
// killed, its successor does, and nothing beyond that.
func TestSuccessorSecures(t *testing.T) {
	t.Parallel()
	l, disk := newDiskLab(t)
	names := []string{"sound", "behind", "bare"}
	for _, name := range names {
		must(t, l.Update(name, func(r *Record) { r.Held = true }))
	}
	l.secured()
	spoil := func() {
		for _, name := range []string{"behind", "bare"} {
			record := l.onDisk(name)
			record.Restarts = 3
			must(t, OpenStore(l.layout).Put(record, false))
		}
		must(t, os.Remove(l.layout.Record("bare")+".durable"))
	}
	for what, c := range map[string]struct {
		do   func()
		want map[string]int
	}{
		"copies that lack something": {spoil, map[string]int{"behind": 1, "bare": 1}},
		// A copy may be in its place whose name has not reached the disk.
		"names alone": {func() {}, nil},
	} {
		before, dirs := map[string]int{}, 0
		l.reopen(func() {
			c.do()
			for _, name := range names {
				before[name] = disk.copies(name)
			}
			dirs = disk.dirSyncs(l.layout.TasksDir())
		})
		l.secured()
		for _, name := range names {
			if got := disk.copies(name) - before[name]; got != c.want[name] {
				t.Errorf("%s: the copy of %s was synced %d times, want %d", what, name, got, c.want[name])
			}
		}
		if disk.dirSyncs(l.layout.TasksDir()) == dirs {
			t.Errorf("%s: the names were not synced", what)
		}
	}
	l.reopen(func() { disk.cut(t, l.layout.TasksDir()) })
	for _, name := range names {
		o := l.Observe()[name]
		if o.Record == nil || !o.Record.Held || name != "sound" && o.Record.Restarts != 3 {
			t.Errorf("%s after a power cut: %s", name, asJSON(o))
		}
	}
}

// TestWaveringIsSecured: what was written in between may be all that a power cut
// leaves, so the copy is to be later than that.
func TestWaveringIsSecured(t *testing.T) {
	t.Parallel()
	l, _ := newDiskLab(t)
	must(t, l.Update("vm", func(r *Record) { r.Restarts = 1 }))
	must(t, l.Write("vm", func(r *Record) { r.Held = true }))
	must(t, l.Write("vm", func(r *Record) { r.Held = false }))
	must(t, l.Secure("vm"))
	if copied, last := numberIn(l.layout.Record("vm")+".durable"), numberIn(l.layout.Record("vm")); copied <= last {
		t.Errorf("the copy is of write %d, the record of write %d", copied, last)
	}
	l.secured()
	rest := numberIn(l.layout.Record("vm") + ".durable")
	l.rounds()
	if again := numberIn(l.layout.Record("vm") + ".durable"); again != rest {
		t.Error("a copy that lacks nothing is made again")
	}
}

// TestDiskThatFails: it is told once, tried again, and nobody minds.
func TestDiskThatFails(t *testing.T) {
	t.Parallel()
	var broken atomic.Bool
	l := newLabWith(t, func(*os.File) error {
		if broken.Load() {
			return unix.EIO
		}
		return nil
	})
	l.secured()
	broken.Store(true)
	l.start(l.task("vm", guest.Button))
	l.rounds()
	l.rounds()
	if n := strings.Count(l.log.String(), "would be lost in a power cut"); n != 1 {
		t.Errorf("told %d times", n)
	}
	left, err := filepath.Glob(filepath.Join(l.layout.TasksDir(), temporaryPrefix+"*"))
	if must(t, err); len(left) > 1 { // one may be under way
		t.Errorf("left: %v", left)
	}
	broken.Store(false)
	l.secured()
	if o := l.Observe()["vm"]; o.Trouble != "" || !o.Answering {
		t.Errorf("seen: %s", asJSON(o))
	}
}
