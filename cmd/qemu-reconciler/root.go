package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
)

// execute runs one command line and gives the exit code.
func execute(args []string, stdout, stderr io.Writer) int {
	root := newRoot(stdout, stderr)
	root.SetArgs(args)
	err := root.Execute()
	report(stderr, err)
	return exitCode(err)
}

func newRoot(stdout, stderr io.Writer) *cobra.Command {
	a := newApp(stdout, stderr)
	root := &cobra.Command{
		Use:           "qemu-reconciler COMMAND",
		Short:         "Keep QEMU virtual machines in step with a directory of task files",
		Version:       currentBuild().Version,
		Args:          cobra.ArbitraryArgs,
		RunE:          missingCommand,
		SilenceErrors: true,
		SilenceUsage:  true,
		// A swap of two letters is two edits.
		SuggestionsMinimumDistance: 2,
	}
	// Without this a command whose name is mistyped would be offered files.
	root.ValidArgsFunction = cobra.NoFileCompletions
	root.CompletionOptions.DisableDefaultCmd = true
	root.SetOut(stdout)
	root.SetErr(stderr)
	a.globalFlags(root.PersistentFlags())
	root.AddCommand(
		newRunCommand(a), newValidateCommand(a), newPlanCommand(a), newStatusCommand(a), newArgvCommand(a),
		newTaskCommand(a, verbStart), newTaskCommand(a, verbStop), newTaskCommand(a, verbRestart),
		newApproveCommand(a), newVersionCommand(a), newCompletionCommand(a),
	)
	help := newHelpCommand(root) // cobra makes it one of the commands later
	root.SetHelpCommand(help)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return &usageError{cmd: cmd, err: err} })
	for _, cmd := range append(root.Commands(), help) {
		argumentsAreUsage(cmd)
	}
	return root
}

// argumentsAreUsage makes a wrong number of arguments a usage error, which
// cobra does not tell from other errors.
func argumentsAreUsage(cmd *cobra.Command) {
	check := cmd.Args
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return &usageError{cmd: cmd, err: err}
		}
		return nil
	}
}

// missingCommand answers a command line that names no command that is known.
func missingCommand(root *cobra.Command, args []string) error {
	if len(args) == 0 {
		return usagef(root, "a command is missing: one of %s", strings.Join(commandNames(root), ", "))
	}
	err := fmt.Errorf("unknown command %q", args[0])
	if near := root.SuggestionsFor(args[0]); len(near) > 0 {
		err = fmt.Errorf("%w: did you mean %s?", err, strings.Join(near, " or "))
	}
	return &usageError{cmd: root, err: err}
}

func commandNames(root *cobra.Command) []string {
	var names []string
	for _, c := range root.Commands() {
		if c.IsAvailableCommand() {
			names = append(names, c.Name())
		}
	}
	return names
}

func newHelpCommand(root *cobra.Command) *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND]",
		Short: "Help about a command",
		Args:  cobra.MaximumNArgs(1),
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return commandNames(root), cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(help *cobra.Command, args []string) error {
			target, rest, err := root.Find(args)
			if err != nil || len(rest) > 0 {
				return usagef(help, "unknown command %q", strings.Join(args, " "))
			}
			target.InitDefaultHelpFlag()
			return target.Help()
		},
	}
}

// needTasks asks for at least one task and names the argument that is missing.
func needTasks(_ *cobra.Command, args []string) error {
	if len(args) == 0 {
		return errors.New("the name of a task is missing")
	}
	return nil
}

func needOneTask(cmd *cobra.Command, args []string) error {
	if len(args) > 1 {
		return fmt.Errorf("one task at a time: %d names were given", len(args))
	}
	return needTasks(cmd, args)
}
