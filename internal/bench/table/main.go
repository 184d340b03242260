package main

import (
	"flag"
	"fmt"
	"os"
	"strings"

	"github.com/qemu-reconciler/qemu-reconciler/internal/bench"
)

// section is a part of the file that is written here: what is between its
// comments.
type section struct {
	name  string
	write func([]*bench.Report) string
	runs  []*bench.Report
}

func main() {
	into := flag.String("into", "", "Markdown file to write the tables into")
	flag.Parse()
	if err := run(*into, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "table:", err)
		os.Exit(1)
	}
}

func run(into string, paths []string) error {
	own, peers := section{name: "", write: bench.Markdown}, section{name: " peers", write: bench.PeerMarkdown}
	for _, path := range paths {
		report, err := bench.ReadReport(path)
		switch {
		case err != nil:
			return err
		case into == "":
			fmt.Print(report.Table())
		case report.Peer != "":
			peers.runs = append(peers.runs, report)
		default:
			own.runs = append(own.runs, report)
		}
	}
	if into == "" {
		return nil
	}
	if len(paths) == 0 {
		return fmt.Errorf("no run to write into %s", into)
	}
	text, err := os.ReadFile(into)
	if err != nil {
		return err
	}
	for _, s := range []section{own, peers} {
		if text, err = s.in(text); err != nil {
			return fmt.Errorf("%s: %w", into, err)
		}
	}
	return os.WriteFile(into, text, 0o644)
}

// in gives a text with the section written anew, if there is anything to write.
func (s section) in(text []byte) ([]byte, error) {
	if len(s.runs) == 0 {
		return text, nil
	}
	first := "<!-- written by internal/bench/table:" + s.name + " begin -->\n"
	last := "<!-- written by internal/bench/table:" + s.name + " end -->\n"
	before, rest, begun := strings.Cut(string(text), first)
	_, after, ended := strings.Cut(rest, last)
	if !begun || !ended {
		return nil, fmt.Errorf("no place for the tables: it wants the lines\n%s%s", first, last)
	}
	return []byte(before + first + s.write(s.runs) + last + after), nil
}
