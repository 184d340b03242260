// Package standin builds a stand-in for QEMU, for what the real one cannot be
// made to do on a small host: thousands of them at once. It is a small C program
// with one thread, which takes a command line of this project, answers a probe of
// the emulator, speaks as much QMP as the daemon does, tells its end in the
// monitor's log, writes READY to the console, and ends when it is told to. It
// boots nothing, so whatever a test says about guests needs the real QEMU.
package standin
