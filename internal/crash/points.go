package crash

// What a program that was built with the tag crashpoints goes by.
const (
	// Variable names the file of orders; unset, nothing dies.
	Variable = "QEMU_RECONCILER_CRASH"
	// Died is the suffix of the file in which the names of points stand at
	// which a process died.
	Died = ".died"
)

// Named is a crash point.
type Named struct {
	Name string
	// Means says what is done at that moment, and what is not yet.
	Means string
}

// Points are all of them, in the order in which a task goes through them.
var Points = []Named{
	{"ports.found", "start: a port was found and is the task's in memory"},
	{"ports.given", "start: every label has a port in memory, and what it had beside is given back"},
	{"start.began", "its turn has come, nothing is done"},
	{"start.judged", "definition, emulator, image and ports are good, nothing is made"},
	{"start.directories", "the directories of logs and sockets are there"},
	{"start.cleared", "the QMP logs of the last process are removed"},
	{"start.bound", "a socket is bound, others and logs may be missing"},
	{"start.prepared", "all sockets and logs are there, nothing is announced"},
	{"start.announced", "the intent is in the record, no process"},
	{"start.forked", "the process runs, with this one's oom_score_adj"},
	{"start.adjusted", "the process has its oom_score_adj, and no record has its pid"},
	{"start.done", "the process runs, is recorded and told"},
	{"start.failing", "the start failed, nothing says so"},
	{"start.failed", "the failure is in the record and not told"},
	{"socket.removed", "an old socket is removed, the new one not bound"},
	{"socket.bound", "a socket has its path, and nobody can connect yet"},
	{"socket.listening", "a socket takes connections"},

	{"record.changing", "a record is changed in memory and not written"},
	{"record.created", "a temporary file is there, empty or with what it was before"},
	{"record.half", "half of a temporary file is written"},
	{"record.written", "a temporary file is written and not synced"},
	{"record.ready", "a temporary file is whole and not in place"},
	{"record.copied", "the durable copy is in place, the record is old"},
	{"record.replaced", "the record is in place, the directory is not synced"},
	{"record.secured", "a copy that nobody waited for is in place, the directory is not synced"},
	{"record.saved", "the record is written as it was to be, nobody acts on it"},

	{"process.recorded", "the record has the process, nobody follows it"},
	{"process.told", "events tell of the process, nobody follows it"},
	{"session.connected", "the QMP socket took a connection, QEMU has not spoken"},
	{"session.begun", "QEMU has greeted and taken its first command, nothing is recorded of it"},
	{"session.replied", "QEMU has answered a command, nothing is made of it"},

	{"define.began", "a definition that touches no QEMU is to be written down"},
	{"define.recorded", "it is in the record, nothing tells of it"},
	{"replace.proved", "the new definition could start, nothing is written"},
	{"replace.remembered", "the new definition is in the record, its predecessor runs"},
	{"replace.stopped", "the old process has ended and that is recorded, the new one is not begun"},

	{"stop.began", "the stop's turn has come, nothing is announced"},
	{"stop.announced", "the intent is in the record and not told"},
	{"stop.told", "events tell of the stop, nothing is done"},
	{"stop.rung", "a rung is reached and not noted"},
	{"stop.agent.noted", "the agent's rung is noted, no order given"},
	{"stop.agent.ordered", "the agent was ordered to power off"},
	{"stop.acpi.noted", "the button's rung is noted, the button not pressed"},
	{"stop.acpi.pressed", "the button was pressed"},
	{"stop.quit.noted", "the rung of quit is noted, nothing is sent"},
	{"stop.quit.sent", "QEMU has taken the order to quit"},
	{"stop.sigterm.noted", "the rung of SIGTERM is noted, nothing is sent"},
	{"stop.sigterm.sent", "SIGTERM was sent"},
	{"stop.sigkill.noted", "the rung of SIGKILL is noted, nothing is sent"},
	{"stop.sigkill.sent", "SIGKILL was sent"},
	{"stop.climbed", "the process has ended, its end may be recorded or not"},
	{"stop.done", "the end is recorded"},

	{"end.gone", "a process has ended, nothing is recorded of it"},
	{"end.judged", "the cause of an end is known, nothing is recorded"},
	{"end.recorded", "the end is in the record and not told"},
	{"end.told", "events tell of the end, and nobody has acted on it"},

	{"removals.changed", "what waits or has begun is known to the brake, nothing is written"},
	{"removals.saved", "it is written, and no stop has begun for it"},
	{"approve.began", "an approval is for what was shown, nothing is written"},
	{"approve.written", "the approval is written, nothing acts on it"},
	{"approve.taken", "the approval counts, and is not told"},

	{"forget.began", "a record is to go, all is there"},
	{"forget.halved", "the durable copy is deleted, the record is not"},
	{"forget.deleted", "record and copy are deleted, ports and sockets are there"},
	{"forget.released", "the ports are free, the sockets are there"},
	{"forget.done", "sockets are removed, nothing tells of it"},
	{"forget.told", "events tell that the task is gone"},
	{"keep.recorded", "the record says that the VM is let go of, nothing tells of it"},
	{"return.recorded", "the record says that the VM is taken back, nothing tells of it"},

	{"adopt.locked", "the locks are taken, nothing is read"},
	{"adopt.aside", "a corrupt record is set aside, nothing stands for it"},
	{"adopt.loaded", "all records are read, no process is looked at"},
	{"adopt.restored", "records are made anew in memory"},
	{"adopt.rewritten", "a record that was made anew is written, its process not found"},
	{"adopt.recorded", "the record's process is found and not followed"},
	{"adopt.told", "events tell of the adoption, nobody follows the process"},
	{"adopt.socket.found", "the process of an announced start is found by its socket, not recorded"},
	{"adopt.socket.written", "that process is recorded"},
	{"adopt.environment.found", "a process is found by its environment, not recorded"},
	{"adopt.environment.written", "that process is recorded"},
	{"adopt.nobody", "an announced start has no process, the intent is still there"},
	{"adopt.cleared", "the intent of a start without a process is gone"},
	{"adopt.unseen", "a recorded process has ended unseen, that is not recorded"},
	{"adopt.adopted", "everything that runs is known, the run directory is not swept"},
	{"adopt.swept", "the run directory is swept"},
}
