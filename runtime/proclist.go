package runtime

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// holders lists the processes but this one that have the socket open.
func holders(socketInode uint64) ([]int, error) {
	want := map[string]bool{socketLink(socketInode): true}
	all, err := pids()
	if err != nil {
		return nil, err
	}
	var out []int
	for _, pid := range all {
		if pid == os.Getpid() {
			continue
		}
		has, err := hasOpen(pid, want)
		if err != nil {
			return nil, err
		}
		if has {
			out = append(out, pid)
		}
	}
	return out, nil
}

// socketLink is what the descriptors of a socket point to in /proc.
func socketLink(inode uint64) string { return fmt.Sprintf("socket:[%d]", inode) }

// hasOpen says whether a descriptor of the process points to one of the links. A
// process that may not be looked into, or that ends meanwhile, has none.
func hasOpen(pid int, links map[string]bool) (bool, error) {
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	f, err := os.Open(dir)
	if err != nil {
		return false, scarcity(err)
	}
	defer f.Close()
	names, err := f.Readdirnames(-1)
	has := slices.ContainsFunc(names, func(name string) bool {
		target, err := os.Readlink(filepath.Join(dir, name))
		return err == nil && links[target]
	})
	return has, scarcity(err)
}

// scarcity is the error when it says that this process or host is short of
// something, and nil for any other. To see nothing for want of a descriptor does
// not mean that nothing is there: who took it for that would start a second QEMU.
func scarcity(err error) error {
	if errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) || errors.Is(err, unix.ENOMEM) {
		return err
	}
	return nil
}

func pids() ([]int, error) {
	f, err := os.Open("/proc")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	names, err := f.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	var out []int
	for _, name := range names {
		if pid, err := strconv.Atoi(name); err == nil {
			out = append(out, pid)
		}
	}
	return out, nil
}
