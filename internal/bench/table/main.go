package main

import (
	"flag"
	"fmt"
	"os"
	"strings"

	"github.com/qemu-reconciler/qemu-reconciler/internal/bench"
)

// The comments between which the tables stand.
const (
	first = "<!-- written by internal/bench/table: begin -->\n"
	last  = "<!-- written by internal/bench/table: end -->\n"
)

func main() {
	into := flag.String("into", "", "Markdown file to write the tables into")
	flag.Parse()
	if err := run(*into, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "table:", err)
		os.Exit(1)
	}
}

func run(into string, paths []string) error {
	var reports []*bench.Report
	for _, path := range paths {
		report, err := bench.ReadReport(path)
		if err != nil {
			return err
		}
		reports = append(reports, report)
	}
	if into == "" {
		for _, report := range reports {
			fmt.Print(report.Table())
		}
		return nil
	}
	if len(reports) == 0 {
		return fmt.Errorf("no run to write into %s", into)
	}
	text, err := os.ReadFile(into)
	if err != nil {
		return err
	}
	before, rest, begun := strings.Cut(string(text), first)
	_, after, ended := strings.Cut(rest, last)
	if !begun || !ended {
		return fmt.Errorf("%s has no place for the tables: it wants the lines\n%s%s", into, first, last)
	}
	return os.WriteFile(into, []byte(before+first+bench.Markdown(reports)+last+after), 0o644)
}
