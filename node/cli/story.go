package cli

import (
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// explainUnknown is the story of an id that nobody knows.
func explainUnknown(id string) *explanation {
	return &explanation{
		ID: id, State: "UNKNOWN",
		Summary: "nothing is known of it. Either it never began, and a delayed submit may still begin it, " +
			"or it finished so long ago that it was forgotten.",
		Timeline: []moment{}, Waiting: []waiting{},
		Advice: []advice{
			{"To be sure that it never begins, refuse the id for good:", "concordat tx abort " + id},
			{"If it is yet to be submitted: wait for it.", "concordat tx watch " + id + " --timeout 1m"},
			{"If you submitted it and kept its --since: submit it again with the same id, content and --since; it runs at most once.", ""},
		},
	}
}

// explain tells the story of a transaction. The registry may lack participants.
func explain(t *pb.TransactionResponse, registry map[string]*pb.ParticipantInfo, now time.Time) *explanation {
	e := &explanation{ID: t.GetId(), State: t.GetState().String(), Timeline: []moment{}, Waiting: []waiting{}, Advice: []advice{}}
	e.tellBegin(t)
	e.tellVotes(t)
	e.tellDecision(t)
	e.tellEnd(t)
	e.tellWaiting(t, registry)
	e.Summary = summaryText(t, e.Waiting, now)
	e.advise(t, registry)
	return e
}

func (e *explanation) add(at *timestamppb.Timestamp, format string, args ...any) {
	m := moment{Text: fmt.Sprintf(format, args...)}
	if at != nil {
		when := at.AsTime()
		m.Time = &when
	}
	e.Timeline = append(e.Timeline, m)
}

// refused reports whether the id was refused before a transaction began.
func refused(t *pb.TransactionResponse) bool {
	return t.GetState() == pb.State_STATE_ABORTED && t.GetAttempt() == nil
}

func (e *explanation) tellBegin(t *pb.TransactionResponse) {
	if refused(t) {
		e.add(t.GetDecidedAt(), "refused before it began: %s", reasonText(t.GetReason()))
		return
	}
	var names []string
	for _, b := range t.GetBranches() {
		names = append(names, b.GetParticipant())
	}
	attempt := rpc.AttemptFrom(t.GetAttempt())
	text := fmt.Sprintf("began as attempt %s, with %s at %s", attempt, plural(len(names), "branch", "branches"), strings.Join(names, ", "))
	if priority := rpc.AttemptFrom(t.GetPriority()); t.GetPriority() != nil && priority != attempt {
		text += fmt.Sprintf("; a new try that keeps the priority of %s", priority)
	}
	e.add(t.GetBegunAt(), "%s", text)
}

func (e *explanation) tellVotes(t *pb.TransactionResponse) {
	if refused(t) {
		return
	}
	for _, b := range t.GetBranches() {
		switch b.GetVote() {
		case pb.Vote_VOTE_PREPARED:
			e.add(nil, "%s voted PREPARED", b.GetParticipant())
		case pb.Vote_VOTE_READ_ONLY:
			e.add(nil, "%s voted READ_ONLY: it has nothing to commit", b.GetParticipant())
		case pb.Vote_VOTE_COMMITTED:
			e.add(nil, "%s has COMMITTED it, in one phase", b.GetParticipant())
		case pb.Vote_VOTE_ABORTED:
			e.add(nil, "%s voted ABORTED: %s", b.GetParticipant(), dash(reasonText(b.GetReason())))
		default:
			if t.GetOutcome() != pb.Outcome_OUTCOME_UNSPECIFIED {
				e.add(nil, "%s had not voted when it was decided", b.GetParticipant())
			}
		}
	}
}

func (e *explanation) tellDecision(t *pb.TransactionResponse) {
	switch {
	case refused(t):
	case t.GetOutcome() == pb.Outcome_COMMIT:
		e.add(t.GetDecidedAt(), "decided: COMMIT")
	case t.GetOutcome() == pb.Outcome_ABORT:
		e.add(t.GetDecidedAt(), "decided: ABORT, because of %s", dash(reasonText(t.GetReason())))
	}
}

// settledTexts say how a branch came to its end.
var settledTexts = map[pb.Settled]string{
	pb.Settled_SETTLED_DONE:       "%s has applied the decision",
	pb.Settled_HEURISTIC_COMMIT:   "%s was COMMITTED by somebody else, against or before the decision",
	pb.Settled_HEURISTIC_ROLLBACK: "%s was ROLLED BACK by somebody else, against or before the decision",
	pb.Settled_HEURISTIC_HAZARD:   "%s has no trace of the branch that it should have committed",
	pb.Settled_GIVEN_UP:           "%s was given up by an operator: whether it applied the decision is not known",
}

func (e *explanation) tellEnd(t *pb.TransactionResponse) {
	if refused(t) {
		return
	}
	for _, b := range t.GetBranches() {
		if text, ok := settledTexts[b.GetSettled()]; ok {
			e.add(nil, text, b.GetParticipant())
		}
	}
	if finished(t) {
		e.add(t.GetFinishedAt(), "finished: %s", stateName(t.GetState()))
	}
}

func (e *explanation) tellWaiting(t *pb.TransactionResponse, registry map[string]*pb.ParticipantInfo) {
	if finished(t) {
		return
	}
	pending := map[string]bool{}
	for _, name := range t.GetPending() {
		pending[name] = true
	}
	for _, b := range t.GetBranches() {
		m := waiting{Participant: b.GetParticipant(), For: "acknowledgement", Tries: b.GetTries(), LastError: b.GetLastError()}
		switch {
		case t.GetState() == pb.State_STATE_PREPARING && b.GetVote() == pb.Vote_VOTE_UNSPECIFIED:
			m.For = "vote"
		case t.GetState() != pb.State_STATE_PREPARING && pending[b.GetParticipant()]:
		default:
			continue
		}
		if p := registry[b.GetParticipant()]; p != nil {
			reachable := p.GetReachable()
			m.Reachable = &reachable
		}
		if b.GetNextTry() != nil {
			seconds := b.GetNextTry().AsDuration().Seconds()
			m.NextTry = &seconds
		}
		e.Waiting = append(e.Waiting, m)
	}
}

// summaryText is the present state in a sentence.
func summaryText(t *pb.TransactionResponse, waits []waiting, now time.Time) string {
	age := ""
	if t.GetBegunAt() != nil {
		age = " since " + durationText(now.Sub(entered(t)))
	}
	var names []string
	for _, m := range waits {
		names = append(names, m.Participant)
	}
	who := strings.Join(names, ", ")
	has := map[bool]string{true: " has", false: " have"}[len(names) <= 1]
	switch t.GetState() {
	case pb.State_STATE_PREPARING:
		if who == "" {
			return "PREPARING" + age + ". Every vote is in; the decision is being logged."
		}
		return "PREPARING" + age + ". It is not decided: " + who + has + " yet to vote. Without all votes it aborts when its prepare budget ends."
	case pb.State_STATE_COMMITTING:
		return "COMMITTING" + age + ". COMMIT is decided and stands; " + dash(who) + has + " yet to apply it."
	case pb.State_STATE_ABORTING:
		return "ABORTING" + age + ". ABORT is decided and stands; " + dash(who) + has + " yet to roll back."
	}
	switch {
	case refused(t):
		return "ABORTED: the id was refused before a transaction began, for good."
	case t.GetHeuristic() != pb.Heuristic_HEURISTIC_NONE && !t.GetNeedsOperator():
		return stateName(t.GetState()) + ", but not as decided everywhere (" + heuristicName(t.GetHeuristic()) + "); an operator has seen to it."
	case t.GetNeedsOperator():
		return stateName(t.GetState()) + ", but not as decided everywhere: an operator has to look at it. It is kept until then."
	case t.GetState() == pb.State_STATE_COMMITTED:
		return "COMMITTED everywhere."
	}
	return "ABORTED everywhere: " + dash(reasonText(t.GetReason())) + "."
}

// heuristicName is the word for what branches that somebody else settled make
// of a transaction: that of XA.
func heuristicName(h pb.Heuristic) string {
	switch h {
	case pb.Heuristic_HEURISTIC_ALL_COMMITTED:
		return "HEURISTIC_COMMIT"
	case pb.Heuristic_HEURISTIC_ALL_ROLLED_BACK:
		return "HEURISTIC_ROLLBACK"
	case pb.Heuristic_HEURISTIC_MAYBE_MIXED:
		return "HEURISTIC_HAZARD"
	}
	return strip(h.String(), "")
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
