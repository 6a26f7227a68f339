package cli

import (
	"fmt"
	"strings"

	"github.com/concordat-tx/concordat/rpc/pb"
)

// advise says what an operator can do.
func (e *explanation) advise(t *pb.TransactionResponse, registry map[string]*pb.ParticipantInfo) {
	id := t.GetId()
	for _, m := range e.Waiting {
		e.adviseParticipant(m, registry[m.Participant])
	}
	switch t.GetState() {
	case pb.State_STATE_PREPARING:
		e.say("Nothing needs to be done: it is decided at the latest when its prepare budget ends. To see it happen:", "concordat tx watch "+id)
		e.say("To abort it now:", "concordat tx abort "+id)
	case pb.State_STATE_COMMITTING, pb.State_STATE_ABORTING:
		if len(e.Waiting) == 0 {
			e.say("Nothing needs to be done: every branch has answered.", "")
			return
		}
		e.say("Nothing needs to be done where a participant comes back: it is told within 2 s. To call it now:", "concordat tx retry "+id)
		for _, m := range e.Waiting {
			e.say(fmt.Sprintf("Only if %s is gone for good: no longer wait for it. Its data may then disagree with the decision.", m.Participant),
				"concordat tx resolve "+id+" --give-up "+m.Participant+" --operator NAME")
		}
	default:
		e.adviseFinished(t)
	}
}

func (e *explanation) say(text, command string) {
	e.Advice = append(e.Advice, advice{text, command})
}

// adviseParticipant says what is wrong with who is waited for.
func (e *explanation) adviseParticipant(m waiting, p *pb.ParticipantInfo) {
	switch {
	case p == nil:
	case p.GetPendingIncarnation() != "":
		e.say(fmt.Sprintf("%s came back with other data (%s) and takes no part until they are accepted. Check that nothing is missing in them, then:",
			m.Participant, p.GetPendingIncarnation()), "concordat participants add "+m.Participant+" --accept-incarnation")
	case !p.GetReachable():
		e.say(fmt.Sprintf("%s does not answer at %s. See that it runs and that the nodes reach it; if it moved:",
			m.Participant, strings.Join(p.GetEndpoints(), ", ")), "concordat participants add "+m.Participant+" --endpoint HOST:PORT")
	}
}

// abortAdvice says what may help after an abort, by its reason.
var abortAdvice = map[pb.Reason_Code]string{
	pb.Reason_CONDITION:   "A condition of its payload did not hold. Nothing was changed; another transaction may be submitted.",
	pb.Reason_CONFLICT:    "An older transaction was in its way. Submit it again under a new id with retry_of, as 'concordat tx submit' does by itself.",
	pb.Reason_TIMEOUT:     "Not every vote came in time. See whether the participant is up or slow, then submit again under a new id; a longer --timeout gives it more time.",
	pb.Reason_FAILED:      "The participant could not do its work; its log says why. Then submit again under a new id.",
	pb.Reason_INVALID:     "The participant does not understand the payload. Mend it, then submit it under a new id.",
	pb.Reason_REQUESTED:   "It was asked for. The same work may be submitted under a new id.",
	pb.Reason_MISMATCH:    "The participant holds other content under this id. Submit under a new id.",
	pb.Reason_SUPERSEDED:  "The participant had rolled the attempt back. Submit again under a new id.",
	pb.Reason_INCARNATION: "The participant's data are not those that are registered. Check that nothing is missing in them and accept them, then submit again.",
	pb.Reason_EXHAUSTED:   "The participant had no room for it. Submit again later under a new id.",
	pb.Reason_CONSTRAINT:  "A constraint of the participant's data does not allow it. Nothing was changed; mend the payload, then submit it under a new id.",
	pb.Reason_UNSUPPORTED: "The payload asks for what cannot be part of a branch. Mend it, then submit it under a new id.",
	pb.Reason_APPLICATION: "The participant's application refused. Nothing was changed; the message says why.",
}

func (e *explanation) adviseFinished(t *pb.TransactionResponse) {
	if t.GetNeedsOperator() {
		for _, b := range t.GetBranches() {
			if s := b.GetSettled(); s != pb.Settled_SETTLED_DONE && s != pb.Settled_SETTLED_UNSPECIFIED {
				e.say(fmt.Sprintf("Look at the data of %s: what the transaction wrote there must be as if it had been decided %s. Mend it by hand.",
					b.GetParticipant(), outcomeName(t.GetOutcome())), "")
			}
		}
		e.say("When the data are right: acknowledge it, so that it may be forgotten.", "concordat tx resolve "+t.GetId()+" --acknowledge --operator NAME")
		return
	}
	if t.GetState() == pb.State_STATE_COMMITTED {
		e.say("Nothing needs to be done. It is kept for a while, so that the same id gives the same answer.", "")
		return
	}
	if text, ok := abortAdvice[t.GetReason().GetCode()]; ok {
		e.say(text, "")
	}
	if t.GetReason().GetCode() == pb.Reason_INCARNATION && t.GetReason().GetParticipant() != "" {
		e.say("To accept them:", "concordat participants add "+t.GetReason().GetParticipant()+" --accept-incarnation")
	}
}
