package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func newApproveCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:               "approve",
		Short:             "Let the removals go that are held, exactly as status shows them",
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := a.settle()
			if err != nil {
				return err
			}
			names, err := s.client().Approve(cmd.Context())
			if err != nil {
				return err
			}
			for _, name := range names {
				fmt.Fprintf(a.stdout, "%s: removal approved\n", name)
			}
			return nil
		},
	}
}
