package runtime

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Layout says where everything is. Both paths are absolute; State survives a
// reboot of the host and Run need not.
type Layout struct{ State, Run string }

// StateLock is the file whose lock keeps a second daemon off the state.
func (l Layout) StateLock() string { return filepath.Join(l.State, "lock") }

// RunLock is the file whose lock keeps a second daemon off the sockets.
func (l Layout) RunLock() string { return filepath.Join(l.Run, "lock") }

// ControlSocket is where the daemon answers.
func (l Layout) ControlSocket() string { return filepath.Join(l.Run, "control.sock") }

// TasksDir holds the records.
func (l Layout) TasksDir() string { return filepath.Join(l.State, "tasks") }

// BlanksDir holds files that records are written into before they are records.
func (l Layout) BlanksDir() string { return filepath.Join(l.State, "blanks") }

// Record is the record file of a task.
func (l Layout) Record(task string) string { return filepath.Join(l.TasksDir(), task+".json") }

// Events is the event log.
func (l Layout) Events() string { return filepath.Join(l.State, "events.jsonl") }

// Directory is what is remembered of the task directory.
func (l Layout) Directory() string { return filepath.Join(l.State, "vms_dir.json") }

// Removals is what is remembered of removals that wait or have begun.
func (l Layout) Removals() string { return filepath.Join(l.State, "removals.json") }

// CacheDir holds what can be found out again at any time.
func (l Layout) CacheDir() string { return filepath.Join(l.State, "cache") }

// EmulatorCache is the file in which a Fingerprint keeps its answers.
func (l Layout) EmulatorCache() string { return filepath.Join(l.CacheDir(), "emulators.json") }

// LogDir holds the logs of a task. They outlive the task.
func (l Layout) LogDir(task string) string { return filepath.Join(l.State, "logs", task) }

// ConsoleLog is what a task's guest wrote to its serial console.
func (l Layout) ConsoleLog(task string) string { return filepath.Join(l.LogDir(task), "console.log") }

// QEMULog is what a task's QEMU wrote to stdout and stderr.
func (l Layout) QEMULog(task string) string { return filepath.Join(l.LogDir(task), "qemu.log") }

// VMsDir holds the sockets of all tasks' processes.
func (l Layout) VMsDir() string { return filepath.Join(l.Run, "vms") }

// VMDir holds the sockets of a task's process.
func (l Layout) VMDir(task string) string { return filepath.Join(l.VMsDir(), task) }

// QMPSocket is where a task's QEMU speaks QMP.
func (l Layout) QMPSocket(task string) string { return filepath.Join(l.VMDir(task), "qmp.sock") }

// QMPLog is what a task's QEMU said over QMP, heard or unheard.
func (l Layout) QMPLog(task string) string { return filepath.Join(l.VMDir(task), "qmp.log") }

// ConsoleSocket is a task's serial console.
func (l Layout) ConsoleSocket(task string) string {
	return filepath.Join(l.VMDir(task), "console.sock")
}

// AgentSocket is the channel to a task's guest agent.
func (l Layout) AgentSocket(task string) string { return filepath.Join(l.VMDir(task), "qga.sock") }

// Prepare makes the directories that every task shares.
func (l Layout) Prepare() error {
	_ = mkdirPrivate(l.BlanksDir()) // without it records are new files; a full disk has no room for it
	return makePrivate(l.TasksDir(), l.CacheDir(), filepath.Join(l.State, "logs"), l.VMsDir())
}

// PrepareTask makes the directories of one task.
func (l Layout) PrepareTask(task string) error {
	return makePrivate(l.LogDir(task), l.VMDir(task))
}

func makePrivate(dirs ...string) error {
	for _, dir := range dirs {
		if err := mkdirPrivate(dir); err != nil {
			return err
		}
	}
	return nil
}

// mkdirPrivate makes dir and its missing parents for this user alone, whatever
// the umask. A directory that is there keeps its mode: systemd or the operator
// chose it.
func mkdirPrivate(dir string) error {
	switch info, err := os.Stat(dir); {
	case err == nil && info.IsDir():
		return nil
	case err == nil:
		return fmt.Errorf("%s is in the way: it is not a directory", dir)
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if parent := filepath.Dir(dir); parent != dir {
		if err := mkdirPrivate(parent); err != nil {
			return err
		}
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		if errors.Is(err, fs.ErrExist) { // somebody was quicker
			return nil
		}
		return err
	}
	return os.Chmod(dir, 0o700)
}

// openPrivate opens or makes a file for this user alone, whatever the umask: a
// strange one would keep the user himself from opening it again.
func openPrivate(path string, flag int) (*os.File, error) {
	file, err := os.OpenFile(path, flag, 0o600)
	if err != nil {
		return nil, err
	}
	if err := file.Chmod(0o600); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}
