// Command table prints the table of a run of the benchmark, and with several runs
// writes their tables into a Markdown file, each kind between two comments that mark
// its place: those of `make bench` side by side, and those of `make bench-peers` by
// themselves. A kind of which there is no run stays as it is.
//
//	table RUN.json
//	table -into docs/performance.md FIRST.json SECOND.json PEERS.json
package main
