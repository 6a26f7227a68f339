package demo

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/concordat-tx/concordat/node/local"
	"github.com/concordat-tx/concordat/rpc/pb"
)

const (
	// lookPause is the pause between two looks at the surviving nodes, and so
	// how exact Detected and Elected are.
	lookPause = 5 * time.Millisecond
	// lookTimeout bounds one node's answer.
	lookTimeout = 250 * time.Millisecond
	// failoverTimeout is when a demo gives up waiting for a new leader, or for
	// what it took over to settle. A healthy failover takes well under a second.
	failoverTimeout = 30 * time.Second
	// downtime is how long a killed process stays down, at most; watchedDowntime
	// where somebody watches it.
	downtime        = 3 * time.Second
	watchedDowntime = 5 * time.Second
)

// Failover is one kill of the leader and what followed. Times are counted from
// the kill; a nil one did not happen.
type Failover struct {
	Killed string `json:"killed"`
	PID    int    `json:"pid"`
	Term   uint64 `json:"term"`

	// LastCommit is the last answer COMMIT before the kill.
	LastCommit        *Millis `json:"last_commit_before_ms"`
	LastCommitBooking string  `json:"last_commit_before_booking"`
	// Detected is when a survivor first said that it knows no leader, Elected when
	// one first said that it leads: both as seen by asking every 5 ms.
	Detected *Millis `json:"detected_ms"`
	Elected  *Millis `json:"elected_ms"`
	Leader   string  `json:"new_leader"`
	NewTerm  uint64  `json:"new_term"`
	// Ready is the new leader's own time stamp.
	Ready *Millis `json:"ready_ms"`
	// FirstCommit is the first answer COMMIT to a booking made after the kill.
	FirstCommit        *Millis `json:"first_commit_after_ms"`
	FirstCommitBooking string  `json:"first_commit_after_booking"`
	FirstCommitNode    string  `json:"first_commit_after_node"`

	// Resumed transactions were unfinished when the new leader took over; Open
	// of them still are. Settled is how long the last took, from its taking over.
	Resumed int     `json:"resumed"`
	Open    int     `json:"resumed_open"`
	Settled *Millis `json:"resumed_settled_ms"`

	// UnderWay bookings had been made and not answered at the kill. So many of
	// them committed, or were aborted by a condition of their own or a conflict.
	UnderWay          int `json:"under_way"`
	UnderWayCommitted int `json:"under_way_committed"`
	UnderWayRefused   int `json:"under_way_aborted_by_condition_or_conflict"`
	// Aborted bookings since the kill have a reason that is neither a condition of theirs nor a conflict.
	Aborted        int      `json:"aborted"`
	AbortedReasons []string `json:"aborted_reasons,omitempty"`
	// Unknown bookings since the kill were settled by id: to commit, to abort, or not.
	Unknown        int `json:"unknown"`
	UnknownCommit  int `json:"unknown_settled_commit"`
	UnknownAbort   int `json:"unknown_settled_abort"`
	UnknownForEver int `json:"unknown_not_settled"`

	// Back is when the killed node, started again, had caught up.
	Back *Millis `json:"back_ms"`

	at time.Time
	// mark is how many bookings were answered at the kill.
	mark int
}

// Millis is a duration in milliseconds.
type Millis float64

func millis(d time.Duration) *Millis {
	m := Millis(float64(d.Microseconds()) / 1000)
	return &m
}

func (f *Failover) since(t time.Time) *Millis { return millis(t.Sub(f.at)) }

// takeover watches another node take over from a leader that was killed.
func (d *Demo) takeover(ctx context.Context, f *Failover, changed func()) error {
	if err := d.watchElection(ctx, f, changed); err != nil {
		return fmt.Errorf("no new leader after the kill of %s: %w", f.Killed, err)
	}
	if err := d.watchResumed(ctx, f, changed); err != nil {
		return fmt.Errorf("what %s left behind: %w", f.Killed, err)
	}
	return nil
}

// watchElection asks the survivors until one of them leads and is ready.
func (d *Demo) watchElection(ctx context.Context, f *Failover, changed func()) error {
	for !d.follow(ctx, f, changed) {
		if err := wait(ctx, lookPause); err != nil {
			return err
		}
	}
	return nil
}

// follow asks every node once who leads and reports whether the newest leader is ready.
func (d *Demo) follow(ctx context.Context, f *Failover, changed func()) (ready bool) {
	defer changed()
	for _, n := range d.cluster.Nodes {
		if d.hand.isPaused(n.ID) { // it would take all the time there is, and say nothing
			continue
		}
		st := d.look(ctx, n)
		if st == nil {
			continue
		}
		if f.Detected == nil && st.GetLeader() == "" {
			f.Detected = f.since(time.Now())
			d.screen.event("", "%s has lost its leader", n.ID)
		}
		if st.GetRole() != "Leader" || st.GetTerm() <= f.Term || st.GetTerm() < f.NewTerm {
			continue
		}
		if st.GetTerm() > f.NewTerm {
			f.Leader, f.NewTerm = n.ID, st.GetTerm()
			if f.Elected == nil {
				f.Elected = f.since(time.Now())
			}
			d.screen.event("", "%s is elected in term %d", n.ID, st.GetTerm())
		}
		ready = st.GetReady()
	}
	return ready
}

// look is a node's status, nil if it has none to give.
func (d *Demo) look(ctx context.Context, n *local.Node) *pb.StatusResponse {
	if !n.Running() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	st, err := d.client.Status(ctx, n.RPC)
	if err != nil {
		return nil
	}
	return st
}

// watchResumed reads the new leader's metrics until all that it took over is
// finished. Should yet another leader take over, its figures count.
func (d *Demo) watchResumed(ctx context.Context, f *Failover, changed func()) error {
	for {
		if err := d.readResumed(ctx, f); err != nil && ctx.Err() != nil {
			return err
		}
		changed()
		if f.Ready != nil && f.Open == 0 {
			d.screen.event("", "%s serves; %s settled", f.Leader,
				counted(f.Resumed, "transaction was taken over and is", "transactions were taken over and are"))
			return nil
		}
		if err := wait(ctx, 10*lookPause); err != nil {
			return fmt.Errorf("%s took over %d transactions, %d are not finished: %w", f.Leader, f.Resumed, f.Open, err)
		}
		d.follow(ctx, f, changed)
	}
}

func (d *Demo) readResumed(ctx context.Context, f *Failover) error {
	i := slices.IndexFunc(d.cluster.Nodes, func(n *local.Node) bool { return n.ID == f.Leader })
	s, err := d.metrics.read(ctx, d.cluster.Nodes[i].HTTP)
	if err != nil {
		return err
	}
	return f.readLeader(s)
}

// readLeader takes the figures of a leadership that began after the kill.
func (f *Failover) readLeader(s samples) error {
	v, err := s.values("concordat_leader_established_timestamp_seconds", "concordat_resumed_transactions",
		"concordat_resumed_transactions_open", "concordat_resumed_settled_seconds")
	if err != nil {
		return err
	}
	ready := time.Unix(0, int64(v[0]*1e9))
	if ready.Before(f.at) {
		return nil // of an earlier leadership: the new one is not established yet
	}
	f.Ready = f.since(ready)
	if f.Elected != nil && *f.Elected > *f.Ready {
		f.Elected = f.Ready // seen late: it was elected by then
	}
	f.Resumed, f.Open = int(v[1]), int(v[2])
	f.Settled = nil
	if f.Resumed > 0 && f.Open == 0 {
		f.Settled = millis(time.Duration(v[3] * float64(time.Second)))
	}
	return nil
}

// caughtUp waits until a node has applied what the leader had committed.
func (d *Demo) caughtUp(ctx context.Context, n *local.Node) error {
	var target uint64
	for {
		if target == 0 {
			if st, err := d.client.Status(ctx, ""); err == nil && st.GetReady() {
				target = st.GetAppliedIndex()
			}
		}
		if st := d.look(ctx, n); st != nil && target > 0 && st.GetAppliedIndex() >= target {
			return nil
		}
		if !n.Running() {
			return fmt.Errorf("it ended; %s says why", n.Log)
		}
		if err := wait(ctx, 4*lookPause); err != nil {
			return err
		}
	}
}

// wait pauses, or returns why there is nothing to wait for.
func wait(ctx context.Context, pause time.Duration) error {
	t := time.NewTimer(pause)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// account fills in what the clients were told; until is when the next kill was.
func (f *Failover) account(entries []entry, until time.Time) {
	var last, first *entry
	for i := range entries {
		e := &entries[i]
		if e.committed() {
			if e.ended.Before(f.at) && (last == nil || e.ended.After(last.ended)) {
				last = e
			}
			if e.began.After(f.at) && (first == nil || e.ended.Before(first.ended)) {
				first = e
			}
		}
		if e.began.Before(f.at) && e.ended.After(f.at) {
			f.UnderWay++
			switch {
			case e.committed():
				f.UnderWayCommitted++
			case e.outcome == pb.Outcome_ABORT && !e.blamed():
				f.UnderWayRefused++
			}
		}
		if e.ended.After(f.at) && e.ended.Before(until) {
			f.count(e)
		}
	}
	if last != nil {
		f.LastCommit, f.LastCommitBooking = f.since(last.ended), last.ID
	}
	if first != nil {
		f.FirstCommit, f.FirstCommitBooking, f.FirstCommitNode = f.since(first.ended), first.ID, first.node
	}
}

func (f *Failover) count(e *entry) {
	if e.blamed() {
		f.Aborted++
		f.AbortedReasons = append(f.AbortedReasons, e.ID+": "+e.reason.GetCode().String()+" "+e.reason.GetMessage())
	}
	if e.unknown {
		f.Unknown++
		switch e.outcome {
		case pb.Outcome_COMMIT:
			f.UnknownCommit++
		case pb.Outcome_ABORT:
			f.UnknownAbort++
		default:
			f.UnknownForEver++
		}
	}
}

// problems is what was not as it must be.
func (f *Failover) problems() []string {
	var list []string
	add := func(format string, args ...any) { list = append(list, fmt.Sprintf(format, args...)) }
	if f.FirstCommit == nil {
		add("no booking made after the kill of %s was committed", f.Killed)
	}
	if f.Open > 0 {
		add("%d transactions that %s took over are not finished", f.Open, f.Leader)
	}
	if f.Aborted > 0 {
		add("%d bookings aborted after the kill of %s, neither by a condition nor by a conflict: %s",
			f.Aborted, f.Killed, some(f.AbortedReasons))
	}
	return list
}
