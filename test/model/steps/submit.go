package steps

import (
	"slices"

	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/fsm/fsmpb"
	"github.com/concordat-tx/concordat/node/drive"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// failure is an answer that tells no outcome.
type failure uint8

const (
	errNotLeader failure = iota + 1
	errLost              // unknown (P10)
	errNotReady
	errExpired
	errReused
	errRefused
	errOverloaded
	errUnreachable
)

var failureNames = [...]string{"", "not leader", "outcome unknown", "not ready", "expired", "id reused", "refused", "overloaded", "unreachable"}

func (f failure) String() string { return failureNames[f] }

// request is one call of a client: Submit, or Abort.
type request struct {
	client    *client
	job       int // of the client
	abort     bool
	completed bool // wait for every branch
	submit    *pb.SubmitRequest
	content   fsm.Digest
	digests   []fsm.Digest
	forwarded bool
	open      bool           // the client waits for the answer
	heard     func(*fsm.Txn) // tells Replay
}

// serve takes a request at a node: here, or one hop away (route).
func (n *node) serve(r *request) {
	switch {
	case n.lead != nil && n.lead.ready && r.abort:
		n.lead.abort(r)
	case n.lead != nil && n.lead.ready:
		n.lead.submit(r)
	case n.hint == nil || n.hint == n || r.forwarded || !n.hint.up || !n.w.wire.both(n.place(), n.hint.place()):
		n.reply(r, nil, errNotLeader)
	default:
		hop, to := *r, n.hint
		hop.forwarded = true
		n.w.after(n.w.wire.delay(), ClientCall, to.name, r.submit.GetId(), func() bool {
			if !to.up || !r.open {
				return false
			}
			to.serve(&hop)
			return true
		})
	}
}

// submit begins the transaction, or attaches to the one of that id. The id is
// looked up before any limit (P10).
func (l *lead) submit(r *request) {
	id, m := r.submit.GetId(), l.machine()
	if f := l.flights[id]; f != nil {
		if f.digest != r.content {
			l.node.reply(r, nil, errReused)
			return
		}
		l.await(f, waiter{r: r, attached: true})
		return
	}
	if rec := m.Txn(id); rec != nil {
		l.answerFinished(r, rec)
		return
	}
	switch {
	case r.submit.Since != nil && r.submit.GetSince() < m.ForgottenFinish() && !l.w.has(SinceIgnored):
		l.node.reply(r, nil, errExpired)
		return
	case !l.admits(r.submit.GetBranches()):
		l.node.reply(r, nil, errRefused)
		return
	case len(l.flights) >= inFlightLimit:
		l.node.reply(r, nil, errOverloaded)
		return
	}
	attempt := l.attempts.Make()
	f := l.newFlight(id, r.content)
	f.waiters = append(f.waiters, waiter{r: r})
	c := drive.BeginCommand(r.submit, attempt, r.digests, false)
	if l.w.has(SinceIgnored) {
		c.HasSince = false
	}
	if l.w.manual && !slices.Contains(l.w.made, attempt) {
		l.w.made = append(l.w.made, attempt)
	}
	l.w.say("attempt %s", attempt)
	f.begin(attempt, c, drive.Pending(r.submit, attempt, r.digests))
}

func (l *lead) admits(branches []*pb.Branch) bool {
	for _, b := range branches {
		if p := l.machine().Participant(b.GetParticipant()); p == nil || !p.Open() {
			return false
		}
	}
	return true
}

// answerFinished answers from the state: only with verified leadership.
func (l *lead) answerFinished(r *request, rec *fsm.Txn) {
	answer := func(ok bool) {
		switch {
		case !ok:
			l.node.reply(r, nil, errNotLeader)
		case !rec.Refused && rec.Digest() != r.content:
			l.node.reply(r, nil, errReused)
		default:
			l.node.reply(r, rec, 0)
		}
	}
	if l.w.has(StaleAnswer) {
		answer(true)
		return
	}
	l.verify(answer)
}

func (l *lead) await(f *flight, x waiter) {
	f.waiters = append(f.waiters, x)
	if f.decided {
		f.answer()
	}
}

// answerWaiter tells one who waited. One who came later than the flight is
// told only by a verified leader: it may be the flight of an earlier life.
func (l *lead) answerWaiter(f *flight, x waiter) {
	err, rec := f.err, f.rec
	if err == errLost && l.w.has(LostIsAbort) && !x.r.abort {
		rec, err = bugAborted(f), 0
	}
	if err != 0 || !x.attached || l.w.has(StaleAnswer) {
		l.node.reply(x.r, rec, err)
		return
	}
	l.verify(func(ok bool) {
		if !ok {
			l.node.reply(x.r, nil, errNotLeader)
			return
		}
		l.node.reply(x.r, rec, 0)
	})
}

// abort aborts what is not decided and refuses what nobody knows (P10).
func (l *lead) abort(r *request) {
	id, m := r.submit.GetId(), l.machine()
	if f := l.flights[id]; f != nil {
		f.tell(func() []drive.Effect {
			return f.driver.OnAbort(l.now(), &fsm.Reason{Code: fsm.ReasonRequested, Message: "a client asked for it"})
		})
		l.await(f, waiter{r: r, attached: true})
		return
	}
	if r.submit.Since != nil && r.submit.GetSince() < m.ForgottenFinish() && m.Txn(id) == nil {
		l.node.reply(r, nil, errExpired)
		return
	}
	c := &fsmpb.Refuse{Id: id, Since: r.submit.GetSince(), HasSince: r.submit.Since != nil}
	l.propose(&fsmpb.Command{Kind: &fsmpb.Command_Refuse{Refuse: c}}, func(res fsm.Result, fate fate) {
		switch {
		case fate == notApplied:
			l.node.reply(r, nil, errNotLeader)
		case fate == unknown:
			l.node.reply(r, nil, errLost)
		case res.Txn != nil && res.Txn.State.Decided():
			l.node.reply(r, res.Txn, 0)
		case res.Rejection != nil && res.Rejection.Kind == fsm.KindExpired:
			l.node.reply(r, nil, errExpired)
		default: // it began meanwhile
			l.node.reply(r, nil, errNotReady)
		}
	})
}

// rejected is the word for what the state machine refused.
func rejected(r *fsm.Rejection) failure {
	switch r.Kind {
	case fsm.KindExpired:
		return errExpired
	case fsm.KindParticipantUnknown, fsm.KindParticipantClosed:
		return errRefused
	}
	return errNotReady
}

// reply sends the answer to the client.
func (n *node) reply(r *request, rec *fsm.Txn, err failure) {
	w := n.w
	if rec == nil && err == 0 {
		w.fail("an answer is an outcome or an error", "%s to %s", n.name, r.submit.GetId())
		return
	}
	if err == 0 {
		w.truth.answers(n, r, rec)
	}
	if w.chance(w.odds.lose) {
		w.happened(MessageLost)
		return
	}
	var index uint64
	if n.machine != nil {
		index = n.machine.Index()
	}
	w.after(w.wire.delay(), ClientReply, r.client.name, r.submit.GetId(), func() bool {
		return r.client.answered(r, rec, err, index)
	})
}
