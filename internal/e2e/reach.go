package e2e

// This file is what the tests of other packages use beside the looks and deeds
// that the tests here share with them.

// TryStatus asks the daemon for its status; the error says why there is no
// answer.
func (h *Host) TryStatus() (Status, error) { return h.fetchStatus() }

// DaemonRuns says whether the daemon that was started last is still there.
func (h *Host) DaemonRuns() bool { return h.daemonRuns() }
