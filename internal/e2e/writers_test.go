package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/qemu-reconciler/qemu-reconciler/internal/guest"
	"github.com/qemu-reconciler/qemu-reconciler/reconcile"
)

// pause is longer than a removal takes to be believed: who gets along with it
// does not owe that to speed.
const pause = 700 * time.Millisecond

// writer is one way in which programs replace the content of a file.
type writer struct {
	name string
	save func(w *writing)
}

// writing is the replacement of a file's content under way.
type writing struct {
	h             *Host
	path, content string
	// change is what sed and vim do to get from the old content to the new.
	change string
}

func (w *writing) run(name string, args ...string) {
	w.h.t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		w.h.t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

// elsewhere is a file outside the task directory with the new content.
func (w *writing) elsewhere() string {
	w.h.t.Helper()
	path := filepath.Join(w.h.Disks, "copy.hcl")
	w.h.must(os.WriteFile(path, []byte(w.content), 0o644))
	return path
}

// beside is the path of another name in the task directory.
func (w *writing) beside(format string) string {
	return filepath.Join(w.h.VMs, fmt.Sprintf(format, filepath.Base(w.path)))
}

func (w *writing) write(path, content string) {
	w.h.t.Helper()
	w.h.must(os.WriteFile(path, []byte(content), 0o644))
}

// pieces writes to an open file, with a pause in the middle of a number.
func (w *writing) pieces(flag int) {
	w.h.t.Helper()
	file, err := os.OpenFile(w.path, flag, 0o644)
	w.h.must(err)
	half := strings.LastIndex(w.content, "memory = 12") + len("memory = 12")
	for _, piece := range []string{w.content[:half], w.content[half:]} {
		_, err := file.WriteString(piece)
		w.h.must(err)
		<-time.After(pause)
	}
	w.h.must(file.Close())
}

var writers = []writer{
	{"a rename", func(w *writing) { w.h.Write(filepath.Base(w.path), w.content) }},
	{"a plain write", func(w *writing) { w.write(w.path, w.content) }},
	{"pieces", func(w *writing) { w.pieces(os.O_WRONLY | os.O_TRUNC) }},
	{"a new file in pieces", func(w *writing) {
		w.h.must(os.Remove(w.path))
		w.pieces(os.O_WRONLY | os.O_CREATE)
	}},
	{"truncation, a pause, a write", func(w *writing) {
		w.write(w.path, "")
		<-time.After(pause)
		w.write(w.path, w.content)
	}},
	{"deletion and a write", func(w *writing) {
		w.h.must(os.Remove(w.path))
		w.write(w.path, w.content)
	}},
	{"appending line by line", func(w *writing) {
		w.write(w.path, "")
		for line := range strings.Lines(w.content) {
			w.run("sh", "-c", `printf %s "$1" >>"$2"`, "sh", line, w.path)
		}
	}},
	{"tee", func(w *writing) { w.run("sh", "-c", `tee "$2" <"$1" >/dev/null`, "sh", w.elsewhere(), w.path) }},
	{"cp", func(w *writing) { w.run("cp", w.elsewhere(), w.path) }},
	{"cp --remove-destination", func(w *writing) { w.run("cp", "--remove-destination", w.elsewhere(), w.path) }},
	{"install", func(w *writing) { w.run("install", "-m", "644", w.elsewhere(), w.path) }},
	{"sed -i", func(w *writing) { w.run("sed", "-i", w.change, w.path) }},
	{"vim, writing in place", func(w *writing) {
		w.run("vim", "-Nesu", "NONE", "-c", "set writebackup backupcopy=yes", "-c", "%"+w.change, "-c", "wq", w.path)
	}},
	{"vim, renaming", func(w *writing) {
		w.run("vim", "-Nesu", "NONE", "-c", "set backup backupcopy=no", "-c", "%"+w.change, "-c", "wq", w.path)
	}},
	{"emacs", func(w *writing) {
		lock, auto := w.beside(".#%s"), w.beside("#%s#")
		w.h.must(os.Symlink("me@host.1:2", lock))
		w.write(auto, w.content[:len(w.content)/2])
		w.h.must(os.Rename(w.path, w.path+"~"))
		w.write(w.path, w.content)
		w.h.must(os.Remove(auto))
		w.h.must(os.Remove(lock))
	}},
	{"nano", func(w *writing) {
		swap := w.beside(".%s.swp")
		w.write(swap, "swap")
		w.run("cp", w.path, w.path+"~")
		w.write(w.path, w.content)
		w.h.must(os.Remove(swap))
	}},
	{"VS Code", func(w *writing) { // it keeps the inode, its owner and its links
		file, err := os.OpenFile(w.path, os.O_RDWR, 0)
		w.h.must(err)
		w.h.must(file.Truncate(0))
		_, err = file.WriteString(w.content)
		w.h.must(err)
		w.h.must(file.Sync())
		w.h.must(file.Close())
	}},
	{"scp", func(w *writing) { w.pieces(os.O_WRONLY | os.O_TRUNC) }},
	{"sftp to another name", func(w *writing) {
		part := w.path + ".filepart"
		w.write(part, w.content)
		w.h.must(os.Rename(part, w.path))
	}},
	{"rsync", func(w *writing) { w.run("rsync", "-t", "--ignore-times", w.elsewhere(), w.path) }},
	{"rsync --inplace", func(w *writing) { w.run("rsync", "--inplace", "--ignore-times", w.elsewhere(), w.path) }},
	{"the same size and time", func(w *writing) {
		w.write(w.path+".new", w.content)
		w.run("touch", "-r", w.path, w.path+".new")
		w.h.must(os.Rename(w.path+".new", w.path))
	}},
	{"the same size and time in place", func(w *writing) {
		w.run("sh", "-c", `touch -r "$2" "$1" && cat "$1" >"$2" && touch -r "$1" "$2"`, "sh", w.elsewhere(), w.path)
	}},
	{"a hard link", func(w *writing) {
		w.write(w.beside(".%s.linked"), w.content)
		w.run("ln", "-f", w.beside(".%s.linked"), w.path)
	}},
	{"a symlink", func(w *writing) { w.run("ln", "-sf", w.elsewhere(), w.path) }},
}

// However a file is written, its final content is what counts: no VM is touched
// that is in both contents, and nothing is made of a half. The last attribute
// of the file is the memory of a VM, and the pieces end within its digits.
func TestWriters(t *testing.T) {
	t.Parallel()
	h := Start(t)
	digits := regexp.MustCompile(`digit = "\d+"`)
	text := with(h.Task("first", guest.Button), `meta { digit = "0" }`) + h.Task("second", guest.Button)
	h.Write("all.hcl", text)
	first, second := h.AwaitRunning("first"), h.AwaitRunning("second")
	for i, writer := range writers {
		value := fmt.Sprint(i%9 + 1)
		content := digits.ReplaceAllString(text, `digit = "`+value+`"`)
		writer.save(&writing{h: h, path: filepath.Join(h.VMs, "all.hcl"), content: content,
			change: `s/digit = "[0-9]*"/digit = "` + value + `"/`})
		h.AwaitTask("first", "what was written by "+writer.name, func(task TaskStatus) bool {
			return task.Meta["digit"] == value && task.Converged
		})
		h.AwaitConverged()
		h.ExpectUntouched(first)
		h.ExpectUntouched(second)
		if t.Failed() {
			t.Fatalf("by %s", writer.name)
		}
	}
	h.ProveRemovals()
	h.ExpectUntouched(first)
	h.ExpectUntouched(second)
}

// A repository whose branches have the same tasks in other files is checked out
// back and forth: git deletes and writes, and no VM notices. All of them are in no
// file for a moment, so a daemon that believed it would hold their removals.
func TestGit(t *testing.T) {
	t.Parallel()
	h := Start(t, Config("max_parallel = 2"), Brake())
	git := func(args ...string) {
		t.Helper()
		args = append([]string{"-C", h.VMs, "-c", "user.name=o", "-c", "user.email=o@example.org"}, args...)
		if out, err := exec.Command("git", args...).CombinedOutput(); err != nil {
			t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	const vms, files = 4, 40
	branch := func(name, prefix string) {
		for i := range files {
			text := fmt.Sprintf("# %s %d\n", name, i)
			if i < vms {
				text += h.Task(fmt.Sprintf("vm%d", i), guest.Button)
			}
			h.WritePlain(fmt.Sprintf("%s%02d.hcl", prefix, i), text)
		}
		git("add", ".")
		git("commit", "-qm", name)
	}
	git("init", "-qb", "one")
	branch("one", "a")
	git("checkout", "-qb", "two")
	git("rm", "-qr", ".")
	branch("two", "b")
	var before []TaskStatus
	for i := range vms {
		before = append(before, h.AwaitRunning(fmt.Sprintf("vm%d", i)))
	}
	prefix := map[string]string{"one": "a", "two": "b"}
	arrives := func(branch string) {
		t.Helper()
		for _, task := range before {
			h.AwaitTask(task.Name, "its file of branch "+branch, func(now TaskStatus) bool {
				return strings.HasPrefix(now.File, prefix[branch]) && now.Converged
			})
		}
	}
	expect := func(branch string) {
		t.Helper()
		arrives(branch)
		for _, task := range before {
			h.ExpectUntouched(task)
			if h.Count("removal-held", task.Name) > 0 {
				t.Errorf("the removal of %s was held in a checkout of %s", task.Name, branch)
			}
		}
	}
	for range 3 {
		git("checkout", "-q", "one")
		expect("one")
		git("checkout", "-q", "two")
		expect("two")
	}
	git("reset", "-q", "--hard", "one")
	expect("one")
	h.WritePlain("a00.hcl", "half of a {")
	git("stash", "-q")
	expect("one")
	// As on a slow disk: all is deleted, and written over a second and more. Half a
	// second without a change would mean that it is over.
	texts := map[string]string{}
	var longest time.Duration
	last := time.Now()
	changed := func() {
		longest = max(longest, time.Since(last))
		last = time.Now()
	}
	for i := range files {
		name := fmt.Sprintf("a%02d.hcl", i)
		text, err := os.ReadFile(filepath.Join(h.VMs, name))
		h.must(err)
		texts[fmt.Sprintf("b%02d.hcl", i)] = string(text)
		h.Remove(name)
		changed()
	}
	for i := range files {
		<-time.After(40 * time.Millisecond)
		name := fmt.Sprintf("b%02d.hcl", files-1-i)
		h.WritePlain(name, texts[name])
		changed()
	}
	if longest > reconcile.RemovalSettle/2 { // the daemon may have been held up as well
		t.Logf("%s lie between two changes: that is not one checkout any more", longest)
		arrives("two")
		return
	}
	expect("two")
}

// rsync makes a whole directory like another, deleting before or after.
func TestRsyncOfTheDirectory(t *testing.T) {
	t.Parallel()
	h := Start(t)
	source := filepath.Join(h.Disks, "source")
	h.must(os.Mkdir(source, 0o755))
	stays, goes := h.Task("stays", guest.Button), h.Task("goes", guest.Button)
	sync := func(when string, files map[string]string) {
		t.Helper()
		h.must(os.RemoveAll(source))
		h.must(os.Mkdir(source, 0o755))
		for name, text := range files {
			h.must(os.WriteFile(filepath.Join(source, name), []byte(text), 0o644))
		}
		if out, err := exec.Command("rsync", "-a", when, source+"/", h.VMs).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	sync("--delete-before", map[string]string{"one.hcl": stays, "two.hcl": goes})
	before := h.AwaitRunning("stays")
	for i, when := range []string{"--delete-before", "--delete-after", "--delete-delay"} {
		h.AwaitRunning("goes")
		sync(when, map[string]string{fmt.Sprintf("moved%d.hcl", i): stays})
		h.AwaitGone("goes")
		h.AwaitConverged()
		h.ExpectUntouched(before)
		sync(when, map[string]string{fmt.Sprintf("again%d.hcl", i): stays, "two.hcl": goes})
	}
	h.AwaitRunning("goes")
	h.ExpectUntouched(before)
}

// The file is renamed and broken in one step: it still names its task, which is
// kept on its last good definition. The task is renamed in another.
func TestRenameWithAMistake(t *testing.T) {
	t.Parallel()
	h := Start(t)
	text := h.Task("web", guest.Button)
	h.Write("a.hcl", text)
	before := h.AwaitRunning("web")
	h.WritePlain("b.hcl", text+"\nmistake {")
	h.Remove("a.hcl")
	h.AwaitStatus("the mistake", func(st Status) bool { return len(st.Files) == 1 })
	kept := func(task TaskStatus) bool {
		return task.Phase == "running" && strings.Contains(task.Reason, "last good definition: b.hcl")
	}
	h.AwaitTask("web", "the last good definition", kept)
	h.ExpectUntouched(before)
	h.SignalQEMU("web", syscall.SIGKILL)
	before = h.AwaitTask("web", "its restart", func(task TaskStatus) bool { return kept(task) && task.PID != before.PID })
	h.WritePlain("b.hcl", text)
	h.AwaitConverged()
	h.ExpectUntouched(before)
	h.Write("b.hcl", strings.Replace(text, `task "web"`, `task "shop"`, 1))
	h.AwaitGone("web")
	h.AwaitRunning("shop")
}
