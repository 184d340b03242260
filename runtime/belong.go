package runtime

import (
	"errors"
	"os"
)

// exists says whether this very process runs. One that may not be looked at is
// taken for running.
func (p *ProcessInfo) exists(layout Layout, task string) bool {
	process, err := p.open(layout, task)
	if err == nil {
		process.Close()
	}
	return !errors.Is(err, ErrGone)
}

// open takes hold of the process; the error is ErrGone when it does not exist, or
// is none of the task's: whoever copies a record under another name, or a whole
// state directory, has not made a second VM.
func (p *ProcessInfo) open(layout Layout, task string) (*Process, error) {
	process, err := OpenProcess(p.PID, p.StartTicks, p.BootID)
	if err != nil {
		return nil, err
	}
	ours, err := belongs(layout, task, p.PID)
	if err == nil && !ours {
		err = ErrGone
	}
	if err != nil {
		process.Close()
		return nil, err
	}
	return process, nil
}

// belongs says whether a process carries the marks of a task of this state
// directory. One that cannot be looked into does: the record is believed. So does
// one whose state directory was moved since, but not while that is still there
// with a record of its own.
func belongs(layout Layout, task string, pid int) (bool, error) {
	argv, err := readArgv(pid)
	if err != nil || len(argv) == 0 {
		return err == nil, err
	}
	env, err := environ(pid)
	if err != nil {
		return false, err
	}
	if env[envTask] != task && !hasName(argv, task) {
		return false, nil
	}
	state := env[envState]
	if state == "" || sameDir(state, layout.State) {
		return true, nil
	}
	_, err = os.Stat(Layout{State: state}.Record(task))
	return err != nil, nil
}
