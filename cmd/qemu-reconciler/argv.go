package main

import (
	"context"
	"fmt"

	"github.com/hashicorp/go-hclog"
	"github.com/spf13/cobra"

	"github.com/qemu-reconciler/qemu-reconciler/runtime"
	"github.com/qemu-reconciler/qemu-reconciler/spec"
)

func newArgvCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "argv TASK",
		Short: "Print a task's QEMU command line, shell-quoted",
		Long: "Print the QEMU command line of the task's process, or the one that it would be started with.\n" +
			"It is quoted for a shell; its descriptors (fd=N) are what the daemon hands over.",
		Args:              needOneTask,
		ValidArgsFunction: a.completeOneTask,
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := a.settle()
			if err != nil {
				return err
			}
			argv, err := commandLine(cmd.Context(), s, args[0])
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(a.stdout, shellQuote(argv))
			return err
		},
	}
}

// commandLine is that of the process if there is one, else what it would be.
func commandLine(ctx context.Context, s *setup, name string) ([]string, error) {
	offline, err := lookOffline(ctx, s)
	if err != nil {
		return nil, err
	}
	o, recorded := offline.Observed[name]
	if recorded && o.Alive && o.Record.Process != nil {
		return o.Record.Process.Argv, nil
	}
	log := hclog.NewNullLogger()
	options := s.runtimeOptions(s.fingerprint(log), log, nil)
	task, known := wantedTask(offline.Set, name, o.Record, options.Predict)
	if !known {
		return nil, s.unknownTask(name, s.dirs.VMs)
	}
	if task == nil {
		return nil, fmt.Errorf("the definition of %s has errors: see `qemu-reconciler validate`", name)
	}
	return options.Preview(task, o.Record)
}

// wantedTask is the definition that would be started, with the ports that
// predict gives it: that of the files or, while its file is broken, the last
// good one. A task that is known and has no sound definition is nil.
func wantedTask(set *spec.Set, name string, record *runtime.Record, predict func(*spec.Task, *runtime.Record) map[string]int) (task *spec.Task, known bool) {
	for _, d := range set.Definitions {
		if d.Task.Name == name {
			task, _ := d.Bind(predict(d.Task, record))
			return task, true
		}
	}
	if record != nil && record.Wanted != nil {
		return record.Wanted, true
	}
	for _, f := range set.Files {
		for _, faulty := range f.Faulty {
			if faulty == name {
				return nil, true
			}
		}
	}
	return nil, record != nil
}
