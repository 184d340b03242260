package chaos

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/qemu-reconciler/qemu-reconciler/internal/guest"
)

// proof is the task that shows when the daemon has read the directory; it is
// never wanted running. The model does not know it.
const proof = "proof"

// way is how a changed content comes into the directory.
type way string

const (
	renamed  way = "renamed"   // each file written elsewhere and renamed into place
	inPlace  way = "in place"  // each file truncated and written
	inChunks way = "in chunks" // the same, slowly
	swapped  way = "swapped"   // another directory under the same name
	checkout way = "git checkout"
)

var ways = []way{renamed, renamed, renamed, inPlace, inPlace, inChunks, swapped, checkout}

// deliver brings the content into the directory.
func (c *chaos) deliver(next content, how way) {
	c.t.Helper()
	for _, d := range next.defs() {
		path := filepath.Join(c.h.Disks, d.image)
		if _, err := os.Stat(path); err != nil {
			c.must(guest.Write(path, d.guest))
		}
	}
	began, changed := time.Now(), 1
	switch how {
	case swapped:
		c.swap(next)
	case checkout:
		c.checkout(next)
	default:
		changed = c.writeFiles(next, how)
	}
	c.m.deliver(next, changed <= 1 || time.Since(began) < settle)
}

// writeFiles changes file by file, in an order by chance, and says how many.
func (c *chaos) writeFiles(next content, how way) int {
	texts, before := c.texts(next), c.texts(c.m.now)
	var names []string
	for _, name := range append(next.files(), c.m.now.files()...) {
		text, stays := texts[name]
		old, was := before[name]
		if stays && (!was || old != text) || !stays {
			names = append(names, name)
		}
	}
	c.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	for _, name := range names {
		text, stays := texts[name]
		path := filepath.Join(c.h.VMs, name)
		if !stays {
			c.removeOrRename(path, before[name], texts, before)
			continue
		}
		if current, err := os.ReadFile(path); err == nil && string(current) == text {
			continue // a rename brought it
		}
		c.write(path, text, how)
	}
	return len(names)
}

// removeOrRename takes a file away: by a rename when another file is to have its
// text.
func (c *chaos) removeOrRename(path, text string, after, before map[string]string) {
	for name, other := range after {
		if _, was := before[name]; !was && other == text {
			c.must(os.Rename(path, filepath.Join(c.h.VMs, name)))
			return
		}
	}
	c.must(os.Remove(path))
}

func (c *chaos) write(path, text string, how way) {
	switch how {
	case inPlace:
		c.must(os.WriteFile(path, []byte(text), 0o644))
	case inChunks:
		f, err := os.Create(path)
		c.must(err)
		for len(text) > 0 {
			n := min(len(text), 1+c.IntN(400))
			_, err := f.WriteString(text[:n])
			c.must(err)
			text = text[n:]
			c.pause(20 * time.Millisecond)
		}
		c.must(f.Close())
	default:
		temporary := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".new")
		c.must(os.WriteFile(temporary, []byte(text), 0o644))
		c.must(os.Rename(temporary, path))
	}
}

// texts are the files of a content.
func (c *chaos) texts(all content) map[string]string {
	out := map[string]string{}
	for name, f := range all {
		out[name] = f.text(c.h.Disks)
	}
	return out
}

// proofText is the file of the proof, with its latest number.
func (c *chaos) proofText() string {
	d := def{name: proof, machine: machine{image: "proof.img", memory: 128}, on: always, killTimeout: "1s", label: c.proofs, stopped: true}
	return file{tasks: []def{d}}.text(c.h.Disks)
}

// writeTree writes all files of a content into a directory.
func (c *chaos) writeTree(dir string, all content) {
	c.must(os.MkdirAll(dir, 0o755))
	for name, text := range c.texts(all) {
		c.must(os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644))
	}
	c.must(os.WriteFile(filepath.Join(dir, proof+".hcl"), []byte(c.proofText()), 0o644))
}

// swap replaces the whole directory at once, as git-sync does.
func (c *chaos) swap(next content) {
	old, err := filepath.EvalSymlinks(c.h.VMs)
	c.must(err)
	c.trees++
	tree := filepath.Join(filepath.Dir(c.h.VMs), fmt.Sprintf("tree-%d", c.trees))
	c.writeTree(tree, next)
	link := c.h.VMs + ".new"
	c.must(os.Symlink(tree, link))
	c.must(os.Rename(link, c.h.VMs))
	c.must(os.RemoveAll(old))
}

// checkout changes the directory by a real `git checkout` between two commits.
func (c *chaos) checkout(next content) {
	tree, err := filepath.EvalSymlinks(c.h.VMs)
	c.must(err)
	scratch, err := os.MkdirTemp(c.h.Disks, "commit")
	c.must(err)
	defer os.RemoveAll(scratch)
	c.writeTree(scratch, next)
	if _, err := os.Stat(filepath.Join(tree, ".git")); err != nil {
		c.git(tree, "init", "-q")
	}
	c.git(tree, "add", "-A")
	c.git(tree, "commit", "-q", "--allow-empty", "-m", "before")
	c.git(scratch, "--git-dir", filepath.Join(tree, ".git"), "--work-tree", ".", "add", "-A")
	commit := c.git(tree, "commit-tree", "-m", "after", "-p", "HEAD", c.git(tree, "write-tree"))
	c.git(tree, "reset", "-q", "--mixed")
	c.git(tree, "checkout", "-q", "--detach", commit)
}

// git runs git and gives what it says, without its line end.
func (c *chaos) git(dir string, args ...string) string {
	c.t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = dir
	cmd.Env = append(cmd.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null",
		"GIT_AUTHOR_NAME=chaos", "GIT_AUTHOR_EMAIL=chaos@localhost", "GIT_COMMITTER_NAME=chaos", "GIT_COMMITTER_EMAIL=chaos@localhost")
	out, err := cmd.CombinedOutput()
	if err != nil {
		c.t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}
