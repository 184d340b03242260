package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/qemu-reconciler/qemu-reconciler/reconcile"
	"github.com/qemu-reconciler/qemu-reconciler/runtime"
)

// onceTimeout is how long --once waits for convergence unless told otherwise.
const onceTimeout = 5 * time.Minute

// runFlags are the flags of run.
type runFlags struct {
	once       bool
	timeout    time.Duration
	stopOnExit bool
	logLevel   string
}

func newRunCommand(a *app) *cobra.Command {
	var f runFlags
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Run the daemon in the foreground",
		Long: "Run the daemon in the foreground: keep the VMs in step with the task directory.\n\n" +
			"SIGTERM and SIGINT end the daemon and leave the VMs running (--stop-on-exit stops them\n" +
			"gracefully first; a second signal leaves the rest running). SIGHUP reads config.hcl and\n" +
			"looks at the task directory again.",
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.check(cmd); err != nil {
				return err
			}
			s, err := a.settle()
			if err != nil {
				return err
			}
			return a.run(cmd.Context(), s, f)
		},
	}
	flags := cmd.Flags()
	flags.BoolVar(&f.once, "once", false, "converge, then exit and leave the VMs running; exit 1 if that fails")
	flags.DurationVar(&f.timeout, "timeout", onceTimeout, "how long --once tries")
	flags.BoolVar(&f.stopOnExit, "stop-on-exit", false, "stop the VMs gracefully before exiting")
	flags.StringVar(&f.logLevel, "log-level", "", "trace, debug, info, warn, error or off (beats config.hcl's log_level)")
	return cmd
}

func (f runFlags) check(cmd *cobra.Command) error {
	if cmd.Flags().Changed("timeout") && !f.once {
		return usagef(cmd, "--timeout is for --once: give both or neither")
	}
	if f.timeout <= 0 {
		return usagef(cmd, "--timeout must be longer than nothing, e.g. 5m")
	}
	if f.logLevel == "" {
		return nil
	}
	if err := checkLevel(f.logLevel); err != nil {
		return &usageError{cmd: cmd, err: err}
	}
	return nil
}

// run is the daemon's life: open, be ready, serve, end.
func (a *app) run(ctx context.Context, s *setup, f runFlags) error {
	log := newLogger(a.stderr, f.logLevel, s.config, a.errStyle())
	sig := listenForSignals(ctx)
	defer sig.release()
	d, err := openDaemon(sig.stop, s, log)
	if err != nil {
		return explainOpen(err)
	}
	d.logLevel = f.logLevel
	d.serve()
	d.notify.ready()
	if f.once {
		err = d.converge(sig.stop, f.timeout)
	} else {
		d.untilStopped(sig)
	}
	d.notify.stopping()
	if f.stopOnExit {
		err = errors.Join(err, d.stopAll(sig.force))
	}
	return errors.Join(err, d.close())
}

// explainOpen adds to a refusal what to do about it.
func explainOpen(err error) error {
	var locked *runtime.LockedError
	if errors.As(err, &locked) {
		return fmt.Errorf("%w: end that one first, or give this one its own --state-dir and --run-dir", err)
	}
	return fmt.Errorf("the daemon cannot start: %w", err)
}

// converge waits until everything is as wanted; the error names what is not.
func (d *daemonProcess) converge(ctx context.Context, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return onceResult(d.engine.Settled(ctx), ctx.Err(), timeout)
}

func onceResult(st reconcile.Status, ended error, timeout time.Duration) error {
	if st.Converged {
		return nil
	}
	head := "not converged"
	switch {
	case errors.Is(ended, context.DeadlineExceeded):
		head += " within " + timeout.String()
	case ended != nil:
		head += " when it was interrupted"
	}
	left := unconverged(st)
	if len(left) == 0 {
		left = []string{"the task directory was not settled yet; try again"}
	}
	return fmt.Errorf("%s: %s", head, strings.Join(left, "; "))
}
