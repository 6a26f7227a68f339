package cli

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

func newTxRetryCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "retry ID | --participant NAME",
		Short: "Call participants now that would be called later",
		Long: `Make the leader call at once the branches of a transaction, or all branches of a
participant, that it would call again later. It changes no state and is safe at
any time; without it they are called within 2 s anyway.`,
		Example: `  concordat tx retry booking-42
  concordat tx retry --participant seats -o json`,
		Args:              usageArgs(cobra.MaximumNArgs(1)),
		ValidArgsFunction: first(a.unfinishedIDs()),
	}
	client, out := a.clientFlags(cmd), a.outputFlag(cmd)
	req := &pb.RetryRequest{}
	cmd.Flags().StringVar(&req.Participant, "participant", "", "every branch of this participant")
	completeFlag(cmd, "participant", a.participantNames())
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if (len(args) == 1) == (req.GetParticipant() != "") {
			return usageErrorf("say either ID or --participant NAME")
		}
		if len(args) == 1 {
			req.Id = args[0]
		}
		return client.with(cmd.Context(), func(ctx context.Context, c *rpc.Client) error {
			resp, err := c.Retry(ctx, req)
			if err != nil {
				return err
			}
			value, err := toObject(resp)
			if err != nil {
				return err
			}
			return out.print(value, func(w io.Writer) error {
				_, err := fmt.Fprintln(w, retryText(resp.GetTransactions()))
				return err
			})
		})
	}
	return cmd
}

func retryText(n uint32) string {
	switch n {
	case 0:
		return "Nothing waits to be called again."
	case 1:
		return "1 transaction has its calls made now."
	}
	return fmt.Sprintf("%d transactions have their calls made now.", n)
}
