package cli

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/concordat-tx/concordat/rpc"
)

func newClusterTransferCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "transfer [NODE]",
		Short: "Hand the leadership to another node",
		Long: `Hand the leadership to another node, which is brought up to date first; without
NODE, to the one that is furthest. Transactions go on: those under way are taken
over, new ones wait for a moment.`,
		Example: `  concordat cluster transfer
  concordat cluster transfer n2`,
		Args:              usageArgs(cobra.MaximumNArgs(1)),
		ValidArgsFunction: first(a.nodeIDs()),
	}
	client, out := a.clientFlags(cmd), a.outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		to := ""
		if len(args) == 1 {
			to = args[0]
		}
		return client.with(cmd.Context(), func(ctx context.Context, c *rpc.Client) error {
			resp, err := c.TransferLeadership(ctx, to)
			if err != nil {
				return err
			}
			value, err := toObject(resp)
			if err != nil {
				return err
			}
			return out.print(value, func(w io.Writer) error {
				text := fmt.Sprintf("%s leads now; before, %s did.", resp.GetLeader(), resp.GetFormer())
				if resp.GetLeader() == resp.GetFormer() {
					text = resp.GetLeader() + " leads already."
				}
				_, err := fmt.Fprintln(w, printable(text))
				return err
			})
		})
	}
	return cmd
}
