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
	"github.com/concordat-tx/concordat/rpc/pb"
)

func newClusterCommand(a *app) *cobra.Command {
	cmd := group(&cobra.Command{
		Use:     "cluster",
		Short:   "Look after the cluster of nodes",
		Example: "  concordat cluster status\n  concordat cluster members",
	})
	cmd.AddCommand(newClusterStatusCommand(a), newClusterMembersCommand(a), newClusterTransferCommand(a))
	return cmd
}

func newClusterStatusCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show every node, who leads and what is under way",
		Long: `Ask every node for its own view. One address is enough: the others are learned
from the answers. LAG is how many log entries a node is behind the furthest.

In doubt are the transactions that are not finished: prepared branches of theirs
wait to be told the outcome. Exit status 4 if no node answers.`,
		Example: `  concordat cluster status
  concordat cluster status --nodes 127.0.0.1:7002 -o json`,
		Args: usageArgs(cobra.NoArgs),
	}
	client, out := a.clientFlags(cmd), a.outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return client.with(cmd.Context(), func(ctx context.Context, c *rpc.Client) error {
			all := c.StatusAll(ctx)
			nodes, err := nodeObjects(all)
			if err != nil {
				return err
			}
			sum := summaryOf(all)
			value := sum.object()
			value["nodes"] = nodes
			if err := printList(out, value, nodes, func(w io.Writer) error { return statusTable(w, all, sum) }); err != nil {
				return err
			}
			return noAnswer(all)
		})
	}
	return cmd
}

// summary is the cluster as a whole, as the best of the nodes sees it: the
// leader, or the one that is furthest.
type summary struct {
	best     *pb.StatusResponse // nil if nobody answers
	leader   string             // of the newest term; empty if nobody leads
	furthest uint64
	alerts   int
}

func summaryOf(all []rpc.NodeStatus) summary {
	s := summary{furthest: furthestIndex(all)}
	var term uint64
	for _, n := range all {
		if n.Err != nil {
			continue
		}
		st := n.Status
		s.alerts += len(st.GetAlerts())
		if st.GetReady() && st.GetTerm() >= term {
			s.leader, term = st.GetNode(), st.GetTerm()
		}
		if s.best == nil || st.GetAppliedIndex() > s.best.GetAppliedIndex() {
			s.best = st
		}
	}
	for _, n := range all {
		if n.Err == nil && n.Status.GetNode() == s.leader {
			s.best = n.Status
		}
	}
	return s
}

func (s summary) inDoubt() uint64 { return s.best.GetPreparing() + s.best.GetDeciding() }

func (s summary) object() object {
	return object{
		"cluster_id": s.best.GetClusterId(), "generation": s.best.GetGeneration(), "leader": s.leader, "term": count(s.best.GetTerm()),
		"in_doubt": count(s.inDoubt()), "needs_operator": count(s.best.GetNeedsOperator()), "alerts": s.alerts,
	}
}

// lines are what stands below the table.
func (s summary) lines() []string {
	if s.best == nil {
		return nil
	}
	lines := []string{fmt.Sprintf("%d in doubt (%d preparing, %d decided and not applied everywhere), %d need an operator, %d alerts",
		s.inDoubt(), s.best.GetPreparing(), s.best.GetDeciding(), s.best.GetNeedsOperator(), s.alerts)}
	if s.leader == "" {
		lines = append(lines, "NO LEADER: nothing is decided until a majority of the nodes reach each other")
	}
	return lines
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

func nodeObjects(all []rpc.NodeStatus) ([]object, error) {
	nodes := make([]object, 0, len(all))
	furthest := furthestIndex(all)
	for _, n := range all {
		o := object{"address": n.Address}
		if n.Err != nil {
			o["error"] = faultOf(n.Err)
		} else {
			status, err := toObject(n.Status)
			if err != nil {
				return nil, err
			}
			o["status"], o["lag"] = status, count(lagOf(n.Status, furthest))
		}
		nodes = append(nodes, o)
	}
	return nodes, nil
}

func statusTable(w io.Writer, all []rpc.NodeStatus, sum summary) error {
	ids, hidden := nodeNames(all)
	g := newGrid(w, "NODE", "ADDRESS", "ROLE", "TERM", "APPLIED", "LAG", "PREPARING", "DECIDING", "FINISHED", "NEEDS OPERATOR", "ALERTS")
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
		g.row(st.GetNode(), n.Address, role, count(st.GetTerm()), count(st.GetAppliedIndex()), count(lagOf(st, sum.furthest)),
			count(st.GetPreparing()), count(st.GetDeciding()), count(st.GetFinished()), count(st.GetNeedsOperator()),
			strconv.Itoa(len(st.GetAlerts())))
	}
	for _, id := range hidden {
		g.row(id, "-", "not heard of yet")
	}
	if err := g.flush(); err != nil {
		return err
	}
	for _, line := range sum.lines() {
		fmt.Fprintln(w, line)
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
