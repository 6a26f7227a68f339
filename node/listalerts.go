package node

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/metadata"

	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/rpc/alerting"
	"github.com/concordat-tx/concordat/rpc/pb"
)

const (
	// gatherTimeout bounds the wait for nodes and participants that are asked for their alerts.
	gatherTimeout = time.Second
	// maxGathering bounds the questions that are out at one moment.
	maxGathering = 128
	// maxForeignAlerts is how many alerts of a participant are shown.
	maxForeignAlerts = 32
)

// ListAlerts shows what an operator must know of now.
func (s *clusterService) ListAlerts(ctx context.Context, req *pb.ListAlertsRequest) (*pb.ListAlertsResponse, error) {
	if req.GetLocal() {
		return &pb.ListAlertsResponse{Alerts: alertProtos(s.alerts.own.Show())}, nil
	}
	return route(ctx, s.Node,
		func(l *leader) (*pb.ListAlertsResponse, error) {
			if err := l.verify(ctx); err != nil {
				return nil, err
			}
			return l.gatherAlerts(ctx), nil
		},
		func(ctx context.Context, c peer) (*pb.ListAlertsResponse, error) { return c.ListAlerts(ctx, req) })
}

func alertProtos(items []alerting.Item) []*pb.Alert {
	list := make([]*pb.Alert, 0, len(items))
	for _, i := range items {
		list = append(list, i.Proto())
	}
	return list
}

// gathering collects answers.
type gathering struct {
	mu  sync.Mutex // guards out
	out pb.ListAlertsResponse
}

// take notes what a source answered.
func (g *gathering) take(source string, alerts []*pb.Alert, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if err != nil {
		g.out.Silent = append(g.out.Silent, source)
		return
	}
	g.out.Alerts = append(g.out.Alerts, alerts...)
}

// gatherAlerts asks every other node and every participant at once.
func (l *leader) gatherAlerts(ctx context.Context) *pb.ListAlertsResponse {
	ctx, cancel := context.WithTimeout(ctx, gatherTimeout)
	defer cancel()
	var participants []*fsm.Participant
	l.node.replica.View(func(m *fsm.Machine) { participants = m.Participants() })
	g := &gathering{}
	g.take("", alertProtos(l.alerts.List()), nil)
	g.take("", alertProtos(l.node.alerts.own.Show()), nil)
	var all sync.WaitGroup
	turns := make(chan struct{}, maxGathering)
	ask := func(source string, question func(context.Context) ([]*pb.Alert, error)) {
		all.Go(func() {
			select {
			case turns <- struct{}{}:
				defer func() { <-turns }()
			case <-ctx.Done():
				g.take(source, nil, ctx.Err())
				return
			}
			alerts, err := question(ctx)
			g.take(source, alerts, err)
		})
	}
	st := l.node.replica.Status()
	for _, p := range append(st.Voters, st.Nonvoters...) {
		if p.ID != l.node.cfg.Cluster.NodeID {
			ask(alerting.NodeSource(p.ID), func(ctx context.Context) ([]*pb.Alert, error) { return l.node.alertsOfNode(ctx, p.ID) })
		}
	}
	for _, p := range participants {
		if p.State != fsm.ParticipantRemoved {
			ask(alerting.ParticipantSource(p.Name), func(ctx context.Context) ([]*pb.Alert, error) { return l.node.alertsOf(ctx, p) })
		}
	}
	all.Wait()
	slices.SortFunc(g.out.GetAlerts(), func(a, b *pb.Alert) int {
		return strings.Compare(a.GetSource()+" "+a.GetName()+" "+a.GetParticipant(), b.GetSource()+" "+b.GetName()+" "+b.GetParticipant())
	})
	slices.Sort(g.out.GetSilent())
	return &g.out
}

func (n *Node) alertsOfNode(ctx context.Context, id string) ([]*pb.Alert, error) {
	address := n.addressOf(id)
	if address == "" {
		return nil, n.notLeader() // it has not announced itself: nobody can ask it
	}
	conn, err := n.peers.get(address)
	if err != nil {
		return nil, err
	}
	resp, err := pb.NewClusterClient(conn).ListAlerts(metadata.AppendToOutgoingContext(ctx, hopKey, "1"), &pb.ListAlertsRequest{Local: true})
	return resp.GetAlerts(), err
}

// alertsOf asks the endpoints of a participant. Each is a process with alerts
// of its own; of one kind, the largest is shown. One answer is enough.
func (n *Node) alertsOf(ctx context.Context, p *fsm.Participant) ([]*pb.Alert, error) {
	answers := make([][]*pb.Alert, len(p.Endpoints))
	errs := make([]error, len(p.Endpoints))
	var all sync.WaitGroup
	for i, endpoint := range p.Endpoints {
		all.Go(func() {
			d, err := n.describe(ctx, endpoint)
			answers[i], errs[i] = d.GetAlerts(), err
		})
	}
	all.Wait()
	if !slices.Contains(errs, nil) {
		if len(errs) == 0 {
			return nil, context.DeadlineExceeded
		}
		return nil, errs[0]
	}
	byKind := map[string]*pb.Alert{}
	for _, alerts := range answers {
		for _, a := range alerts[:min(len(alerts), maxForeignAlerts)] {
			if old := byKind[a.GetName()]; old == nil || old.GetCount() < a.GetCount() {
				byKind[a.GetName()] = foreign(a, p.Name)
			}
		}
	}
	list := make([]*pb.Alert, 0, len(byKind))
	for _, a := range byKind {
		list = append(list, a)
	}
	return list, nil
}

// foreign is what a participant says of itself, within limits: whoever wrote
// it, it speaks for nobody else.
func foreign(a *pb.Alert, participant string) *pb.Alert {
	out := &pb.Alert{
		Name: alerting.Bounded(a.GetName()), Severity: a.GetSeverity(), Source: alerting.ParticipantSource(participant), Participant: participant,
		StartsAt: a.GetStartsAt(), EndsAt: a.GetEndsAt(), Summary: alerting.Bounded(a.GetSummary()), Action: alerting.Bounded(a.GetAction()),
		Count: a.GetCount(), Retries: a.GetRetries(), Notified: a.GetNotified(),
	}
	for _, id := range a.GetTransactions()[:min(len(a.GetTransactions()), alerting.MaxTransactions)] {
		out.Transactions = append(out.Transactions, alerting.Bounded(id))
	}
	return out
}
