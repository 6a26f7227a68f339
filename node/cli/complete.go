package cli

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

const (
	// completionPatience bounds what the cluster may take to complete a word: a
	// person waits for it in the middle of a line.
	completionPatience = 700 * time.Millisecond
	// completionIDs is how many ids are offered.
	completionIDs = 50
)

// completer offers the words that may stand where the cursor is. It prints
// nothing and offers nothing when it fails.
type completer = cobra.CompletionFunc

// completeFlag gives a flag of cmd its completer.
func completeFlag(cmd *cobra.Command, flag string, complete completer) {
	// It fails for a flag that is not there or has one already: a defect that
	// the walk over all commands in the tests would hit.
	if err := cmd.RegisterFlagCompletionFunc(flag, complete); err != nil {
		panic(err)
	}
}

// words offers fixed words; in a list divided by commas, the next one.
func words(list ...string) completer {
	return func(_ *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
		return inList(list, typed), cobra.ShellCompDirectiveNoFileComp
	}
}

// inList completes the last word of a list divided by commas.
func inList(list []string, typed string) []string {
	before := typed[:strings.LastIndex(typed, ",")+1]
	var offers []string
	for _, w := range list {
		if !slices.Contains(strings.Split(before, ","), w) && strings.HasPrefix(before+w, typed) {
			offers = append(offers, before+w)
		}
	}
	return offers
}

// lookUp makes a completer of a question to the cluster.
func (a *app) lookUp(ask func(ctx context.Context, c *rpc.Client) ([]string, error)) completer {
	return func(cmd *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
		nodes, _ := cmd.Flags().GetStringSlice("nodes") // none where the flag is not
		client, err := rpc.NewClient(a.nodesOr(nodes))
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		defer func() { _ = client.Close() }() // nothing is under way any more
		ctx, cancel := context.WithTimeout(cmd.Context(), completionPatience)
		defer cancel()
		list, err := ask(ctx, client)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return inList(list, typed), cobra.ShellCompDirectiveNoFileComp
	}
}

// first completes only the first argument.
func first(complete completer) completer {
	return func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return complete(cmd, args, typed)
	}
}

// participantNames offers the names in the registry.
func (a *app) participantNames() completer {
	return a.lookUp(func(ctx context.Context, c *rpc.Client) ([]string, error) {
		all, err := c.ListParticipants(ctx)
		var names []string
		for _, p := range all {
			if p.GetState() != stateRemoved {
				names = append(names, p.GetName())
			}
		}
		return names, err
	})
}

// branchPrefixes offers NAME= of a --branch NAME=JSON.
func (a *app) branchPrefixes() completer {
	names := a.participantNames()
	return func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
		if strings.Contains(typed, "=") {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		offers, _ := names(cmd, args, typed)
		for i := range offers {
			offers[i] += "="
		}
		return offers, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
	}
}

// transactionIDs offers the ids that the requests list.
func (a *app) transactionIDs(requests ...*pb.ListRequest) completer {
	return a.lookUp(func(ctx context.Context, c *rpc.Client) ([]string, error) {
		var ids []string
		for _, req := range requests {
			req.Limit = completionIDs
			resp, err := c.List(ctx, req)
			if err != nil {
				return nil, err
			}
			for _, t := range resp.GetTransactions() {
				ids = append(ids, t.GetId())
			}
		}
		return ids, nil
	})
}

// resolvableIDs offers the ids that an operator may have a word on.
func (a *app) resolvableIDs() completer {
	return a.transactionIDs(
		&pb.ListRequest{NeedsOperator: true},
		&pb.ListRequest{States: []pb.State{pb.State_STATE_COMMITTING, pb.State_STATE_ABORTING}, Order: pb.Order_OLDEST_FIRST},
	)
}

// unfinishedIDs offers the ids of transactions that are not finished.
func (a *app) unfinishedIDs() completer {
	return a.transactionIDs(&pb.ListRequest{Unfinished: true, Order: pb.Order_OLDEST_FIRST})
}

// nodeIDs offers the ids of the nodes.
func (a *app) nodeIDs() completer {
	return a.lookUp(func(ctx context.Context, c *rpc.Client) ([]string, error) {
		st, err := c.Status(ctx, "")
		var ids []string
		for _, n := range st.GetNodes() {
			ids = append(ids, n.GetId())
		}
		return ids, err
	})
}
