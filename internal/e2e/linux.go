package e2e

import (
	"encoding/json"
	"path/filepath"

	"github.com/qemu-reconciler/qemu-reconciler/internal/guest"
)

// LinuxArgs gives a config line `args = […]` that boots the Linux guest in
// place of the task's image. It needs no more than the 128 MiB that Task gives.
func (h *Host) LinuxArgs(o guest.LinuxOptions) string {
	h.t.Helper()
	dir, err := filepath.Abs(filepath.Join(Root, "build", "linux-guest"))
	h.must(err)
	linux, err := guest.FindLinux(dir)
	h.must(err)
	initramfs := filepath.Join(h.Disks, "initramfs")
	h.must(linux.WriteInitramfs(initramfs))
	// A JSON list of plain strings is an HCL list.
	list, err := json.Marshal(linux.Args(initramfs, o))
	h.must(err)
	return "args = " + string(list)
}
