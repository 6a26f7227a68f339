package fsm

import (
	"fmt"
	"slices"
	"strings"

	"github.com/concordat-tx/concordat/fsm/fsmpb"
	"github.com/concordat-tx/concordat/fsm/mutant"
)

func (m *Machine) applyBegin(index, term uint64, c *fsmpb.Begin) Result {
	id, attempt := c.GetId(), attemptFrom(c.GetAttempt())
	to, kind, ok := next(m.stateOf(id), EventBegin)
	switch {
	case !ok:
		return m.reject(id, kind, "")
	case c.GetHasSince() && c.GetSince() < m.forgottenFinish:
		return m.reject(id, KindExpired, fmt.Sprintf("since %d is below the highest forgotten Finish %d", c.GetSince(), m.forgottenFinish))
	case attempt.Term != term || attempt.Generation != m.generation || attempt.Sequence == 0:
		return m.reject(id, KindWrongTerm, fmt.Sprintf("attempt %s in an entry of term %d, generation %d", attempt, term, m.generation))
	case m.begun.has(attempt):
		return m.reject(id, KindAttemptBegun, attempt.String())
	}
	branches, rejected := m.beginBranches(c)
	if rejected == nil && c.GetOnePhase() && len(branches) != 1 {
		rejected = &Rejection{Kind: KindMalformed, Detail: fmt.Sprintf("one phase is for one branch, got %d", len(branches))}
	}
	if rejected != nil {
		rejected.State = m.stateOf(id)
		return Result{Rejection: rejected}
	}
	m.begun.add(attempt)
	t := &Txn{
		ID: id, Attempt: attempt, State: to,
		TimeoutMS: c.GetTimeoutMs(), BeginIndex: index, BegunMS: m.at, Branches: branches,
		// The leader asked the registry a moment ago; what it says now counts (P18).
		OnePhase: c.GetOnePhase() && m.participants[branches[0].Participant].OnePhase,
	}
	if of := c.GetRetryOf(); of != "" {
		if aborted := m.Txn(of); aborted != nil && aborted.canBeRetried() {
			t.inherit(aborted.Priority())
		}
	}
	if logged, ok := DigestFrom(c.GetDigest()); ok {
		t.setDigest(logged)
	}
	for i := range branches {
		m.unfinished[branches[i].Participant]++
	}
	m.store(nil, t)
	return Result{Txn: t}
}

// canBeRetried reports whether another try inherits its priority (P12).
func (t *Txn) canBeRetried() bool { return (t.State == Aborting || t.State == Aborted) && !t.Refused }

func (t *Txn) inherit(priority Attempt) {
	if priority != t.Attempt {
		t.Inherited = &priority
	}
}

// beginBranches checks a Begin against limits and registry (P18).
func (m *Machine) beginBranches(c *fsmpb.Begin) ([]Branch, *Rejection) {
	broken := func(err string) ([]Branch, *Rejection) {
		return nil, &Rejection{Kind: KindMalformed, Detail: err}
	}
	if err := CheckID("id", c.GetId()); err != nil {
		return broken(err.Error())
	}
	if n := len(c.GetBranches()); n == 0 || n > MaxBranches {
		return broken(fmt.Sprintf("branches: 1 to %d, got %d", MaxBranches, n))
	}
	branches, total := make([]Branch, len(c.GetBranches())), 0
	for i, b := range c.GetBranches() {
		p := m.participants[b.GetParticipant()]
		if p == nil {
			return nil, &Rejection{Kind: KindParticipantUnknown, Detail: b.GetParticipant()}
		}
		if !p.Open() {
			return nil, &Rejection{Kind: KindParticipantClosed, Detail: b.GetParticipant()}
		}
		bd, ok := digestOr(b.GetDigest(), func() Digest { return DigestOf(b.GetPayload()) })
		if !ok || len(b.GetPayload()) > MaxPayloadBytes {
			return broken(fmt.Sprintf("branches[%d]: digest of 16 bytes or none, payload of at most %d", i, MaxPayloadBytes))
		}
		if total += len(b.GetPayload()); total > MaxTransactionBytes {
			return broken(fmt.Sprintf("branches: payloads of at most %d bytes together", MaxTransactionBytes))
		}
		for j := range i {
			if branches[j].Participant == p.Name {
				return broken("branches: participant " + p.Name + " twice")
			}
		}
		// The registry's string is shared by all transactions.
		branches[i] = Branch{Participant: p.Name, Digest: bd, Detail: &Detail{Content: b.GetPayload()}}
	}
	if n := len(c.GetDigest()); n != 0 && n != DigestBytes {
		return broken("digest: 16 bytes or none")
	}
	return branches, nil
}

// digestOr is a digest that a command has, or the one that follows from its
// content: hashing a little is cheaper than to log the hash.
func digestOr(logged []byte, made func() Digest) (Digest, bool) {
	if len(logged) == 0 {
		return made(), true
	}
	return DigestFrom(logged)
}

func (m *Machine) applyDecide(index uint64, c *fsmpb.Decide) Result {
	id := m.subject(c.GetId(), attemptFrom(c.GetAttempt()))
	event := EventDecideAbort
	if c.GetCommit() {
		event = EventDecideCommit
	}
	old := m.Txn(id)
	if old != nil && old.Attempt != attemptFrom(c.GetAttempt()) {
		return m.reject(id, KindOtherAttempt, old.Attempt.String())
	}
	to, kind, ok := next(m.stateOf(id), event)
	if mutant.On("last-decision-wins") && event == EventDecideAbort && m.stateOf(id) == Committing {
		to, ok = Aborting, true
	}
	if !ok {
		return m.reject(id, kind, "")
	}
	if len(c.GetVotes()) != len(old.Branches) {
		return m.reject(id, KindVotes, fmt.Sprintf("%d votes for %d branches", len(c.GetVotes()), len(old.Branches)))
	}
	t := old.clone()
	t.State, t.DecideIndex, t.DecidedAfterMS = to, index, old.after(m.at)
	if !c.GetCommit() {
		t.Reason = reasonFrom(c.GetReason())
		if t.Reason != nil {
			if p := m.participants[t.Reason.Participant]; p != nil {
				t.Reason.Participant = p.Name // the registry's string, as the branches have it
			}
		}
	}
	room := MaxLoggedResultBytes
	for i := range t.Branches {
		v := c.GetVotes()[i]
		switch {
		case v.GetVote() > uint32(VoteCommitted):
			return m.reject(id, KindVotes, fmt.Sprintf("vote %d from %s", v.GetVote(), t.Branches[i].Participant))
		case !t.allows(c.GetCommit(), Vote(v.GetVote())):
			return m.reject(id, KindVotes, fmt.Sprintf("%s from %s", Vote(v.GetVote()), t.Branches[i].Participant))
		}
		decideBranch(&t.Branches[i], v, room)
		if t.OnePhase { // it is settled, either way
			t.Branches[i].Settled = SettledDone
		}
		room -= len(t.Result(i))
	}
	for i := range t.Branches {
		if t.Branches[i].Settled != Unsettled {
			m.release(t.Branches[i].Participant)
		}
	}
	if !t.owesAny() { // every branch was READ_ONLY, or it was in one phase
		t.State, _, _ = next(t.State, EventFinish)
		t.FinishIndex, t.FinishedAfterMS = index, t.DecidedAfterMS
	}
	m.store(old, t)
	return Result{Txn: t}
}

// decideBranch keeps the vote, and the result if there is room for it, and
// drops the payload, whose digest stays.
func decideBranch(b *Branch, v *fsmpb.BranchVote, room int) {
	b.Vote, b.Truncated, b.Detail = Vote(v.GetVote()), v.GetTruncated(), nil
	result := v.GetResult()
	if len(result) > room {
		result, b.Truncated = nil, true
	}
	if reason := reasonFrom(v.GetReason()); reason != nil || len(result) > 0 {
		b.Detail = &Detail{Content: result, Reason: reason}
	}
	if b.Vote == VoteReadOnly { // no phase 2, no acknowledgement (P9)
		b.Settled = SettledDone
	}
}

func (t *Txn) owesAny() bool {
	for i := range t.Branches {
		if t.Owes(i) {
			return true
		}
	}
	return false
}

func (m *Machine) applyFinish(index uint64, c *fsmpb.Finish) Result {
	id := m.subject(c.GetId(), attemptFrom(c.GetAttempt()))
	old := m.Txn(id)
	if old != nil && old.Attempt != attemptFrom(c.GetAttempt()) {
		return m.reject(id, KindOtherAttempt, old.Attempt.String())
	}
	to, kind, ok := next(m.stateOf(id), EventFinish)
	if !ok {
		return m.reject(id, kind, "")
	}
	if len(c.GetSettled()) != len(old.Branches) {
		return m.reject(id, KindOwes, fmt.Sprintf("%d settlements for %d branches", len(c.GetSettled()), len(old.Branches)))
	}
	t := old.clone()
	for i := range t.Branches {
		if t.Branches[i].Settled != Unsettled { // READ_ONLY, or an operator was faster
			continue
		}
		s := c.GetSettled()[i]
		if s == uint32(Unsettled) || s > uint32(GivenUp) {
			return m.reject(id, KindOwes, t.Branches[i].Participant)
		}
		t.Branches[i].Settled = Settled(s)
	}
	for i := range t.Branches {
		if old.Branches[i].Settled == Unsettled {
			m.release(t.Branches[i].Participant)
		}
	}
	t.State, t.FinishIndex, t.FinishedAfterMS = to, index, old.after(m.at)
	m.store(old, t)
	return Result{Txn: t}
}

// applyForget drops finished transactions; items that do not match stay. It is
// rejected, for the reason of the first item, if every item stays.
func (m *Machine) applyForget(c *fsmpb.Forget) Result {
	n, stays := 0, Result{}
	for _, item := range c.GetItems() {
		id, finish := item.GetId(), item.GetFinishIndex()
		state, index, needsOperator := m.finished.look(id)
		if t := m.txns[id]; t != nil {
			state = t.State
		}
		_, kind, ok := next(state, EventForget)
		switch {
		case !ok:
		case index != finish: // the id has been used again
			kind, ok = KindNotFinished, false
		case needsOperator:
			kind, ok = KindNeedsOperator, false
		}
		if !ok {
			if stays.Rejection == nil {
				stays = m.reject(id, kind, fmt.Sprintf("Finish index %d", finish))
			}
			continue
		}
		m.finished.forget(id)
		m.forgottenFinish = max(m.forgottenFinish, finish)
		n++
	}
	if n == 0 {
		return stays
	}
	return Result{}
}

// applyRefuse aborts an id that nobody knows, for good.
func (m *Machine) applyRefuse(index uint64, c *fsmpb.Refuse) Result {
	id := c.GetId()
	if err := CheckID("id", id); err != nil {
		return malformed(err.Error())
	}
	to, kind, ok := next(m.stateOf(id), EventRefuse)
	switch {
	case !ok:
		return m.reject(id, kind, "")
	case c.GetHasSince() && c.GetSince() < m.forgottenFinish:
		return m.reject(id, KindExpired, fmt.Sprintf("since %d is below the highest forgotten Finish %d", c.GetSince(), m.forgottenFinish))
	}
	t := &Txn{
		ID: id, State: to, Refused: true, BeginIndex: index, DecideIndex: index, FinishIndex: index, BegunMS: m.at,
		Reason: &Reason{Code: ReasonRequested, Message: cut(c.GetMessage())},
	}
	m.store(nil, t)
	return Result{Txn: t}
}

// CheckResolve tells where a Resolve leads, or with a rejection why it changes
// nothing; a leader asks before it logs one.
func (m *Machine) CheckResolve(c *fsmpb.Resolve) (to State, refused Result) {
	id := c.GetId()
	old := m.Txn(id)
	if old != nil && c.GetAttempt() != nil && old.Attempt != attemptFrom(c.GetAttempt()) {
		return Unknown, m.reject(id, KindOtherAttempt, old.Attempt.String())
	}
	event := EventGiveUp
	switch {
	case c.GetAcknowledge():
		event = EventAcknowledge
	case old != nil && old.OnePhase && old.State == Preparing:
		event = EventGiveUpUnheard
	}
	to, kind, ok := next(m.stateOf(id), event)
	if !ok {
		return Unknown, m.reject(id, kind, "")
	}
	for _, name := range c.GetGiveUp() {
		if old.BranchOf(name) < 0 {
			return Unknown, m.reject(id, KindParticipantUnknown, "no branch of "+name)
		}
	}
	if event != EventAcknowledge && len(c.GetGiveUp()) == 0 {
		return Unknown, m.reject(id, KindMalformed, "give up: names of participants")
	}
	return to, Result{}
}

func (m *Machine) applyResolve(index uint64, c *fsmpb.Resolve) Result {
	to, refused := m.CheckResolve(c)
	if refused.Rejection != nil {
		return refused
	}
	old := m.Txn(c.GetId())
	t := old.clone()
	if t.State == Preparing { // one phase, and unheard of
		t.Branches[0].Detail = nil // the payload, which only an undecided one has
		t.DecideIndex, t.DecidedAfterMS = index, t.after(m.at)
		t.FinishIndex, t.FinishedAfterMS = t.DecideIndex, t.DecidedAfterMS
		t.Reason = &Reason{Code: ReasonRequested, Participant: t.Branches[0].Participant, Message: "given up: what the participant decided was never heard"}
	}
	t.State = to
	t.Acknowledged = t.Acknowledged || c.GetAcknowledge()
	for i := range t.Branches {
		b := &t.Branches[i]
		if t.Owes(i) && slices.Contains(c.GetGiveUp(), b.Participant) {
			b.Settled = GivenUp
			b.Detail = &Detail{
				Content: b.content(),
				Reason:  &Reason{Participant: b.Participant, Message: cut("given up by " + c.GetOperator())},
			}
			m.release(b.Participant)
		}
	}
	m.store(old, t)
	return Result{Txn: t}
}

// ReasonRequested is the wire's code for an abort that somebody asked for.
const ReasonRequested ReasonCode = 6

func reasonFrom(p *fsmpb.Reason) *Reason {
	if p == nil {
		return nil
	}
	return &Reason{Code: ReasonCode(p.GetCode()), Participant: cut(p.GetParticipant()), Message: cut(p.GetMessage())}
}

func (r *Reason) proto() *fsmpb.Reason {
	if r == nil {
		return nil
	}
	return &fsmpb.Reason{Code: uint32(r.Code), Participant: r.Participant, Message: r.Message}
}

func cut(s string) string {
	if len(s) > MaxReasonBytes {
		s = s[:MaxReasonBytes]
	}
	return strings.ToValidUTF8(s, "") // a rune may have been cut in two
}
