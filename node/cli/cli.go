package cli

import (
	"context"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
)

// app is what every command shares.
type app struct {
	stdin  io.Reader
	stdout io.Writer
	stderr io.Writer
	// env looks up an environment variable.
	env func(string) string
}

// Main runs one command line, without the program's name, and returns its exit
// status. It ends early, and orderly, with ctx.
func Main(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	a := &app{stdin: stdin, stdout: stdout, stderr: stderr, env: os.Getenv}
	root := newRootCommand(a)
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	cmd, err := root.ExecuteContextC(ctx)
	return a.report(cmd, err)
}

func newRootCommand(a *app) *cobra.Command {
	root := group(&cobra.Command{
		Use:   "concordat",
		Short: "A transaction coordinator that does not go down",
		Long: `Concordat commits a transaction in every participant or in none, by two-phase
commit, and three nodes keep it going when one of them dies.

Exit status: 0 done or committed, 1 error, 2 bad usage, 3 the submitted
transaction aborted, 4 unavailable or outcome not known (its id is printed).`,
		Example: `  concordat demo
  concordat server --id n1 --data-dir data/n1 --peers n1=127.0.0.1:7101
  concordat participant kv --name seats --data-dir data/seats --listen 127.0.0.1:7301 --register
  concordat tx submit --branch 'seats={"ops":[{"op":"put","key":"1A","value":"ann"}]}'`,
	})
	root.SilenceErrors, root.SilenceUsage = true, true
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &usageError{err} })
	root.AddCommand(
		newDemoCommand(a),
		newServerCommand(a),
		newParticipantCommand(a),
		newTxCommand(a),
		newClusterCommand(a),
		newParticipantsCommand(a),
		newKVCommand(a),
		newAlertsCommand(a),
		newDoctorCommand(a),
		newDataCommand(a),
		newCompletionCommand(a),
		newBenchCommand(a),
		newVersionCommand(a),
	)
	return root
}

// group makes cmd a noun: alone it prints its help, and a verb that it does
// not have is bad usage.
func group(cmd *cobra.Command) *cobra.Command {
	cmd.Args = cobra.ArbitraryArgs
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return cmd.Help()
		}
		cmd.SuggestionsMinimumDistance = 2
		if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
			return usageErrorf("%q has no command %q; did you mean %s?", cmd.CommandPath(), args[0], strings.Join(near, " or "))
		}
		return usageErrorf("%q has no command %q", cmd.CommandPath(), args[0])
	}
	return cmd
}

// usageArgs makes a wrong number of arguments bad usage.
func usageArgs(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return &usageError{err}
		}
		return nil
	}
}
