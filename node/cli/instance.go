package cli

import (
	"context"
	"io"

	"github.com/spf13/cobra"

	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

func newParticipantsAcceptInstanceCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "accept-instance NAME",
		Short: "Accept that a participant's database is another instance than before",
		Long: `Accept that the database under a participant is another instance than before: it
was restored from a backup, or a standby was promoted. Until then known decisions are
delivered and proven there, but nothing is rolled back and nothing that is absent is
believed, since what is missing may have been promised.

See first that the database has everything that was committed and prepared ('concordat
participants census NAME'). A database restored to an earlier moment has not: give
its data a new incarnation instead.

--instance says which instance is meant, so that one that changes meanwhile is not
accepted; without it the present one is.`,
		Example: `  concordat participants accept-instance payments --operator ann
  concordat participants accept-instance payments --instance 7301934-2 --operator ann`,
		Args:              usageArgs(cobra.ExactArgs(1)),
		ValidArgsFunction: first(a.participantNames()),
	}
	client, out := a.clientFlags(cmd), a.outputFlag(cmd)
	instance := cmd.Flags().String("instance", "", "the instance that is accepted (default: the present one)")
	operator := a.operatorFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if *operator == "" {
			return usageErrorf("--operator: say who decides this")
		}
		return client.with(cmd.Context(), func(ctx context.Context, c *rpc.Client) error {
			if *instance == "" {
				d, err := c.DescribeParticipant(ctx, args[0])
				if err != nil {
					return err
				}
				*instance = d.GetInstance()
			}
			resp, err := c.AcceptInstance(ctx, args[0], &pb.AcceptInstanceRequest{Instance: *instance, Operator: *operator})
			if err != nil {
				return err
			}
			value, err := toObject(resp)
			if err != nil {
				return err
			}
			return out.print(value, func(w io.Writer) error {
				g := newGrid(w, "PARTICIPANT", "INSTANCE", "FORMER")
				g.row(args[0], resp.GetInstance(), dash(resp.GetFormer()))
				return g.flush()
			})
		})
	}
	return cmd
}
