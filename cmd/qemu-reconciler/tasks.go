package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

// verb is one of the commands that act on tasks through the daemon.
type verb struct {
	name, short, long string
	// done and begun say what became of a task, with and without waiting.
	done, begun string
}

var (
	verbStart = verb{
		name: "start", short: "Start tasks, and end an operator's hold",
		long: "Start ends the hold of an earlier `stop` and the wait of a restart policy, and waits until the tasks run.",
		done: "started", begun: "will be started",
	}
	verbStop = verb{
		name: "stop", short: "Stop tasks and hold them stopped",
		long: "Stop stops tasks as their definitions say (gracefully where graceful_shutdown is set) and holds them\n" +
			"stopped until `start`, over restarts of the daemon and of the host, or until the task is removed.",
		done: "stopped, and held until `start`", begun: "will be stopped, and held until `start`",
	}
	verbRestart = verb{
		name: "restart", short: "Restart tasks now",
		long: "Restart stops tasks as their definitions say, starts them again, and waits until they run.",
		done: "restarted", begun: "will be restarted",
	}
)

func newTaskCommand(a *app, v verb) *cobra.Command {
	var noWait bool
	cmd := &cobra.Command{
		Use:               v.name + " TASK...",
		Short:             v.short,
		Long:              v.long,
		Args:              needTasks,
		ValidArgsFunction: a.completeTasks,
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := a.settle()
			if err != nil {
				return err
			}
			ctx, cancel := interruptible(cmd.Context())
			defer cancel()
			return a.act(ctx, s.client(), v, unique(args), !noWait)
		},
	}
	cmd.Flags().BoolVar(&noWait, "no-wait", false, "return as soon as the daemon has accepted it")
	return cmd
}

// act asks the daemon for the verb on all tasks at once. Nothing is done when
// one of the names is unknown: it is more often a slip than meant.
func (a *app) act(ctx context.Context, c *client, v verb, names []string, wait bool) error {
	results, err := c.Act(ctx, v.name, names, wait)
	if ctx.Err() != nil {
		return errors.New("interrupted: the daemon goes on with what was asked")
	}
	if len(results) == 0 {
		return err
	}
	return a.tellResults(v, results)
}

func (a *app) tellResults(v verb, results []taskResult) error {
	var failed []error
	for _, r := range results {
		switch {
		case r.Error != "":
			failed = append(failed, errors.New(r.Error))
		case r.Done:
			fmt.Fprintf(a.stdout, "%s: %s\n", r.Task, v.done)
		default:
			fmt.Fprintf(a.stdout, "%s: %s\n", r.Task, v.begun)
		}
	}
	return errors.Join(failed...)
}

// unique drops repeated names, so that no task is asked for twice at once.
func unique(names []string) []string {
	seen := map[string]bool{}
	var out []string
	for _, name := range names {
		if !seen[name] {
			seen[name] = true
			out = append(out, name)
		}
	}
	return out
}

// interruptible ends with the first Ctrl-C or SIGTERM; the next one kills.
func interruptible(parent context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := signal.NotifyContext(parent, os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, cancel)
	return ctx, cancel
}
