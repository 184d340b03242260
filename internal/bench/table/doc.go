// Command table prints the table of a run of the benchmark, and with two runs
// writes their tables into a Markdown file, between two comments that mark the
// place:
//
//	table RUN.json
//	table -into docs/performance.md FIRST.json SECOND.json
package main
