package spec

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// story is what the commands of one script in testdata/load share. Its clock
// stands still, an hour ahead of the files' own times.
type story struct {
	loader *Loader
	host   *fakeHost
	now    time.Time
	// busy are the files that are being written; nil means that nobody knows.
	busy   map[string]bool
	parsed int
}

type storyKey struct{}

// TestLoadStories runs the scripts in testdata/load: each changes the task
// directory $WORK/vms.d step by step, and says after each what is loaded and
// how many files were parsed for it.
func TestLoadStories(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:           "testdata/load",
		UpdateScripts: *updateGolden,
		Setup: func(env *testscript.Env) error {
			s := &story{now: time.Now().Add(time.Hour), host: newFakeHost()}
			s.loader = NewLoader(LoaderOptions{
				Dir: filepath.Join(env.WorkDir, "vms.d"), HostName: "host1.example.org", HostArch: "x86_64",
				Host: s.host, Writing: s.writing, Now: func() time.Time { return s.now },
			})
			env.Values[storyKey{}] = s
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"load":    story{}.load,
			"recheck": func(ts *testscript.TestScript, _ bool, _ []string) { of(ts).loader.Recheck() },
			"writing": story{}.setWriting,
			"age":     story{}.age,
			"fifo": func(ts *testscript.TestScript, _ bool, args []string) {
				ts.Check(syscall.Mkfifo(ts.MkAbs(args[0]), 0o644))
			},
			"grow": func(ts *testscript.TestScript, _ bool, args []string) {
				var size int64
				_, err := fmt.Sscan(args[1], &size)
				ts.Check(err)
				ts.Check(os.Truncate(ts.MkAbs(args[0]), size))
			},
			"swap": func(ts *testscript.TestScript, _ bool, args []string) {
				ts.Check(os.Symlink(args[1], ts.MkAbs("swap.tmp")))
				ts.Check(os.Rename(ts.MkAbs("swap.tmp"), ts.MkAbs(args[0])))
			},
			"image": story{}.image,
		},
	})
}

func of(ts *testscript.TestScript) *story { return ts.Value(storyKey{}).(*story) }

func (s *story) writing(f *os.File) (busy, known bool) {
	return s.busy[filepath.Base(f.Name())], s.busy != nil
}

// load prints what is loaded: the sound tasks, what is wrong, and how many
// files were parsed since the last time.
func (story) load(ts *testscript.TestScript, _ bool, _ []string) {
	s, out := of(ts), ts.Stdout()
	set := s.loader.Load()
	if set.Err != nil {
		fmt.Fprintf(out, "directory: %s\n", set.Err.Error()[strings.LastIndex(set.Err.Error(), ": ")+2:])
	} else {
		fmt.Fprintf(out, "tasks: %s\n", strings.Join(names(set), " "))
	}
	for _, f := range set.Files {
		for _, e := range f.Errors {
			fmt.Fprintf(out, "error: %s\n", e.Error())
		}
		if len(f.Faulty) > 0 {
			fmt.Fprintf(out, "faulty in %s: %s\n", f.Path, strings.Join(f.Faulty, " "))
		}
	}
	if set.Unsettled {
		fmt.Fprintf(out, "unsettled: %s\n", strings.Join(set.Writing, " "))
	}
	fmt.Fprintf(out, "parsed: %d\n", s.loader.Parsed()-s.parsed)
	s.parsed = s.loader.Parsed()
}

// names lists the sound tasks, each with its memory, to tell contents apart.
func names(set *Set) []string {
	var out []string
	for _, d := range set.Definitions {
		out = append(out, fmt.Sprintf("%s=%d", d.Task.Name, d.Task.Resources.MemoryMiB))
	}
	return out
}

// setWriting says which files are being written; with no name, that none is,
// and with "unknown" that nobody can know.
func (story) setWriting(ts *testscript.TestScript, _ bool, args []string) {
	s := of(ts)
	s.busy = map[string]bool{}
	for _, name := range args {
		s.busy[name] = true
	}
	if slices.Equal(args, []string{"unknown"}) {
		s.busy = nil
	}
}

// age sets how long ago a file was written.
func (story) age(ts *testscript.TestScript, _ bool, args []string) {
	s := of(ts)
	ago, err := time.ParseDuration(args[1])
	ts.Check(err)
	ts.Check(os.Chtimes(ts.MkAbs(args[0]), time.Time{}, s.now.Add(-ago)))
}

// image makes an image of the fake host come or go: "image PATH INODE".
func (story) image(ts *testscript.TestScript, neg bool, args []string) {
	host := of(ts).host
	if neg {
		delete(host.images, args[0])
		return
	}
	var info ImageInfo
	_, err := fmt.Sscan(args[1], &info.Inode)
	ts.Check(err)
	host.images[args[0]] = info
}

// fakeHost is a host with one emulator and images that come and go.
type fakeHost struct {
	emulators map[string]EmulatorInfo
	old       map[string]bool
	images    map[string]ImageInfo
	// looks counts the questions about images.
	looks int
	// all gives every path that is not in images an inode of its own.
	all   bool
	inode map[string]uint64
}

func newFakeHost() *fakeHost {
	return &fakeHost{
		emulators: map[string]EmulatorInfo{
			"qemu-system-x86_64": {Version: "7.2.0", Accelerators: []string{"tcg"}, MachineTypes: []string{"pc", "q35", "microvm"}},
		},
		old:    map[string]bool{"qemu-system-sparc": true},
		images: map[string]ImageInfo{},
		inode:  map[string]uint64{},
	}
}

func (h *fakeHost) Emulators() []string {
	return slices.Sorted(maps.Keys(mergeKeys(h.emulators, h.old)))
}

func mergeKeys(a map[string]EmulatorInfo, b map[string]bool) map[string]bool {
	out := maps.Clone(b)
	for name := range a {
		out[name] = true
	}
	return out
}

func (h *fakeHost) Emulator(name string) (EmulatorInfo, error) {
	if h.old[name] {
		return EmulatorInfo{}, fmt.Errorf("%s is version 4.2.0; 5.2.0 or later is needed", name)
	}
	if info, ok := h.emulators[name]; ok {
		return info, nil
	}
	return EmulatorInfo{}, fmt.Errorf("%s is not in PATH", name)
}

func (h *fakeHost) Image(path string) (ImageInfo, error) {
	h.looks++
	if info, ok := h.images[path]; ok {
		return info, nil
	}
	if !h.all {
		return ImageInfo{}, fmt.Errorf("%s: no such file or directory", path)
	}
	if h.inode[path] == 0 {
		h.inode[path] = uint64(1<<20 + len(h.inode))
	}
	return ImageInfo{Inode: h.inode[path]}, nil
}

// write makes a task file that was left alone for long.
func write(t testing.TB, dir, name, src string) {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(src), 0o644); err != nil {
		t.Fatal(err)
	}
	long := time.Now().Add(-time.Hour)
	if err := os.Chtimes(path, long, long); err != nil {
		t.Fatal(err)
	}
}

// task is the text of a small task.
func task(name string, memory int) string {
	return fmt.Sprintf("task %q {\n  config {\n    image_path = \"/img/%s\"\n  }\n  resources {\n    memory = %d\n  }\n}\n", name, name, memory)
}

// offline is a loader of dir that has no host and a clock far ahead.
func offline(dir string) *Loader {
	return NewLoader(LoaderOptions{Dir: dir, HostName: "host1", HostArch: "x86_64", Now: func() time.Time { return time.Now().Add(time.Hour) }})
}
