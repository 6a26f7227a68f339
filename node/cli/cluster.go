package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/concordat-tx/concordat/rpc"
)

func newClusterCommand(a *app) *cobra.Command {
	cmd := group(&cobra.Command{
		Use:     "cluster",
		Short:   "Look after the cluster of nodes",
		Example: "  concordat cluster status",
	})
	cmd.AddCommand(newClusterStatusCommand(a))
	return cmd
}

func newClusterStatusCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show every node, who leads and what is under way",
		Long: `Ask every node for its own view. One address is enough: the others are learned
from the answers. Exit status 4 if no node answers.`,
		Example: `  concordat cluster status
  concordat cluster status --nodes 127.0.0.1:7002 -o json`,
		Args: usageArgs(cobra.NoArgs),
	}
	client, out := a.clientFlags(cmd), a.outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return client.with(cmd.Context(), func(ctx context.Context, c *rpc.Client) error {
			all := c.StatusAll(ctx)
			value, err := statusObject(all)
			if err != nil {
				return err
			}
			if err := out.print(value, func(w io.Writer) error { return statusTable(w, all) }); err != nil {
				return err
			}
			return noAnswer(all)
		})
	}
	return cmd
}

// noAnswer is the error of a cluster where nobody answered.
func noAnswer(all []rpc.NodeStatus) error {
	var errs []error
	for _, n := range all {
		if n.Err == nil {
			return nil
		}
		errs = append(errs, n.Err)
	}
	return rpc.Errorf(rpc.ReasonUnreachable, "no node answers; start one, or name others with --nodes: %w", errors.Join(errs...))
}

func statusObject(all []rpc.NodeStatus) (object, error) {
	nodes := make([]object, 0, len(all))
	for _, n := range all {
		o := object{"address": n.Address}
		if n.Err != nil {
			e := rpc.FromError(n.Err)
			o["error"] = object{"reason": e.Reason, "message": e.Message}
		} else {
			status, err := toObject(n.Status)
			if err != nil {
				return nil, err
			}
			o["status"] = status
		}
		nodes = append(nodes, o)
	}
	return object{"nodes": nodes}, nil
}

func statusTable(w io.Writer, all []rpc.NodeStatus) error {
	ids, hidden := nodeNames(all)
	g := newGrid(w, "NODE", "ADDRESS", "ROLE", "TERM", "APPLIED", "PREPARING", "DECIDING", "FINISHED", "NEEDS OPERATOR")
	for _, n := range all {
		if n.Err != nil {
			g.row(dash(ids[n.Address]), n.Address, "no answer")
			continue
		}
		st := n.Status
		role := st.GetRole()
		if st.GetReady() {
			role += ", ready"
		}
		g.row(st.GetNode(), n.Address, role, count(st.GetTerm()), count(st.GetAppliedIndex()), count(st.GetPreparing()),
			count(st.GetDeciding()), count(st.GetFinished()), count(st.GetNeedsOperator()))
	}
	for _, id := range hidden {
		g.row(id, "-", "not heard of yet")
	}
	if err := g.flush(); err != nil {
		return err
	}
	for _, n := range all {
		for _, alert := range n.Status.GetAlerts() {
			fmt.Fprintf(w, "ALERT %s: %s\n", printable(n.Status.GetNode()), printable(alert))
		}
	}
	return nil
}

// nodeNames are the ids by address, as the nodes themselves tell, and the ids
// of members whose address no node knows.
func nodeNames(all []rpc.NodeStatus) (ids map[string]string, hidden []string) {
	ids = make(map[string]string)
	members := make(map[string]bool) // whether the address is known
	for _, n := range all {
		for _, m := range n.Status.GetNodes() {
			ids[m.GetRpcAddress()] = m.GetId()
			members[m.GetId()] = members[m.GetId()] || m.GetRpcAddress() != ""
		}
	}
	for _, n := range all {
		if n.Err == nil {
			members[n.Status.GetNode()] = true
		}
	}
	for id, known := range members {
		if !known {
			hidden = append(hidden, id)
		}
	}
	slices.Sort(hidden)
	return ids, hidden
}

func count(n uint64) string { return strconv.FormatUint(n, 10) }
