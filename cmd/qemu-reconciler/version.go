package main

import (
	"fmt"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// buildInfo is `version --json`.
type buildInfo struct {
	Version  string `json:"version"`
	Revision string `json:"revision"`
	Go       string `json:"go"`
}

// currentBuild takes the linker's version, else the module's, else "dev".
func currentBuild() buildInfo {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		info = &debug.BuildInfo{}
	}
	return describeBuild(version, info)
}

func describeBuild(linked string, info *debug.BuildInfo) buildInfo {
	out := buildInfo{Version: linked, Go: info.GoVersion}
	if out.Version == "" && info.Main.Version != "(devel)" {
		out.Version = info.Main.Version
	}
	if out.Version == "" {
		out.Version = "dev"
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			out.Revision = s.Value
		}
	}
	return out
}

func newVersionCommand(a *app) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			build := currentBuild()
			if asJSON {
				return a.printJSON(build)
			}
			_, err := fmt.Fprintf(a.stdout, "qemu-reconciler %s (%s)\n", build.Version, build.Go)
			return err
		},
	}
	jsonFlag(cmd, &asJSON)
	return cmd
}
