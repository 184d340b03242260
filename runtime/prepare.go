package runtime

import (
	"errors"
	"os"

	"github.com/qemu-reconciler/qemu-reconciler/internal/crash"
)

// prepare makes the sockets and logs that the process gets as descriptors.
func (s *start) prepare() error {
	layout, name := s.m.rt.layout, s.req.Task
	if err := layout.PrepareTask(name); err != nil {
		return err
	}
	crash.Point("start.directories")
	for _, old := range []string{layout.QMPLog(name), layout.QMPLog(name) + previousSuffix} {
		if err := remove(old); err != nil { // evidence of another process
			return err
		}
	}
	crash.Point("start.cleared")
	errs := []error{s.log(fdQMPLog, layout.QMPLog(name)), s.openOutput(layout.QEMULog(name))}
	inode, err := s.socket(fdQMP, layout.QMPSocket(name))
	s.inode = inode
	errs = append(errs, err)
	if !ConsolePlaced(s.task) {
		_, err := s.socket(fdConsole, layout.ConsoleSocket(name))
		errs = append(errs, err, s.log(fdConsoleLog, layout.ConsoleLog(name)))
	}
	if s.task.Config.GuestAgent {
		_, err := s.socket(fdAgent, layout.AgentSocket(name))
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (s *start) socket(number int, path string) (inode uint64, err error) {
	file, inode, err := ListenUnix(path)
	if err == nil {
		s.files[number] = file
		crash.Point("start.bound")
	}
	return inode, err
}

func (s *start) log(number int, path string) error {
	file, err := openAppending(path)
	if err == nil {
		s.files[number] = file
	}
	return err
}

func (s *start) openOutput(path string) error {
	file, err := openAppending(path)
	if err != nil {
		return err
	}
	s.output = file
	info, err := file.Stat()
	if err != nil {
		return err
	}
	s.offset = info.Size()
	return nil
}

// openAppending opens a log for appending: it is truncated under its writer when
// it has grown too large.
func openAppending(path string) (*os.File, error) {
	return openPrivate(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND)
}

// close lets go of descriptors: the process has its own.
func (s *start) close() {
	for _, file := range s.files {
		// Nothing was written through it here.
		_ = file.Close()
	}
	if s.output != nil {
		_ = s.output.Close()
	}
}
