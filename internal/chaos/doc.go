// Package chaos lets chance loose on the real daemon, real QEMU and tiny
// guests, and compares the world with a small model after every rest.
//
// A run is a number of episodes, each on a host of its own. rapid draws the
// steps of an episode from its seed: edits, renames, removals, swaps of the
// whole directory, checkouts, broken files, kills of the daemon and of QEMUs,
// power-offs, resets, commands, lost sockets, forged records. The model
// (model.go, expect.go) knows what the contract promises and nothing of the
// program: what is wanted, what is known of each task, and which process must
// stay. Where the contract leaves a race open, e.g. a command that meets an edit
// nobody has seen yet, it says "either" and learns from what it finds; how often
// it had to is counted, as every step and every restart is, so that a run of
// no-ops shows.
//
// A failure names the seed of its episode and lists its steps:
//
//	make chaos CHAOS_SEED=… CHAOS_STEPS=…
//
// does the same steps again, up to the one that failed. Steps take real time, so
// what depends on a race may need more than one attempt. There is no shrinking:
// an episode is short, and a step costs about half a second.
package chaos
