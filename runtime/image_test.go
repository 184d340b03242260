package runtime

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestDetectFormat(t *testing.T) {
	t.Parallel()
	at := func(offset int, text string) string { return strings.Repeat("\x00", offset) + text }
	for name, c := range map[string]struct{ content, want, err string }{
		"empty":              {"", "raw", ""},
		"boot sector":        {"\xeb\xfe" + at(508, "\x55\xaa"), "raw", ""},
		"qcow2 v2":           {"QFI\xfb\x00\x00\x00\x02", "qcow2", ""},
		"qcow2 v3":           {"QFI\xfb\x00\x00\x00\x03" + at(100, ""), "qcow2", ""},
		"qcow":               {"QFI\xfb\x00\x00\x00\x01", "", "version 1"},
		"qcow2 cut short":    {"QFI\xfb", "raw", ""},
		"vmdk sparse":        {"KDMV\x01\x00\x00\x00", "vmdk", ""},
		"vmdk 3":             {"COWD\x01", "vmdk", ""},
		"vmdk text":          {"# Disk DescriptorFile\nversion=1\nCID=1\n", "vmdk", ""},
		"vmdk text, dos":     {"# Disk DescriptorFile\r\n\r\n# x\r\nversion=3\r\n", "vmdk", ""},
		"shell script":       {"#!/bin/sh\necho version=1\n", "raw", ""},
		"comments only":      {"# nothing\n# more\n", "raw", ""},
		"vdi":                {"<<< any text >>>" + at(48, "\x7f\x10\xda\xbe"), "vdi", ""},
		"vdi at wrong place": {at(65, "\x7f\x10\xda\xbe"), "raw", ""},
		"vhdx":               {"vhdxfile" + at(8, ""), "vhdx", ""},
		"vpc":                {"conectix", "vpc", ""},
		"vpc fixed":          {at(512, "conectix"), "raw", ""},
		"qed":                {"QED\x00", "qed", ""},
		"qed, other":         {"QED!", "raw", ""},
	} {
		path := filepath.Join(t.TempDir(), "disk.img")
		must(t, os.WriteFile(path, []byte(c.content), 0o600))
		format, info, err := DetectFormat(path)
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%s: error %v", name, err)
			}
			continue
		}
		must(t, err)
		stat, err := os.Stat(path)
		must(t, err)
		if format != c.want || info.Inode != inodeOf(t, stat) || info.Device == 0 || info.BlockDevice {
			t.Errorf("%s: %q, %+v", name, format, info)
		}
	}
}

// TestDetectFormatRefuses: what is no image is refused at once, without being
// opened, in one sentence that names it.
func TestDetectFormatRefuses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	fifo, socket, link := filepath.Join(dir, "fifo"), filepath.Join(dir, "socket"), filepath.Join(dir, "link")
	must(t, unix.Mkfifo(fifo, 0o600))
	listener, _, err := ListenUnix(socket)
	must(t, err)
	defer listener.Close()
	must(t, os.Symlink(fifo, link))
	for path, want := range map[string]string{
		dir:                           "directory",
		fifo:                          "FIFO",
		link:                          "FIFO",
		socket:                        "socket",
		"/dev/zero":                   "character device",
		filepath.Join(dir, "missing"): "does not exist",
		filepath.Join(fifo, "below"):  "not a directory",
	} {
		_, _, err := DetectFormat(path)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestDetectFormatThroughLink(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	target, link := filepath.Join(dir, "target"), filepath.Join(dir, "link")
	must(t, os.WriteFile(target, []byte("QED\x00"), 0o600))
	must(t, os.Symlink(target, link))
	_, direct, err := DetectFormat(target)
	must(t, err)
	format, info, err := DetectFormat(link)
	must(t, err)
	if format != "qed" || info != direct {
		t.Errorf("%q, %+v; the target is %+v", format, info, direct)
	}
}

// A file that says it is a regular one can still have its readers wait
// (/proc/kmsg).
func TestReadHeadEnds(t *testing.T) {
	t.Parallel()
	silent, writer, err := os.Pipe()
	must(t, err)
	defer silent.Close()
	defer writer.Close()
	failed := make(chan error, 1)
	go func() {
		_, err := readHead(silent)
		failed <- err
	}()
	if err := await(t, failed, "end"); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error(err)
	}
}
