package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/qemu-reconciler/qemu-reconciler/reconcile"
	"github.com/qemu-reconciler/qemu-reconciler/spec"
)

// watchInterval is how often `status --watch` looks.
const watchInterval = time.Second

// clearScreen moves to the top left and clears what is there.
const clearScreen = "\x1b[H\x1b[2J"

// statusFlags are the flags of status.
type statusFlags struct{ json, watch, check bool }

func newStatusCommand(a *app) *cobra.Command {
	var f statusFlags
	cmd := &cobra.Command{
		Use:               "status [TASK]",
		Short:             "Show the tasks, what is wrong with their files, and what is held",
		Long:              "Show the tasks. Works without a daemon too, from the files and the records.\nExit codes: 0, 1 for an unknown task, 3 with --check when not converged.",
		Args:              atMostOneTask,
		ValidArgsFunction: a.completeOneTask,
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.watch && f.check {
				return usagef(cmd, "--watch and --check exclude each other")
			}
			s, err := a.settleAnyway()
			if err != nil {
				return err
			}
			name := ""
			if len(args) == 1 {
				name = args[0]
			}
			if f.watch {
				ctx, cancel := interruptible(cmd.Context())
				defer cancel()
				return a.watchStatus(ctx, s, name, f)
			}
			return a.showStatus(cmd.Context(), s, name, f)
		},
	}
	jsonFlag(cmd, &f.json)
	cmd.Flags().BoolVar(&f.watch, "watch", false, "show it again whenever it changes, until Ctrl-C")
	cmd.Flags().BoolVar(&f.check, "check", false, "exit 3 when not converged")
	return cmd
}

// lookFor is lookAt for one task, or for all with an empty name.
func (a *app) lookFor(ctx context.Context, s *setup, name string) (reconcile.Status, string, error) {
	st, note, err := a.lookAt(ctx, s, name == "")
	if err != nil || name == "" {
		return st, note, err
	}
	one, known := only(st, name)
	if !known {
		return st, note, s.unknownTask(name, st.VMsDir)
	}
	return one, note, nil
}

func (a *app) showStatus(ctx context.Context, s *setup, name string, f statusFlags) error {
	st, note, err := a.lookFor(ctx, s, name)
	if note != "" {
		fmt.Fprintln(a.stderr, spec.Printable(note))
	}
	if err != nil {
		return err
	}
	if f.json {
		err = a.printJSON(st)
	} else {
		writeStatus(a.stdout, st, time.Now(), a.style())
	}
	if err == nil && f.check && !st.Converged {
		return silently(exitNotConverged)
	}
	return err
}

// watchStatus shows the status until ctx is done: on a terminal the screen is
// kept up to date, elsewhere every change is written once.
func (a *app) watchStatus(ctx context.Context, s *setup, name string, f statusFlags) error {
	tick := time.NewTicker(watchInterval)
	defer tick.Stop()
	terminal := isTerminal(a.stdout, os.Getenv)
	var last []byte
	for {
		st, note, err := a.lookFor(ctx, s, name)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		now, err := json.Marshal(st)
		if err != nil {
			return err
		}
		if terminal && !f.json {
			a.redraw(st, note)
		} else if !bytes.Equal(now, last) {
			if err := a.showChange(st, note, now, f.json); err != nil {
				return err
			}
		}
		last = now
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// redraw writes the whole screen at once, so that it does not flicker.
func (a *app) redraw(st reconcile.Status, note string) {
	var b bytes.Buffer
	b.WriteString(clearScreen)
	writeStatus(&b, st, time.Now(), a.style())
	if note != "" {
		b.WriteString("\n" + spec.Printable(note) + "\n")
	}
	a.stdout.Write(b.Bytes())
}

// showChange writes one status below the last one; JSON takes a line each.
func (a *app) showChange(st reconcile.Status, note string, line []byte, asJSON bool) error {
	if asJSON {
		_, err := fmt.Fprintf(a.stdout, "%s\n", line)
		return err
	}
	now := time.Now()
	fmt.Fprintf(a.stdout, "--- %s\n", now.Format(time.TimeOnly))
	writeStatus(a.stdout, st, now, a.style())
	if note != "" {
		fmt.Fprintln(a.stderr, spec.Printable(note))
	}
	return nil
}

func atMostOneTask(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	return needOneTask(cmd, args)
}
