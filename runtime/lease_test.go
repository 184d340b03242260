package runtime

import (
	"os"
	"path/filepath"
	"testing"
)

func TestWriting(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "web.hcl")
	must(t, os.WriteFile(path, []byte("x"), 0o600))
	f, err := os.Open(path)
	must(t, err)
	defer f.Close()
	busy, known := Writing(f)
	if !known {
		t.Skip("the file system of the test's directory has no leases")
	}
	if busy {
		t.Error("nobody writes")
	}
	writer, err := os.OpenFile(path, os.O_WRONLY, 0)
	must(t, err)
	if busy, known := Writing(f); !busy || !known {
		t.Errorf("somebody writes: %v, %v", busy, known)
	}
	must(t, writer.Close())
	if busy, known := Writing(f); busy || !known {
		t.Errorf("nobody writes any more: %v, %v", busy, known)
	}
	must(t, os.WriteFile(path, []byte("y"), 0o600)) // no lease was left behind
	must(t, f.Close())
	if _, known := Writing(f); known {
		t.Error("a closed file is known")
	}
}
