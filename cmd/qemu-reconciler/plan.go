package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/qemu-reconciler/qemu-reconciler/reconcile"
	"github.com/qemu-reconciler/qemu-reconciler/spec"
)

func newPlanCommand(a *app) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:               "plan",
		Short:             "Show what a pass would do, and do nothing",
		Long:              "Show what a pass over the files would do: each task, each field old -> new, its price and why.\nExit codes: 0 nothing to do, 2 changes, 1 an error (beats 2).",
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := a.settle()
			if err != nil {
				return err
			}
			plan, note, err := a.planNow(cmd.Context(), s)
			if err != nil {
				return err
			}
			if note != "" {
				fmt.Fprintln(a.stderr, spec.Printable(note))
			}
			return a.showPlan(plan, asJSON)
		},
	}
	jsonFlag(cmd, &asJSON)
	return cmd
}

// planNow asks the daemon or, when none answers, works it out.
func (a *app) planNow(ctx context.Context, s *setup) (plan reconcile.PlanReport, note string, err error) {
	plan, err = s.client().Plan(ctx)
	if err == nil {
		return plan, "", nil
	}
	offline, note, err := lookInstead(ctx, s, err)
	if err != nil {
		return plan, "", err
	}
	return offline.Plan(), note, nil
}

func (a *app) showPlan(plan reconcile.PlanReport, asJSON bool) error {
	if asJSON {
		if err := a.printJSON(plan); err != nil {
			return err
		}
	} else {
		for _, d := range planErrors(plan) {
			d.Render(a.stdout, a.style().colour)
			fmt.Fprintln(a.stdout)
		}
		fmt.Fprint(a.stdout, planText(plan, a.style()))
	}
	if code := planExit(plan); code != exitOK {
		return silently(code)
	}
	return nil
}
