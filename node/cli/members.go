package cli

import (
	"cmp"
	"context"
	"io"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// member is one node as cluster members shows it.
type member struct {
	ID          string  `json:"id"`
	Role        string  `json:"role"` // empty if it does not answer
	Ready       bool    `json:"ready"`
	Voter       bool    `json:"voter"`
	Reachable   bool    `json:"reachable"`
	RPCAddress  string  `json:"rpc_address"`
	RaftAddress string  `json:"raft_address"`
	HTTPAddress string  `json:"http_address"`
	Term        uint64  `json:"term,string"`
	Applied     uint64  `json:"applied_index,string"`
	Lag         uint64  `json:"lag,string"` // entries behind the furthest node
	Version     string  `json:"version"`
	Contact     float64 `json:"contact_seconds"` // since it last heard of the leader
	Error       *fault  `json:"error,omitempty"` // why it does not answer
}

// fault is an error as JSON.
type fault struct {
	Reason  rpc.ErrorReason `json:"reason"`
	Message string          `json:"message"`
}

func faultOf(err error) *fault {
	e := rpc.FromError(err)
	return &fault{e.Reason, e.Message}
}

func newClusterMembersCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "members",
		Short: "List the nodes: role, addresses, how far each is",
		Long: `List every node that the cluster knows of: its role by its own word, its addresses
as the others know them, how many log entries it is behind the furthest node, and
how long ago it heard of the leader. Exit status 4 if no node answers.`,
		Example: `  concordat cluster members
  concordat cluster members -o jsonl`,
		Args: usageArgs(cobra.NoArgs),
	}
	client, out := a.clientFlags(cmd), a.outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return client.with(cmd.Context(), func(ctx context.Context, c *rpc.Client) error {
			all := c.StatusAll(ctx)
			if err := noAnswer(all); err != nil {
				return err
			}
			members := membersOf(all)
			return printList(out, object{"members": members}, members, func(w io.Writer) error { return membersTable(w, members) })
		})
	}
	return cmd
}

// membersOf puts together what the nodes say of each other and of themselves.
func membersOf(all []rpc.NodeStatus) []*member {
	byID := map[string]*member{}
	of := func(id string) *member {
		if byID[id] == nil {
			byID[id] = &member{ID: id}
		}
		return byID[id]
	}
	for _, n := range all {
		for _, info := range n.Status.GetNodes() {
			m := of(info.GetId())
			m.Voter = m.Voter || info.GetVoter()
			m.RaftAddress = cmp.Or(m.RaftAddress, info.GetRaftAddress())
			m.RPCAddress = cmp.Or(m.RPCAddress, info.GetRpcAddress())
			m.HTTPAddress = cmp.Or(m.HTTPAddress, info.GetHttpAddress())
		}
	}
	furthest := furthestIndex(all)
	for _, n := range all {
		if n.Err == nil {
			of(n.Status.GetNode()).answered(n, furthest)
		}
	}
	for _, n := range all {
		for _, m := range byID {
			if n.Err != nil && m.RPCAddress == n.Address && !m.Reachable {
				m.Error = faultOf(n.Err)
			}
		}
	}
	members := make([]*member, 0, len(byID))
	for _, m := range byID {
		members = append(members, m)
	}
	slices.SortFunc(members, func(a, b *member) int { return cmp.Compare(a.ID, b.ID) })
	return members
}

// answered takes over what a node says of itself.
func (m *member) answered(n rpc.NodeStatus, furthest uint64) {
	st := n.Status
	m.Reachable, m.Role, m.Ready, m.Term = true, st.GetRole(), st.GetReady(), st.GetTerm()
	m.Applied, m.Lag = st.GetAppliedIndex(), lagOf(st, furthest)
	m.Version, m.Contact = st.GetVersion(), st.GetContactSeconds()
	m.RPCAddress = cmp.Or(m.RPCAddress, n.Address)
}

// furthestIndex is the highest index that any node knows to be committed.
func furthestIndex(all []rpc.NodeStatus) (index uint64) {
	for _, n := range all {
		index = max(index, n.Status.GetCommitIndex(), n.Status.GetAppliedIndex())
	}
	return index
}

func lagOf(st *pb.StatusResponse, furthest uint64) uint64 {
	return furthest - min(furthest, st.GetAppliedIndex())
}

func membersTable(w io.Writer, members []*member) error {
	g := newGrid(w, "ID", "ROLE", "VOTER", "REACHABLE", "RPC", "RAFT", "HTTP", "APPLIED", "LAG", "CONTACT", "VERSION")
	for _, m := range members {
		applied, lag, contact := "-", "-", "-"
		if m.Reachable {
			applied, lag = count(m.Applied), count(m.Lag)
			contact = contactText(m.Contact)
		}
		g.row(m.ID, dash(m.Role), yesNo(m.Voter), yesNo(m.Reachable), dash(m.RPCAddress), dash(m.RaftAddress), dash(m.HTTPAddress),
			applied, lag, contact, dash(m.Version))
	}
	return g.flush()
}

func contactText(seconds float64) string {
	if seconds < 1 {
		return strconv.Itoa(int(seconds*1000)) + "ms"
	}
	return durationText(time.Duration(seconds * float64(time.Second)))
}
