package cli

import (
	"io"
	"strings"

	"github.com/spf13/cobra"
)

// shell is one that completion is written for.
type shell struct {
	name string
	// long says how the script is put to use.
	long    string
	example string
	write   func(root *cobra.Command, w io.Writer) error
}

var shells = []shell{
	{
		"bash",
		`Needs the package bash-completion. For this session:

  source <(concordat completion bash)

For every session: write it to /etc/bash_completion.d/concordat.`,
		"  concordat completion bash > /etc/bash_completion.d/concordat",
		func(root *cobra.Command, w io.Writer) error { return root.GenBashCompletionV2(w, true) },
	},
	{
		"zsh",
		`For this session, where compinit has been run:

  source <(concordat completion zsh)

For every session: write it to a file _concordat in a directory of $fpath.`,
		`  concordat completion zsh > "${fpath[1]}/_concordat"`,
		func(root *cobra.Command, w io.Writer) error { return root.GenZshCompletion(w) },
	},
	{
		"fish",
		`For this session:

  concordat completion fish | source`,
		"  concordat completion fish > ~/.config/fish/completions/concordat.fish",
		func(root *cobra.Command, w io.Writer) error { return root.GenFishCompletion(w, true) },
	},
	{
		"powershell",
		`For this session:

  concordat completion powershell | Out-String | Invoke-Expression

For every session: add that line to the profile.`,
		"  concordat completion powershell | Out-String | Invoke-Expression",
		func(root *cobra.Command, w io.Writer) error { return root.GenPowerShellCompletionWithDesc(w) },
	},
}

func newCompletionCommand(a *app) *cobra.Command {
	cmd := group(&cobra.Command{
		Use:   "completion",
		Short: "Print the script by which a shell completes commands",
		Long: `Print the script by which a shell completes commands and flags, and, where the
cluster answers in time, participants, nodes and transactions.`,
		Example: "  source <(concordat completion bash)",
	})
	for _, s := range shells {
		cmd.AddCommand(&cobra.Command{
			Use:     s.name,
			Short:   "Print the completion script for " + s.name,
			Long:    "Print the completion script for " + s.name + ". " + strings.TrimSpace(s.long),
			Example: s.example,
			Args:    usageArgs(cobra.NoArgs),
			RunE:    func(cmd *cobra.Command, _ []string) error { return s.write(cmd.Root(), a.stdout) },
		})
	}
	return cmd
}
