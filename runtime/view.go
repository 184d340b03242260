package runtime

import (
	"context"
	"errors"
	"io/fs"

	"github.com/qemu-reconciler/qemu-reconciler/spec"
)

// Snapshot is what can be seen from outside the daemon.
type Snapshot struct {
	Observations map[string]Observation
	// Removals is what the brake on mass removals remembers, and RemovalsError
	// why that cannot be known.
	Removals      Removals
	RemovalsError error
	// Held is the directory that held the task files last, as
	// spec.LoaderOptions has it.
	Held *spec.DirectoryID
	// DaemonPID is the process that holds the state, or zero.
	DaemonPID int
}

// View looks at a state directory without a lock and changes nothing; it is for
// commands that find no daemon. It must not be called in a process that has
// the same directory open as a Runtime. A directory that does not exist is
// empty.
func View(ctx context.Context, layout Layout) (*Snapshot, error) {
	out := &Snapshot{Observations: map[string]Observation{}}
	stored, err := OpenStore(layout).Read()
	if errors.Is(err, fs.ErrNotExist) {
		return out, nil
	}
	if err != nil {
		return nil, err
	}
	out.DaemonPID = lockHolder(layout.StateLock())
	out.Removals, out.RemovalsError = readRemovals(newRemovalsNote(layout.Removals()), len(stored.Records)+len(stored.Spare))
	for task, record := range stored.Records {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		out.Observations[task] = viewOf(layout, record)
	}
	for task, spare := range stored.Spare {
		out.Observations[task] = Observation{Record: spare.standIn()}
	}
	for task, reason := range stored.Corrupt {
		record := out.Observations[task].Record
		if record == nil {
			record = &Record{Version: RecordVersion, Task: task}
		}
		out.Observations[task] = Observation{Record: record, Trouble: reason.Error()}
	}
	for task, reason := range stored.Untouchable {
		record := &Record{Version: RecordVersion, Task: task}
		out.Observations[task] = Observation{Record: record, Trouble: reason.Error(), Refused: reason.Error()}
	}
	running, err := OurProcesses(layout)
	if err != nil {
		return nil, err
	}
	out.addFound(running)
	directory := newDirectoryNote(layout.Directory())
	known, _ := directory.read() // of what cannot be read nothing is known
	out.Held = known.held(len(out.Observations))
	return out, nil
}

// addFound looks for the processes of tasks whose records do not name one: the
// record is lost, or the daemon was killed before it wrote the pid.
func (s *Snapshot) addFound(running []Found) {
	for _, found := range running {
		o := s.Observations[found.Task]
		if o.Alive {
			continue
		}
		record := &Record{Version: RecordVersion, Task: found.Task}
		if o.Record != nil {
			record = o.Record.clone()
		}
		record.Process, o.Record, o.Alive = found.info(), record, true
		s.Observations[found.Task] = o
	}
}

// viewOf believes the record as far as the process exists. The end of one that
// is gone is judged as the next daemon will.
func viewOf(layout Layout, record *Record) Observation {
	info := record.Process
	switch {
	case info == nil:
		return Observation{Record: record}
	case info.exists(layout, record.Task):
		return Observation{Record: record, Alive: true, Answering: info.Answered}
	}
	evidence, at := unseen(layout, record.Task, info)
	exit := judgeEnd(layout, record, info, evidence, at)
	ended := record.clone()
	ended.Process, ended.Intent, ended.LastExit = nil, nil, &exit
	return Observation{Record: ended}
}

// Preview gives the command line that a start would use. rec may be nil for a
// task that was never started; ports that are still to be allocated are shown
// as they will be unless somebody has them.
func (o Options) Preview(task *spec.Task, rec *Record) ([]string, error) {
	o = o.withDefaults()
	var had map[string]int
	var pinned *PinnedFormat
	if rec != nil {
		had, pinned = rec.Ports, rec.Format
	}
	features, path, err := o.Fingerprint.Features(task.Config.Emulator)
	if err != nil {
		return nil, err
	}
	image, err := judgeImage(task, pinned)
	if err != nil {
		return nil, err
	}
	return CommandLine{
		Program: path, Features: features, Task: task, Sandbox: o.Sandbox,
		UUID: uuidOf(task, rec, machineID(), o.Layout.State), Format: image.format, BlockDevice: image.blockDevice,
		Forwards: task.Forwards(predictPorts(o.DynamicPorts, task.Name, task.Dynamic(), had)),
	}.Argv(), nil
}

// Preview gives the command line that a start would use; see Options.Preview.
func (r *Runtime) Preview(task *spec.Task, rec *Record) ([]string, error) {
	return r.options.tuned(*r.tuning.Load()).Preview(task, rec)
}
