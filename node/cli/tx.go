package cli

import (
	"context"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"

	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

func newTxCommand(a *app) *cobra.Command {
	cmd := group(&cobra.Command{
		Use:   "tx",
		Short: "Submit, look up and settle transactions",
		Example: `  concordat tx submit --branch 'seats={"ops":[{"op":"put","key":"1A","value":"ann"}]}'
  concordat tx get booking-42`,
	})
	cmd.AddCommand(
		newTxSubmitCommand(a), newTxGetCommand(a), newTxListCommand(a), newTxWatchCommand(a), newTxExplainCommand(a),
		newTxRetryCommand(a), newTxAbortCommand(a), newTxResolveCommand(a),
	)
	return cmd
}

func newTxGetCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "get ID",
		Short: "Show what is known of a transaction",
		Long: `Show what is known of a transaction. That nothing is known settles nothing: a
delayed submit may still begin. 'concordat tx abort ID' settles it.`,
		Example: `  concordat tx get booking-42
  concordat tx get booking-42 --stale -o json`,
		Args:              usageArgs(cobra.ExactArgs(1)),
		ValidArgsFunction: first(a.transactionIDs(&pb.ListRequest{Order: pb.Order_NEWEST_FIRST})),
	}
	client, out := a.clientFlags(cmd), a.outputFlag(cmd)
	stale := cmd.Flags().Bool("stale", false, "take one node's own copy, which may lag, without asking the leader")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return client.with(cmd.Context(), func(ctx context.Context, c *rpc.Client) error {
			t, err := c.Get(ctx, &pb.GetRequest{Id: args[0], Stale: *stale})
			if err != nil {
				return err
			}
			return out.transaction(t)
		})
	}
	return cmd
}

func newTxAbortCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "abort ID",
		Short: "Abort a transaction that is not decided, or refuse an unknown id for good",
		Long: `Abort a transaction that is not decided, or refuse an id that nobody knows, for
good. One that is committed stays so: then the exit status is 1.

To settle a submit whose outcome was not known, repeat the --since that it printed.`,
		Example: `  concordat tx abort booking-42 --message 'customer left'
  concordat tx abort booking-42 --since 1201`,
		Args:              usageArgs(cobra.ExactArgs(1)),
		ValidArgsFunction: first(a.unfinishedIDs()),
	}
	client, out := a.clientFlags(cmd), a.outputFlag(cmd)
	message := cmd.Flags().String("message", "", "why; it becomes the reason of the abort")
	since := cmd.Flags().Uint64("since", 0, "the log index that the unanswered submit named")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		req := &pb.AbortRequest{Id: args[0], Message: *message}
		if cmd.Flags().Changed("since") {
			req.Since = proto.Uint64(*since)
		}
		return client.with(cmd.Context(), func(ctx context.Context, c *rpc.Client) error {
			t, err := c.Abort(ctx, req)
			if err != nil {
				return err
			}
			if err := out.transaction(t); err != nil {
				return err
			}
			if t.GetOutcome() == pb.Outcome_COMMIT {
				return rpc.Errorf(rpc.ReasonConflictingState,
					"transaction %s is committed already and cannot be aborted; undo it with another transaction", t.GetId())
			}
			return nil
		})
	}
	return cmd
}

func newTxResolveCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "resolve ID",
		Short: "An operator's word on a decided transaction",
		Long: `Either give up waiting for branches of a decided transaction, by the participant's
name: the participant's data may then disagree with the decision. Or acknowledge
a finished transaction that has heuristic or given-up branches, after the data
were looked at, so that it may be forgotten.`,
		Example: `  concordat tx resolve booking-42 --give-up seats --operator ann
  concordat tx resolve booking-42 --acknowledge`,
		Args:              usageArgs(cobra.ExactArgs(1)),
		ValidArgsFunction: first(a.resolvableIDs()),
	}
	client, out := a.clientFlags(cmd), a.outputFlag(cmd)
	giveUp := cmd.Flags().StringSlice("give-up", nil, "participants whose acknowledgement is no longer waited for")
	acknowledge := cmd.Flags().Bool("acknowledge", false, "the heuristics of this transaction were seen to")
	completeFlag(cmd, "give-up", a.participantNames())
	operator := a.operatorFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if *acknowledge == (len(*giveUp) > 0) {
			return usageErrorf("say either --give-up NAME or --acknowledge")
		}
		return client.with(cmd.Context(), func(ctx context.Context, c *rpc.Client) error {
			t, err := c.Resolve(ctx, &pb.ResolveRequest{
				Id: args[0], GiveUp: *giveUp, Acknowledge: *acknowledge, Operator: *operator,
			})
			if err != nil {
				return err
			}
			return out.transaction(t)
		})
	}
	return cmd
}
