// Package arch has no code, only tests of the tree as a whole: which package
// may import what, how long files and functions are, what the systemd unit
// must and must not say, and that the examples are valid.
package arch
