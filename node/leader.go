package node

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/concordat-tx/concordat/cluster"
	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/fsm/fsmpb"
	"github.com/concordat-tx/concordat/node/drive"
	"github.com/concordat-tx/concordat/rpc"
)

// leader is one leadership of this node: everything that ends with it.
type leader struct {
	node       *Node
	log        hclog.Logger
	ctx        context.Context
	term       uint64
	clusterID  string
	generation uint32
	start      time.Time
	attempts   *drive.Attempts
	// participant looks into the registry.
	participant func(name string) *fsm.Participant
	// driveConfig is shared by all drivers.
	driveConfig drive.Config

	// wg joins every goroutine of the leadership.
	wg sync.WaitGroup
	// running is where flights are run, alarms is what wakes them.
	running gate
	alarms  alarms

	// waiting counts the flights that wait for a participant that does not answer.
	waiting atomic.Int64

	// votes is how long participants took to vote for a commit.
	votes pace

	// alerts are those that a leader judges.
	alerts *clusterAlerts

	mu      sync.Mutex
	flights map[string]*flight
	bytes   int // payload in flight
	links   map[string]*link
	closed  bool
}

// RunLeadership calls this for each leadership, past its barrier, and waits
// for it to return before the next may start.
func (n *Node) lead(ctx context.Context, won cluster.Leadership) {
	l := n.newLeader(ctx, won)
	l.log.Info("leading", "term", l.term, "index", won.Index)
	resumed := l.resume()
	n.leader.Store(l)
	n.metrics.established()
	n.health.leading(true)
	l.wg.Go(func() { l.startResumed(resumed) })
	l.housekeep()
	n.health.leading(false)
	n.leader.Store(nil)
	l.close()
	n.metrics.deposed()
	l.log.Info("no longer leading", "term", l.term)
}

func (n *Node) newLeader(ctx context.Context, won cluster.Leadership) *leader {
	l := &leader{
		node: n, log: n.log, ctx: ctx, term: won.Term, start: time.Now(),
		flights: map[string]*flight{}, links: map[string]*link{},
		driveConfig: drive.Config{RetryMin: n.cfg.RetryMin, RetryMax: n.cfg.RetryMax, Jitter: jitter},
	}
	n.replica.View(func(m *fsm.Machine) { l.clusterID, l.generation = m.ClusterID(), m.Generation() })
	l.participant = n.registered
	l.alerts = newClusterAlerts(l)
	return l
}

// registered is the registry's record of a participant, or nil.
func (n *Node) registered(name string) (p *fsm.Participant) {
	n.replica.View(func(m *fsm.Machine) { p = m.Participant(name) })
	return p
}

// jitter spreads a delay over its upper half.
func jitter(d time.Duration) time.Duration {
	return d/2 + rand.N(d/2+1)
}

// addLocked enters a flight with branches at the named participants; the
// caller holds the lock and has checked that the id is free.
func (l *leader) addLocked(f *flight, participants []string) {
	l.flights[f.id] = f
	l.bytes += f.bytes
	for i, name := range participants {
		f.legs[i].link = l.linkLocked(name)
		f.legs[i].active.Add(1)
	}
}

// remove takes a flight out that has ended.
func (l *leader) remove(f *flight) {
	l.mu.Lock()
	delete(l.flights, f.id)
	l.bytes -= f.bytes
	l.mu.Unlock()
	for i := range f.legs { // it does not wait any more
		f.legs[i].active.Add(-1)
	}
	if f.resumed && l.ctx.Err() == nil {
		l.node.metrics.resumedSettled(time.Since(l.start))
	}
}

// grow counts what a vote brought along among the bytes in flight.
func (l *leader) grow(f *flight, bytes int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f.bytes += bytes
	l.bytes += bytes
}

func (l *leader) flight(id string) *flight {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.flights[id]
}

// snapshotFlights lists the flights as they stand.
func (l *leader) snapshotFlights() []*flight {
	l.mu.Lock()
	defer l.mu.Unlock()
	list := make([]*flight, 0, len(l.flights))
	for _, f := range l.flights {
		list = append(list, f)
	}
	return list
}

// now is the leadership's monotonic clock; never 0, which means "not planned".
func (l *leader) now() time.Duration { return time.Since(l.start) + 1 }

// link is the way to a participant, made on first use.
func (l *leader) link(name string) *link {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.linkLocked(name)
}

func (l *leader) linkLocked(name string) *link {
	if k := l.links[name]; k != nil {
		return k
	}
	k := newLink(name, l.node.dial, l.endpoints, l.log, l.wake)
	k.meters = l.node.metrics.at(name)
	l.links[name] = k
	if l.closed { // somebody looks at a leadership that has ended: nobody will run it
		k.down.Store(true)
		return k
	}
	l.wg.Go(func() { k.run(l.ctx) })
	return k
}

// endpoints are where the registry says that a participant is now.
func (l *leader) endpoints(name string) []string {
	if p := l.participant(name); p != nil {
		return p.Endpoints
	}
	return nil
}

// record is the record of an id as it stands, or nil.
func (l *leader) record(id string) (rec *fsm.Txn) {
	l.node.replica.View(func(m *fsm.Machine) { rec = m.Txn(id) })
	return rec
}

// wake tells the flights of a participant that it answers again.
func (l *leader) wake(name string) {
	for _, f := range l.snapshotFlights() {
		f.tell(event{wake: name})
	}
}

// proposeLazily waits for a command that rides along with the next entry.
func (l *leader) proposeLazily(ctx context.Context, c *fsmpb.Command) (fsm.Result, error) {
	done := make(chan fate, 1)
	l.node.replica.ProposeLazy(c, func(r fsm.Result, err error) { done <- fate{r, err} })
	select {
	case f := <-done:
		return f.r, f.err
	case <-ctx.Done():
		return fsm.Result{}, ctx.Err()
	}
}

// close joins everything. The leadership's context has ended.
func (l *leader) close() {
	l.mu.Lock()
	l.closed = true // no flight is added any more
	l.mu.Unlock()
	flights := l.snapshotFlights()
	for _, f := range flights {
		f.fail(lostLeadership(f.id))
	}
	l.running.close()
	l.alarms.close()
	l.wg.Wait()
	l.node.keepAttempt(l.attempts.Last())
}

// verify confirms that this leadership still stands, for answers that rest on
// what is not in the state (P7).
func (l *leader) verify(ctx context.Context) error {
	if err := l.node.replica.VerifyLeader(ctx); err != nil {
		return l.node.notLeader()
	}
	if l.ctx.Err() != nil {
		return l.node.notLeader()
	}
	return nil
}

func (l *leader) logFailure(f *flight, ev event) {
	id, name := f.id, f.d.Record().Branches[ev.branch].Participant
	f.legs[ev.branch].meters.retries[ev.op].Inc()
	if f.d.Failing(ev.branch) == 0 { // the first of a row; the rest is in the metric and the alert
		l.log.Debug("a call failed; it is repeated", "txn", id, "participant", name, "op", opName(ev.op),
			"reason", string(rpc.ReasonOf(ev.err)), "error", ev.err)
	}
}

func opName(op drive.Op) string {
	switch op {
	case drive.Prepare:
		return "prepare"
	case drive.Commit:
		return "commit"
	case drive.Rollback:
		return "rollback"
	case drive.CommitOnePhase:
		return "commit_one_phase"
	case drive.Withdraw:
		return "withdraw"
	case drive.Decide, drive.Finish, drive.Decided, drive.Completed:
	}
	return "other"
}
