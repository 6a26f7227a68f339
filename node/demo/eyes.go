package demo

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/concordat-tx/concordat/node/local"
	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// eyes look at every process at its own address: no relay is in between, so a
// process that is cut off from the others is seen all the same.
type eyes struct {
	cluster *local.Cluster
	conns   map[string]*rpc.Conn // by process
}

func newEyes(c *local.Cluster) (*eyes, error) {
	e := &eyes{cluster: c, conns: map[string]*rpc.Conn{}}
	addresses := map[string]string{}
	for _, n := range c.Nodes {
		addresses[n.ID] = n.RPC
	}
	for name, p := range c.Participants {
		addresses[name] = p.Endpoint
	}
	for name, address := range addresses {
		conn, err := rpc.Dial(address)
		if err != nil {
			return nil, errors.Join(err, e.close())
		}
		e.conns[name] = conn
	}
	return e, nil
}

func (e *eyes) close() error {
	var errs []error
	for _, c := range e.conns {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

// status is a node's word of itself; nil if it has none to give.
func (e *eyes) status(ctx context.Context, node string) *pb.StatusResponse {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	st, err := pb.NewClusterClient(e.conns[node]).Status(ctx, &pb.StatusRequest{})
	if err != nil {
		return nil
	}
	return st
}

// describe is a participant's word of itself; nil if it has none to give.
func (e *eyes) describe(ctx context.Context, participant string) *pb.DescribeResponse {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	resp, err := pb.NewParticipantClient(e.conns[participant]).Describe(ctx, &pb.DescribeRequest{})
	if err != nil {
		return nil
	}
	return resp
}

// registry is what a node knows of the participants, by name; nil if it does not say.
func (e *eyes) registry(ctx context.Context, node string) map[string]*pb.ParticipantInfo {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	resp, err := pb.NewClusterClient(e.conns[node]).ListParticipants(ctx, &pb.ListParticipantsRequest{})
	if err != nil {
		return nil
	}
	list := map[string]*pb.ParticipantInfo{}
	for _, p := range resp.GetParticipants() {
		list[p.GetName()] = p
	}
	return list
}

// NodeRow is a node as the view shows it.
type NodeRow struct {
	Name  string
	PID   int
	State string // up, killed, paused or cut off
	// Known: it has said what follows. Lag is behind the highest index that any node has applied.
	Known, Leads bool
	Role         string
	Term         uint64
	Applied, Lag uint64
}

// PartyRow is a participant as the view shows it.
type PartyRow struct {
	Name  string
	PID   int
	State string
	// Known: it has said what it has prepared, and how old the oldest branch is.
	Known    bool
	Prepared uint32
	Oldest   time.Duration
	// Told: the leader has said whether it reaches it and what it owes it.
	Told, Reachable bool
	Owed            uint32
}

// StoreRow is a database as the view shows it.
type StoreRow struct {
	Name, Of string
	PID      int
	State    string
	// Known: it has said how much is prepared there.
	Known    bool
	Prepared int
}

// lookAtStores asks the databases at the same moment.
func (d *Demo) lookAtStores(ctx context.Context) []StoreRow {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	list := make([]StoreRow, len(d.stores))
	var wg sync.WaitGroup
	for i, s := range d.stores {
		list[i] = StoreRow{Name: s.name, Of: s.of(), PID: s.server.PID(), State: d.hand.condition(d.hand.find(s.name))}
		wg.Go(func() {
			if names, err := s.prepared(ctx); err == nil {
				list[i].Known, list[i].Prepared = true, len(names)
			}
		})
	}
	wg.Wait()
	return list
}

// Doubt is what is not settled, by the leader's word; Known says that there is one.
type Doubt struct {
	Known                  bool
	Undecided, Undelivered int
	Oldest                 time.Duration
}

// lookAround asks everybody at the same moment.
func (d *Demo) lookAround(ctx context.Context) (list []NodeRow, parties []PartyRow, doubt Doubt) {
	list, parties = make([]NodeRow, len(d.cluster.Nodes)), make([]PartyRow, len(participants))
	var wg sync.WaitGroup
	for i, n := range d.cluster.Nodes {
		list[i] = NodeRow{Name: n.ID, PID: n.PID(), State: d.hand.condition(d.hand.find(n.ID))}
		wg.Go(func() { list[i].look(d.eyes.status(ctx, n.ID)) })
	}
	for i, name := range participants {
		parties[i] = PartyRow{Name: name, PID: d.cluster.Participants[name].PID(), State: d.hand.condition(d.hand.find(name))}
		wg.Go(func() {
			if resp := d.eyes.describe(ctx, name); resp != nil {
				p := &parties[i]
				p.Known, p.Prepared = true, resp.GetPrepared()
				p.Oldest = time.Duration(resp.GetOldestPreparedSeconds() * float64(time.Second))
			}
		})
	}
	wg.Wait()
	leader := compareNodes(list)
	if leader < 0 {
		return list, parties, doubt
	}
	registry := d.eyes.registry(ctx, list[leader].Name)
	for i := range parties {
		if info := registry[parties[i].Name]; info != nil {
			parties[i].Told, parties[i].Reachable, parties[i].Owed = true, info.GetReachable(), info.GetUnfinished()
		}
	}
	scrape, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	if s, err := d.metrics.read(scrape, d.cluster.Nodes[leader].HTTP); err == nil {
		v, err := s.values("concordat_preparing", "concordat_in_doubt", "concordat_in_doubt_oldest_seconds")
		if err == nil {
			doubt = Doubt{true, int(v[0]), int(v[1]), time.Duration(v[2] * float64(time.Second))}
		}
	}
	return list, parties, doubt
}

func (n *NodeRow) look(st *pb.StatusResponse) {
	if st == nil {
		return
	}
	n.Known, n.Leads = true, st.GetReady()
	n.Role, n.Term, n.Applied = st.GetRole(), st.GetTerm(), st.GetAppliedIndex()
}

// compareNodes computes the lags and returns who leads, by the newest term; -1
// if nobody does. One that is cut off may think so for a moment longer.
func compareNodes(list []NodeRow) int {
	leader, newest := -1, uint64(0)
	for i := range list {
		newest = max(newest, list[i].Applied)
		if list[i].Leads && (leader < 0 || list[i].Term > list[leader].Term) {
			leader = i
		}
	}
	for i := range list {
		list[i].Leads = i == leader
		if list[i].Known {
			list[i].Lag = newest - list[i].Applied
		}
	}
	return leader
}
