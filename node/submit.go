package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/concordat-tx/concordat/cluster"
	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/fsm/mutant"
	"github.com/concordat-tx/concordat/node/drive"
	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/kvop"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// kindKV is what embedded KV participants register as.
const kindKV = "kv"

// answerMargin is how long before a call's deadline a wait for COMPLETED ends
// with what is known, so that the answer still arrives.
const answerMargin = 100 * time.Millisecond

// Submit runs a transaction, here or at the leader.
func (s *coordinator) Submit(ctx context.Context, req *pb.SubmitRequest) (*pb.TransactionResponse, error) {
	if err := s.checkSubmit(req); err != nil {
		return nil, err
	}
	if req.GetId() == "" {
		req.Id = uuid.Must(uuid.NewV7()).String()
	}
	return route(ctx, s.Node,
		func(l *leader) (*pb.TransactionResponse, error) { return l.submit(ctx, req) },
		func(ctx context.Context, c peer) (*pb.TransactionResponse, error) { return c.Submit(ctx, req) })
}

// checkSubmit refuses what is out of bounds before anything is done.
func (n *Node) checkSubmit(req *pb.SubmitRequest) error {
	if req.GetId() != "" {
		if err := fsm.CheckID("id", req.GetId()); err != nil {
			return err
		}
	}
	if req.GetRetryOf() != "" {
		if err := fsm.CheckID("retry_of", req.GetRetryOf()); err != nil {
			return err
		}
	}
	if _, ok := pb.Wait_name[int32(req.GetWait())]; !ok {
		return rpc.FieldErrorf("wait", "DECIDED or COMPLETED", "%d", req.GetWait())
	}
	if t := req.GetTimeout(); t != nil {
		d := t.AsDuration()
		if !t.IsValid() || d < fsm.MinTimeout || d > fsm.MaxTimeout {
			return rpc.FieldErrorf("timeout", fmt.Sprintf("%s to %s", fsm.MinTimeout, fsm.MaxTimeout), "%s", d)
		}
	}
	lim := n.cfg.Limits
	if k := len(req.GetBranches()); k == 0 || k > lim.Branches {
		return rpc.FieldErrorf("branches", fmt.Sprintf("1 to %d", lim.Branches), "%d", k)
	}
	seen, total := make(map[string]int, len(req.GetBranches())), 0
	for i, b := range req.GetBranches() {
		field := fmt.Sprintf("branches[%d].participant", i)
		if err := fsm.CheckParticipant(field, b.GetParticipant()); err != nil {
			return err
		}
		if j, twice := seen[b.GetParticipant()]; twice {
			return rpc.FieldErrorf(field, "each participant once", "%q again, as in branches[%d]", b.GetParticipant(), j)
		}
		seen[b.GetParticipant()] = i
		if k := len(b.GetPayload()); k > lim.PayloadBytes {
			return rpc.FieldErrorf(fmt.Sprintf("branches[%d].payload", i), fmt.Sprintf("at most %d bytes", lim.PayloadBytes), "%d bytes", k)
		}
		total += len(b.GetPayload())
	}
	if total > lim.TransactionBytes {
		return rpc.FieldErrorf("branches", fmt.Sprintf("payloads of at most %d bytes together", lim.TransactionBytes), "%d bytes", total)
	}
	return nil
}

// submit begins the transaction, or attaches to the one of that id.
func (l *leader) submit(ctx context.Context, req *pb.SubmitRequest) (*pb.TransactionResponse, error) {
	if err := l.checkPayloads(req.GetBranches()); err != nil {
		return nil, err
	}
	content, digests := drive.ContentDigest(req.GetBranches())
	f, rec, attached, err := l.lookUp(req, content)
	if err != nil {
		return nil, err
	}
	if f != nil && !attached {
		f.begin(req, digests)
	}
	if f == nil { // finished before: the answer rests on the state, so leadership is verified
		if err := l.verify(ctx); err != nil {
			return nil, err
		}
		if !rec.Refused && rec.Digest() != content {
			return nil, idReused(req.GetId())
		}
		return l.node.respond(rec, nil), nil
	}
	resp, err := l.await(ctx, f, req.GetWait())
	if err == nil && attached {
		// A leader that was paused may hold the flight of an id's first life when
		// another leader has long begun the second (P10).
		err = l.verify(ctx)
	}
	if err != nil {
		return nil, err
	}
	return resp, nil
}

// checkPayloads refuses payloads that the embedded KV cannot understand before
// anything is logged; other kinds of participants vote on theirs.
func (l *leader) checkPayloads(branches []*pb.Branch) error {
	embedded := make([]bool, len(branches))
	l.node.replica.View(func(m *fsm.Machine) {
		for i, b := range branches {
			p := m.Participant(b.GetParticipant())
			embedded[i] = p != nil && p.Kind == kindKV
		}
	})
	for i, b := range branches {
		if !embedded[i] {
			continue
		}
		if _, err := kvop.Parse(b.GetPayload()); err != nil {
			return within(fmt.Sprintf("branches[%d].payload", i), err)
		}
	}
	return nil
}

// lookUp finds the flight or record of the id, or makes a new flight, to be begun. The id
// is looked up before any admission limit (P10).
func (l *leader) lookUp(req *pb.SubmitRequest, content fsm.Digest) (f *flight, rec *fsm.Txn, attached bool, err error) {
	id := req.GetId()
	var participants = make([]*fsm.Participant, len(req.GetBranches()))
	var forgotten uint64
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, nil, false, l.node.notLeader()
	}
	if f := l.flights[id]; f != nil {
		if f.digest != content {
			return nil, nil, false, idReused(id)
		}
		return f, nil, true, nil
	}
	// Under the lock: a flight leaves the map only after its record is finished.
	l.node.replica.View(func(m *fsm.Machine) {
		rec = m.Txn(id)
		forgotten = m.ForgottenFinish()
		for i, b := range req.GetBranches() {
			participants[i] = m.Participant(b.GetParticipant())
		}
	})
	if rec != nil {
		return nil, rec, false, nil
	}
	if req.Since != nil && req.GetSince() < forgotten {
		return nil, nil, false, expired(id)
	}
	bytes, err := l.admit(req, participants)
	if err != nil {
		return nil, nil, false, err
	}
	f = newFlight(l, id, content, len(req.GetBranches()), bytes)
	f.attempt = l.attempts.Make()
	f.onePhase = l.inOnePhase(participants)
	names := make([]string, len(req.GetBranches()))
	for i, b := range req.GetBranches() {
		names[i] = b.GetParticipant()
	}
	l.addLocked(f, names)
	return f, nil, false, nil
}

// admit applies the limits (called with l.mu held, so it must not call out).
func (l *leader) admit(req *pb.SubmitRequest, participants []*fsm.Participant) (bytes int, err error) {
	for i, b := range req.GetBranches() {
		field := fmt.Sprintf("branches[%d]", i)
		p := participants[i]
		if err := openFor(p, b.GetParticipant(), field); err != nil {
			return 0, err
		}
		if err := l.admitAt(b.GetParticipant()); err != nil {
			return 0, err
		}
		bytes += len(b.GetPayload())
	}
	lim := l.node.cfg.Limits
	if len(l.flights) >= lim.InFlight || l.bytes+bytes > lim.InFlightBytes {
		l.node.metrics.rejected.WithLabelValues("load").Inc()
		return 0, overloaded(fmt.Sprintf("%d transactions with %d bytes are in flight (limits %d and %d)", len(l.flights), l.bytes, lim.InFlight, lim.InFlightBytes))
	}
	if active := len(l.flights) - int(l.waiting.Load()); active >= lim.Active {
		l.node.metrics.rejected.WithLabelValues("load").Inc()
		return 0, overloaded(fmt.Sprintf("%d transactions are being worked on (limit %d)", active, lim.Active))
	}
	if l.node.diskLow.Load() {
		l.node.metrics.rejected.WithLabelValues("disk").Inc()
		return 0, rpc.Errorf(rpc.ReasonDiskReserve, "the disk of node %s is nearly full: no new transactions until there is room; running ones go on", l.node.cfg.Cluster.NodeID)
	}
	return bytes, nil
}

// admitAt applies one participant's limits, so that it stops nobody else.
func (l *leader) admitAt(name string) error {
	k, lim := l.links[name], l.node.cfg.Limits
	if k == nil {
		return nil
	}
	active, stuck := k.active.Load(), k.stuck.Load()
	if stuck >= int64(lim.Undelivered) {
		l.node.metrics.rejected.WithLabelValues("participant").Inc()
		e := rpc.Errorf(rpc.ReasonParticipantUnavailable,
			"participant %s does not answer and %d of its branches wait for it already; start it again or give them up", name, stuck)
		e.Participant, e.RetryAfter = name, time.Second
		return e
	}
	if active >= int64(lim.ActiveAtOne) {
		l.node.metrics.rejected.WithLabelValues("load").Inc()
		e := overloaded(fmt.Sprintf("participant %s has %d branches to work on (limit %d)", name, active, lim.ActiveAtOne))
		e.Participant = name
		return e
	}
	return nil
}

func openFor(p *fsm.Participant, name, field string) error {
	var e *rpc.Error
	switch {
	case p == nil:
		e = rpc.Errorf(rpc.ReasonParticipantUnknown, "%s: participant %q is not registered; add it with 'concordat participants add'", field, name)
	case p.Open():
		return nil
	default:
		e = rpc.Errorf(rpc.ReasonParticipantDraining, "%s: participant %s is %s and takes no new transactions", field, name, p.State)
	}
	e.Participant, e.Field = name, field
	return e
}

// within prefixes the field of a payload's error with where the payload stands.
func within(field string, err error) error {
	if fe := (*fsm.FieldError)(nil); errors.As(err, &fe) {
		if fe.Field == kvop.Whole {
			return &fsm.FieldError{Field: field, Limit: fe.Limit, Got: fe.Got}
		}
		return &fsm.FieldError{Field: field + "." + fe.Field, Limit: fe.Limit, Got: fe.Got}
	}
	return rpc.FieldErrorf(field, "a payload of the embedded KV", "%v", err)
}

// await waits for the decision or, if asked, for every branch. A caller that
// goes away changes nothing: the transaction goes on without it (P11).
func (l *leader) await(ctx context.Context, f *flight, wait pb.Wait) (*pb.TransactionResponse, error) {
	select {
	case <-f.whenDecided():
	case <-ctx.Done():
		f.stopsWaiting(&f.decided)
		e := rpc.Errorf(rpc.ReasonOutcomeUnknown,
			"the call ended before transaction %s was decided; it goes on: submit it again with the same id, or get it, to learn its outcome", f.id)
		e.Txn = f.id
		return nil, e
	}
	if wait == pb.Wait_COMPLETED {
		if _, _, err := f.state(); err == nil {
			awaitCompleted(ctx, f)
		}
	}
	rec, results, err := f.state()
	if err != nil && mutant.On("unknown-is-abort") && rec != nil {
		lost := *rec
		lost.State = fsm.Aborted
		return l.node.respond(&lost, nil), nil
	}
	if err != nil {
		return nil, err
	}
	return l.node.respond(rec, results), nil
}

// awaitCompleted ends early, with the decision in hand, shortly before the call's deadline.
func awaitCompleted(ctx context.Context, f *flight) {
	early := make(<-chan time.Time)
	if deadline, ok := ctx.Deadline(); ok {
		left := time.Until(deadline)
		t := time.NewTimer(left - min(answerMargin, left/4))
		defer t.Stop()
		early = t.C
	}
	select {
	case <-f.whenCompleted():
		return
	case <-early:
	case <-ctx.Done():
	case <-f.l.ctx.Done():
	}
	f.stopsWaiting(&f.completed)
}

func (n *Node) respond(rec *fsm.Txn, results [][]byte) *pb.TransactionResponse {
	var index uint64
	n.replica.View(func(m *fsm.Machine) { index = m.Index() })
	return response(rec, results, index, n.cfg.Cluster.NodeID)
}

func idReused(id string) error {
	e := rpc.Errorf(rpc.ReasonIDReused, "id %s belongs to a transaction with other content; use a new id", id)
	e.Txn = id
	return e
}

func expired(id string) error {
	e := rpc.Errorf(rpc.ReasonExpired, "nothing is known of id %s any more, and it may have run since its first try: look at the data before you submit it under a new id", id)
	e.Txn = id
	return e
}

func overloaded(what string) *rpc.Error {
	e := rpc.Errorf(rpc.ReasonOverloaded, "%s; try again later", what)
	e.RetryAfter = 250 * time.Millisecond
	return e
}

// notProposed is the answer where no log holds the command: nothing happened.
func notProposed(err error) error {
	switch {
	case errors.Is(err, cluster.ErrQueueFull):
		return overloaded("the log's queue is full")
	case errors.Is(err, cluster.ErrTooLarge), errors.Is(err, cluster.ErrUnencodable):
		return rpc.Errorf(rpc.ReasonInvalidArgument, "the log cannot take this request: %w", err)
	}
	return rpc.Errorf(rpc.ReasonNotLeader, "this node does not lead: %w", err)
}

// rejectionError is the wire's word for what the state machine refused.
func rejectionError(r *fsm.Rejection, id string) error {
	reason := rpc.ReasonConflictingState
	switch r.Kind {
	case fsm.KindExpired:
		return expired(id)
	case fsm.KindNotFound:
		reason = rpc.ReasonNotFound
	case fsm.KindNotDecided:
		reason = rpc.ReasonNotDecided
	case fsm.KindParticipantUnknown:
		reason = rpc.ReasonParticipantUnknown
	case fsm.KindParticipantClosed:
		reason = rpc.ReasonParticipantDraining
	case fsm.KindIncarnation:
		reason = rpc.ReasonWrongIncarnation
	case fsm.KindWrongTerm, fsm.KindAttemptBegun, fsm.KindExists:
		reason = rpc.ReasonNotReady // a leadership that changed meanwhile: try again
	case fsm.KindMalformed:
		reason = rpc.ReasonInvalidArgument
	default:
	}
	e := rpc.Errorf(reason, "%w", r)
	e.Txn = id
	return e
}
