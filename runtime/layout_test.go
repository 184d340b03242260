package runtime

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestLayoutIsPrivate: whatever the umask, all that is made is the owner's
// alone, and what was there before stays as it was.
func TestLayoutIsPrivate(t *testing.T) {
	for _, mask := range []int{0, 0o022, 0o777} {
		base := t.TempDir()
		there := filepath.Join(base, "there")
		must(t, os.Mkdir(there, 0o755))
		must(t, os.Chmod(there, 0o755))
		layout := Layout{State: filepath.Join(there, "new", "state"), Run: filepath.Join(base, "run")}
		old := unix.Umask(mask)
		errPrepare, errTask := layout.Prepare(), layout.PrepareTask("web")
		errAgain := layout.PrepareTask("web")
		unix.Umask(old)
		must(t, errPrepare)
		must(t, errTask)
		must(t, errAgain)
		must(t, filepath.WalkDir(base, func(path string, d fs.DirEntry, err error) error {
			if err != nil || path == base {
				return err
			}
			want := fs.FileMode(0o700)
			if path == there {
				want = 0o755
			}
			info, err := d.Info()
			if err == nil && info.Mode().Perm() != want {
				t.Errorf("umask %o: %s has mode %v", mask, path, info.Mode())
			}
			return err
		}))
		for _, dir := range []string{layout.TasksDir(), layout.CacheDir(), layout.LogDir("web"), layout.VMDir("web")} {
			if info, err := os.Stat(dir); err != nil || !info.IsDir() {
				t.Errorf("%s: %v", dir, err)
			}
		}
	}
}

func TestLayoutInTheWay(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	must(t, os.WriteFile(filepath.Join(base, "state"), nil, 0o600))
	if err := (Layout{State: filepath.Join(base, "state"), Run: base}).Prepare(); err == nil {
		t.Error("a file is in the way and nothing was said")
	}
}
