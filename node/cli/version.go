package cli

import (
	"fmt"
	"io"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/concordat-tx/concordat/node"
)

func newVersionCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "version",
		Short:   "Print the version of this program",
		Example: "  concordat version -o json",
		Args:    usageArgs(cobra.NoArgs),
	}
	out := a.outputFlag(cmd)
	cmd.RunE = func(*cobra.Command, []string) error {
		version, commit := node.Version(), commit()
		return out.print(map[string]string{"version": version, "commit": commit, "go": runtime.Version()},
			func(w io.Writer) error {
				_, err := fmt.Fprintf(w, "concordat %s (commit %s, %s)\n", version, dash(commit), runtime.Version())
				return err
			})
	}
	return cmd
}

// commit is the revision that the build recorded; empty if it did not.
func commit() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return s.Value
		}
	}
	return ""
}
