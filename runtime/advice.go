package runtime

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// advices say what an operator can do about what the kernel refuses.
var advices = []struct {
	errno  unix.Errno
	advice string
}{
	{unix.ENOSPC, "make room on that file system: it is tried again"},
	{unix.EDQUOT, "a quota is used up, make room or raise it: it is tried again"},
	{unix.EROFS, "make that file system writable: it is tried again"},
	{unix.EMFILE, "raise the daemon's limit on open files (LimitNOFILE=, prlimit --nofile): it is tried again"},
	{unix.ENFILE, "raise fs.file-max of this host: it is tried again"},
	{unix.ENOMEM, "the host is short of memory: it is tried again"},
}

// advisedError is an error that says already what to do.
type advisedError struct {
	error
	advice string
}

func (e *advisedError) Error() string { return fmt.Sprintf("%v (%s)", e.error, e.advice) }

func (e *advisedError) Unwrap() error { return e.error }

// withAdvice adds to an error what to do about it, once, where that is known.
func withAdvice(err error) error {
	var advised *advisedError
	if err == nil || errors.As(err, &advised) {
		return err
	}
	for _, a := range advices {
		if errors.Is(err, a.errno) {
			return &advisedError{error: err, advice: a.advice}
		}
	}
	return err
}
