package spec

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// dear is a file that takes far longer to judge than anybody waits for here.
func dear(n int) string {
	var b strings.Builder
	for i := range n {
		loop := strings.Repeat("[for a in range(1000) : ", 4) + "1" + strings.Repeat("]", 4)
		fmt.Fprintf(&b, "task \"dear%d\" {\n meta = { a = jsonencode(%s) }\n config { image_path = \"/a\" }\n}\n", i, loop)
	}
	return b.String()
}

func impatient(dir string) *Loader {
	l := offline(dir)
	l.opts.Patience = time.Nanosecond
	return l
}

// until loads until it is so, as the engine does while a set is unsettled.
func until(t *testing.T, l *Loader, what string, so func(*Set) bool) *Set {
	t.Helper()
	deadline, tick := time.After(time.Minute), time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		if set := l.Load(); so(set) {
			return set
		}
		select {
		case <-deadline:
			t.Fatalf("no %s", what)
		case <-tick.C:
		}
	}
}

func has(set *Set, name string) bool {
	return slices.ContainsFunc(set.Definitions, func(d *Definition) bool { return d.Task.Name == name })
}

// TestDearFilesHoldUpNobody holds that ordinary files are taken while the slow
// lane is taken and dear ones wait for it, that those count as unsettled until
// they are judged, and that they are judged once.
func TestDearFilesHoldUpNobody(t *testing.T) {
	dir := t.TempDir()
	l := impatient(dir)
	l.lanes.slow <- struct{}{} // nobody gets through
	for i := range quickAtOnce + 1 {
		write(t, dir, fmt.Sprintf("dear%d.hcl", i), dear(1))
	}
	write(t, dir, "large.hcl", "# "+strings.Repeat("x", quickSize))
	write(t, dir, "z.hcl", task("z", 512))
	set := until(t, l, "ordinary task", func(set *Set) bool { return has(set, "z") })
	if !set.Unsettled || len(set.Writing) != quickAtOnce+2 || set.Broken() {
		t.Errorf("unsettled: %v %v, files %v", set.Unsettled, set.Writing, set.Files)
	}
	write(t, dir, "z.hcl", task("z", 1024))
	until(t, l, "edit", func(set *Set) bool { return slices.Contains(names(set), "z=1024") })
	parsed := l.Parsed()
	<-l.lanes.slow
	set = until(t, l, "end", func(set *Set) bool { return !set.Unsettled })
	if len(set.Files) != quickAtOnce+3 || !set.Broken() {
		t.Errorf("files %v", set.Files)
	}
	if l.Load(); l.Parsed() != parsed || len(l.jobs) != 0 {
		t.Errorf("%d parses for %d files, %d under way", l.Parsed(), parsed, len(l.jobs))
	}
	for _, lane := range []chan struct{}{l.lanes.quick, l.lanes.slow} {
		if len(lane) != 0 {
			t.Error("a place in a lane is not given back")
		}
	}
	if l.lanes.hurried != 0 {
		t.Errorf("%d files are still in a hurry", l.lanes.hurried)
	}
}

// TestSlowLane holds that large files and dear ones are parsed one at a time,
// and only when no quick one waits.
func TestSlowLane(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLanes()
		l.slow <- struct{}{}
		var parsed atomic.Int32
		for _, src := range []string{"# " + strings.Repeat("x", quickSize), dear(1), dear(1)} {
			go func() {
				l.parse(t.Context(), "a.hcl", []byte(src), Env{Dir: "/"})
				parsed.Add(1)
			}()
		}
		expect := func(when string, want int32) {
			t.Helper()
			synctest.Wait()
			if got := parsed.Load(); got != want {
				t.Errorf("%s: %d are parsed, want %d", when, got, want)
			}
		}
		expect("slow lane taken", 0)
		l.hurry(1)
		<-l.slow
		expect("quick file waits", 0)
		l.hurry(-1)
		expect("nobody in the way", 3)
	})
}

// TestOvertakenParse holds that a file which is mended, or removed, while it
// waits to be judged does not wait for its old content.
func TestOvertakenParse(t *testing.T) {
	dir := t.TempDir()
	l := impatient(dir)
	l.lanes.slow <- struct{}{}
	write(t, dir, "a.hcl", dear(1))
	write(t, dir, "b.hcl", dear(1))
	if set := l.Load(); len(set.Writing) != 2 {
		t.Fatalf("writing %v", set.Writing)
	}
	given := []*job{l.jobs["a.hcl"], l.jobs["b.hcl"]}
	write(t, dir, "a.hcl", task("a", 512))
	if err := os.Remove(filepath.Join(dir, "b.hcl")); err != nil {
		t.Fatal(err)
	}
	set := until(t, l, "mended file", func(set *Set) bool { return !set.Unsettled })
	if got := names(set); !slices.Equal(got, []string{"a=512"}) || set.Broken() {
		t.Errorf("%v, %v", got, set.Files)
	}
	for _, j := range given {
		select {
		case <-j.done:
		case <-time.After(time.Minute):
			t.Error("the parse of a content that is gone goes on")
		}
	}
}

// TestBusyReadIsNotParsedAgain holds that a file which reads one that changes
// all the time costs no parse in every pass.
func TestBusyReadIsNotParsedAgain(t *testing.T) {
	dir := t.TempDir()
	var now atomic.Int64
	now.Store(time.Now().UnixNano())
	l := NewLoader(LoaderOptions{Dir: dir, HostName: "h", HostArch: "x86_64",
		Now: func() time.Time { return time.Unix(0, now.Load()) }})
	l.opts.Writing = func(*os.File) (busy, known bool) { return false, true }
	write(t, dir, "a.hcl", strings.Replace(task("a", 512), "512", `file("size")`, 1))
	for i := range 5 {
		write(t, dir, "size", fmt.Sprint(1000+i))
		info, err := os.Stat(filepath.Join(dir, "size"))
		if err != nil {
			t.Fatal(err)
		}
		now.Store(info.ModTime().UnixNano())
		if set := l.Load(); !set.Unsettled || l.Parsed() != 1 {
			t.Errorf("unsettled %v after %d parses", set.Unsettled, l.Parsed())
		}
	}
	now.Add(int64(2 * time.Hour))
	set := l.Load()
	if got := names(set); !slices.Equal(got, []string{"a=1004"}) || l.Parsed() != 2 {
		t.Errorf("%v after %d parses: %+v", got, l.Parsed(), set)
	}
}

// TestBacklogIsBounded holds that many large files are not all in memory at
// once, and that small ones are read all the same.
func TestBacklogIsBounded(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "a.hcl", "# "+strings.Repeat("x", quickSize))
	write(t, dir, "z.hcl", task("z", 512))
	l := impatient(dir)
	l.backlog.large.Store(maxLargeBacklog)
	set := until(t, l, "small file", func(set *Set) bool { return has(set, "z") })
	if l.Parsed() != 1 || !slices.Equal(set.Writing, []string{"a.hcl"}) {
		t.Errorf("%d parses, writing %v", l.Parsed(), set.Writing)
	}
	l.backlog.large.Store(0)
	until(t, l, "large file", func(set *Set) bool { return !set.Unsettled })
	if left := l.backlog.large.Load() + l.backlog.small.Load(); left != 0 {
		t.Errorf("%d bytes are still counted", left)
	}
}

// TestPanicIsOneFilesError holds that a bug in the work on one file, or on one
// task, is an error there, is told with its stack, and harms no other.
func TestPanicIsOneFilesError(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "bad.hcl", task("bad", 512))
	write(t, dir, "good.hcl", task("good", 512))
	for what, inject := range map[string]func(*Loader){
		"file": func(l *Loader) {
			l.shown = func(name string) string {
				if name == "bad.hcl" {
					panic("injected")
				}
				return name
			}
		},
		"host": func(l *Loader) { l.judge.host = panickingHost{newFakeHost()} },
	} {
		t.Run(what, func(t *testing.T) {
			var told atomic.Int32
			l := offline(dir)
			l.opts.Crashed = func(file string, reason any, stack []byte) {
				told.Add(1)
				if reason != "injected" || !strings.Contains(string(stack), "job_test.go") {
					t.Errorf("%v: %s", reason, stack)
				}
			}
			l.judge = newJudge(nil, l.opts.crashed)
			inject(l)
			set := l.Load()
			if got := names(set); !slices.Equal(got, []string{"good=512"}) || !set.Broken() {
				t.Errorf("%v, %v", got, set.Files)
			}
			if l.Load(); told.Load() != 1 {
				t.Errorf("told %d times", told.Load())
			}
		})
	}
	t.Run("task", func(t *testing.T) {
		panicked := false
		m := &meter{fileSteps: maxFileSteps - quickSteps, dear: func() bool {
			if !panicked {
				panicked = true
				panic("injected")
			}
			return true
		}}
		src := strings.Replace(task("bad", 512), "512", "max(512, 1)", 1) + task("good", 512)
		s := parseMetered("x.hcl", []byte(src), Env{Dir: "/", HostName: "h", HostArch: "x86_64"}, m)
		if len(s.Definitions) != 1 || s.Definitions[0].Task.Name != "good" || !slices.Equal(s.Faulty, []string{"bad"}) || len(s.Errors) != 1 {
			t.Errorf("%+v", s)
		}
	})
}

type panickingHost struct{ *fakeHost }

func (h panickingHost) Image(path string) (ImageInfo, error) {
	if strings.Contains(path, "bad") {
		panic("injected")
	}
	return ImageInfo{}, nil
}
