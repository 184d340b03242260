package main

import (
	"fmt"
	"io"

	"github.com/hashicorp/go-hclog"
	"github.com/spf13/cobra"

	"github.com/qemu-reconciler/qemu-reconciler/reconcile"
	"github.com/qemu-reconciler/qemu-reconciler/spec"
)

// validation is `validate --json`. Lists are never null.
type validation struct {
	Format int  `json:"format"`
	Valid  bool `json:"valid"`
	// Tasks counts the sound ones.
	Tasks int `json:"tasks"`
	// Files are those with errors or warnings.
	Files []reconcile.FileStatus `json:"files"`
}

func newValidateCommand(a *app) *cobra.Command {
	var offline, asJSON bool
	cmd := &cobra.Command{
		Use:   "validate [PATH...]",
		Short: "Check task files or directories",
		Long: "Check task files or whole directories, by default the task directory. Needs no daemon and no root.\n" +
			"Exit codes: 0 no errors, 1 errors. Warnings change no exit code.",
		Args: cobra.ArbitraryArgs,
		RunE: func(_ *cobra.Command, paths []string) error {
			s, err := a.settle()
			if err != nil {
				return err
			}
			var host spec.Host
			if !offline {
				host = s.fingerprint(hclog.NewNullLogger())
			}
			options := s.loaderOptions(host)
			sets := []*spec.Set{}
			if len(paths) > 0 {
				sets = spec.LoadPaths(paths, options)
			} else {
				sets = append(sets, spec.LoadDir(options))
			}
			return a.showValidation(summarise(sets), asJSON)
		},
	}
	cmd.Flags().BoolVar(&offline, "offline", false, "leave this host's images, emulators and ports out")
	jsonFlag(cmd, &asJSON)
	return cmd
}

func (a *app) showValidation(v validation, asJSON bool) error {
	if asJSON {
		if err := a.printJSON(v); err != nil {
			return err
		}
	} else {
		writeValidation(a.stdout, v, a.style())
	}
	if !v.Valid {
		return silently(exitFailed)
	}
	return nil
}

// summarise folds sets into one result. A directory or file that cannot be
// read counts as a file with an error.
func summarise(sets []*spec.Set) validation {
	v := validation{Format: 1, Valid: true, Files: []reconcile.FileStatus{}}
	for _, set := range sets {
		v.Tasks += len(set.Definitions)
		if set.Err != nil {
			v.Files = append(v.Files, reconcile.FileStatus{
				Path: set.Dir, Errors: []spec.Diagnostic{{Summary: "cannot be read", Detail: set.Err.Error()}}, Warnings: []spec.Diagnostic{},
			})
		}
		for _, f := range set.Files {
			if len(f.Errors)+len(f.Warnings) > 0 {
				v.Files = append(v.Files, reconcile.FileStatus{Path: f.Path, Errors: notNil(f.Errors), Warnings: notNil(f.Warnings)})
			}
		}
	}
	for _, f := range v.Files {
		v.Valid = v.Valid && len(f.Errors) == 0
	}
	return v
}

// notNil is a list that JSON shows as one.
func notNil[T any](list []T) []T { return append([]T{}, list...) }

func writeValidation(w io.Writer, v validation, s style) {
	for _, d := range fileDiagnostics(v.Files) {
		d.Render(w, s.colour)
		fmt.Fprintln(w)
	}
	fmt.Fprintln(w, validationLine(v))
}

// validationLine is the last line of validate: what was found, in numbers.
func validationLine(v validation) string {
	errs, warnings := 0, 0
	for _, f := range v.Files {
		errs += len(f.Errors)
		warnings += len(f.Warnings)
	}
	line := plural(v.Tasks, "valid task", "valid tasks")
	if errs > 0 {
		line += ", " + plural(errs, "error", "errors")
	}
	if warnings > 0 {
		line += ", " + plural(warnings, "warning", "warnings")
	}
	return line + "."
}
