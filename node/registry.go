package node

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/concordat-tx/concordat/cluster"
	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/fsm/fsmpb"
	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// describeTimeout bounds the question who serves an endpoint.
const describeTimeout = 2 * time.Second

// ListParticipants shows the registry, by the leader, who knows who answers.
func (s *clusterService) ListParticipants(ctx context.Context, req *pb.ListParticipantsRequest) (*pb.ListParticipantsResponse, error) {
	return route(ctx, s.Node,
		func(l *leader) (*pb.ListParticipantsResponse, error) {
			var list []*fsm.Participant
			s.replica.View(func(m *fsm.Machine) { list = m.Participants() })
			out := &pb.ListParticipantsResponse{}
			for _, p := range list {
				out.Participants = append(out.Participants, l.participantInfo(p))
			}
			return out, nil
		},
		func(ctx context.Context, c peer) (*pb.ListParticipantsResponse, error) {
			return c.ListParticipants(ctx, req)
		})
}

func (l *leader) participantInfo(p *fsm.Participant) *pb.ParticipantInfo {
	info := &pb.ParticipantInfo{
		Name: p.Name, Endpoints: p.Endpoints, Kind: p.Kind, Incarnation: p.Incarnation,
		State: p.State.String(), PendingIncarnation: p.PendingIncarnation, OnePhase: p.OnePhase,
	}
	l.node.replica.View(func(m *fsm.Machine) { info.Unfinished = uint32(m.Unfinished(p.Name)) })
	if p.State != fsm.ParticipantRemoved {
		k := l.link(p.Name)
		info.Reachable, info.Undelivered = !k.down.Load(), uint32(max(0, k.stuck.Load()))
	}
	return info
}

// AddParticipant asks every endpoint who it is, then logs the registration.
func (s *clusterService) AddParticipant(ctx context.Context, req *pb.AddParticipantRequest) (*pb.ParticipantInfo, error) {
	if err := fsm.CheckParticipant("name", req.GetName()); err != nil {
		return nil, err
	}
	if k := len(req.GetEndpoints()); k == 0 || k > fsm.MaxEndpoints {
		return nil, rpc.FieldErrorf("endpoints", fmt.Sprintf("1 to %d", fsm.MaxEndpoints), "%d", k)
	}
	for i, e := range req.GetEndpoints() {
		field := fmt.Sprintf("endpoints[%d]", i)
		if err := rpc.CheckAddress(field, e); err != nil {
			return nil, err
		}
		if len(e) > fsm.MaxEndpointBytes {
			return nil, rpc.FieldErrorf(field, fmt.Sprintf("at most %d bytes", fsm.MaxEndpointBytes), "%d bytes", len(e))
		}
		if slices.Contains(req.GetEndpoints()[:i], e) {
			return nil, rpc.FieldErrorf(field, "each endpoint once", "%q again", e)
		}
	}
	return route(ctx, s.Node,
		func(l *leader) (*pb.ParticipantInfo, error) { return l.addParticipant(ctx, req) },
		func(ctx context.Context, c peer) (*pb.ParticipantInfo, error) { return c.AddParticipant(ctx, req) })
}

func (l *leader) addParticipant(ctx context.Context, req *pb.AddParticipantRequest) (*pb.ParticipantInfo, error) {
	c := &fsmpb.RegisterParticipant{Name: req.GetName(), Endpoints: req.GetEndpoints(), Accept: req.GetAcceptIncarnation(), Join: req.GetJoin(), OnePhase: true}
	for i, endpoint := range req.GetEndpoints() {
		d, err := l.node.describe(ctx, endpoint)
		if err != nil {
			e := rpc.Errorf(rpc.ReasonParticipantUnavailable, "endpoints[%d]: nobody answers at %s: %w; start the participant first", i, endpoint, err)
			e.Participant = req.GetName()
			return nil, e
		}
		switch {
		case d.GetName() != req.GetName():
			return nil, rpc.FieldErrorf(fmt.Sprintf("endpoints[%d]", i), "an endpoint of participant "+req.GetName(), "%s, which is participant %q", endpoint, d.GetName())
		case d.GetClusterId() != "" && d.GetClusterId() != l.clusterID:
			return nil, rpc.Errorf(rpc.ReasonWrongCluster, "endpoints[%d]: the data at %s belong to cluster %s, this is %s", i, endpoint, d.GetClusterId(), l.clusterID)
		case i > 0 && d.GetIncarnation() != c.GetIncarnation():
			return nil, rpc.FieldErrorf(fmt.Sprintf("endpoints[%d]", i), "endpoints that share one set of data", "%s with data %s, endpoints[0] has %s", endpoint, d.GetIncarnation(), c.GetIncarnation())
		}
		c.Kind, c.Incarnation = d.GetKind(), d.GetIncarnation()
		c.OnePhase = c.OnePhase && d.GetOnePhase()
	}
	if c.Join && c.OnePhase {
		c.OnePhase = l.othersInOnePhase(ctx, req)
	}
	r, err := l.node.replica.Propose(ctx, &fsmpb.Command{Kind: &fsmpb.Command_RegisterParticipant{RegisterParticipant: c}})
	if err != nil {
		return nil, proposeError(err, "")
	}
	if r.Rejection != nil {
		e := rpc.FromError(rejectionError(r.Rejection, ""))
		if r.Rejection.Kind == fsm.KindIncarnation {
			e.Message += "; check that nothing is missing in them, then run 'concordat participants add " + req.GetName() + " --accept-incarnation'"
		}
		e.Participant = req.GetName()
		return nil, e
	}
	l.link(req.GetName()).registered()
	l.log.Info("participant registered", "participant", r.Participant.Name, "endpoints", r.Participant.Endpoints, "kind", r.Participant.Kind)
	return l.participantInfo(r.Participant), nil
}

func (n *Node) describe(ctx context.Context, endpoint string) (*pb.DescribeResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, describeTimeout)
	defer cancel()
	conn, err := n.dial(endpoint)
	if err != nil {
		return nil, err
	}
	defer closeConn(conn)
	return pb.NewParticipantClient(conn).Describe(ctx, &pb.DescribeRequest{})
}

// RemoveParticipant closes a participant to new transactions; it is removed
// when its last branch is settled, or given up by name.
func (s *clusterService) RemoveParticipant(ctx context.Context, req *pb.RemoveParticipantRequest) (*pb.ParticipantInfo, error) {
	if err := fsm.CheckParticipant("name", req.GetName()); err != nil {
		return nil, err
	}
	return route(ctx, s.Node,
		func(l *leader) (*pb.ParticipantInfo, error) { return l.removeParticipant(ctx, req) },
		func(ctx context.Context, c peer) (*pb.ParticipantInfo, error) { return c.RemoveParticipant(ctx, req) })
}

func (l *leader) removeParticipant(ctx context.Context, req *pb.RemoveParticipantRequest) (*pb.ParticipantInfo, error) {
	if err := l.verify(ctx); err != nil {
		return nil, err
	}
	if l.participant(req.GetName()) == nil { // nothing is logged for it
		return nil, rejectionError(&fsm.Rejection{Kind: fsm.KindParticipantUnknown, Detail: req.GetName()}, "")
	}
	r, err := l.node.replica.Propose(ctx, &fsmpb.Command{Kind: &fsmpb.Command_RemoveParticipant{
		RemoveParticipant: &fsmpb.RemoveParticipant{Name: req.GetName()},
	}})
	switch {
	case err != nil:
		return nil, proposeError(err, "")
	case r.Rejection != nil:
		return nil, rejectionError(r.Rejection, "")
	}
	l.log.Warn("participant closed to new transactions", "participant", req.GetName(), "state", r.Participant.State.String(), "operator", req.GetOperator())
	if req.GetGiveUp() {
		if err := l.giveUp(ctx, req.GetName(), req.GetOperator()); err != nil {
			return nil, err
		}
	}
	return l.participantInfo(l.participant(req.GetName())), nil
}

// giveUp waives every decided branch of a participant, and those in one phase. Those that are not
// decided yet end by their own deadline; then it can be called again.
func (l *leader) giveUp(ctx context.Context, name, operator string) error {
	var live []*fsm.Txn
	l.node.replica.View(func(m *fsm.Machine) { live = m.Live() })
	for _, t := range live {
		i := t.BranchOf(name)
		if i >= 0 && t.State.Decided() && !t.Owes(i) {
			l.poke(t.ID) // given up before, by a call whose answer was lost
		}
		if i < 0 || !t.Owes(i) && !t.OnePhase { // in one phase there is no deadline that ends it alone
			continue
		}
		_, err := l.resolveRecord(ctx, &pb.ResolveRequest{Id: t.ID, GiveUp: []string{name}, Operator: operator}, t)
		if err != nil && rpc.ReasonOf(err) != rpc.ReasonConflictingState { // it was settled meanwhile
			return err
		}
	}
	return nil
}

// Announce logs the addresses of another node, so that clients can be shown them.
func (s *clusterService) Announce(ctx context.Context, req *pb.AnnounceRequest) (*pb.AnnounceResponse, error) {
	l := s.leader.Load()
	switch {
	case l == nil:
		return nil, s.notLeader()
	case req.GetClusterId() != l.clusterID:
		return nil, rpc.Errorf(rpc.ReasonWrongCluster, "this is cluster %s", l.clusterID)
	case !s.isMember(req.GetNode().GetId()):
		return nil, rpc.FieldErrorf("node.id", "a node of this cluster", "%q", req.GetNode().GetId())
	}
	r, err := s.replica.Propose(ctx, &fsmpb.Command{Kind: &fsmpb.Command_AnnounceNode{AnnounceNode: &fsmpb.AnnounceNode{
		Node: &fsmpb.NodeAddress{
			Id: req.GetNode().GetId(), RpcAddress: req.GetNode().GetRpcAddress(), HttpAddress: req.GetNode().GetHttpAddress(),
		},
	}}})
	switch {
	case err != nil:
		return nil, proposeError(err, "")
	case r.Rejection != nil:
		return nil, rejectionError(r.Rejection, "")
	}
	return &pb.AnnounceResponse{}, nil
}

func (n *Node) isMember(id string) bool {
	st := n.replica.Status()
	return slices.ContainsFunc(append(st.Voters, st.Nonvoters...), func(p cluster.Peer) bool { return p.ID == id })
}
