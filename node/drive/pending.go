package drive

import (
	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/fsm/fsmpb"
)

// Pending is the record that a Begin of attempt a makes if it is applied: what
// the overlapped order (P2) drives until then. It lacks what only the log
// knows, the index and the time. nil: the priority is inherited (P12), which
// only the state machine can tell, so the order has to be the plain one.
func Pending(c *fsmpb.Begin, a fsm.Attempt) *fsm.Txn {
	digest, ok := fsm.DigestFrom(c.GetDigest())
	if c.GetRetryOf() != "" || !ok {
		return nil
	}
	t := &fsm.Txn{
		ID: c.GetId(), Attempt: a, Priority: a, Digest: digest, State: fsm.Preparing, TimeoutMS: c.GetTimeoutMs(),
		Branches: make([]fsm.Branch, len(c.GetBranches())),
	}
	for i, b := range c.GetBranches() {
		if t.Branches[i].Digest, ok = fsm.DigestFrom(b.GetDigest()); !ok {
			return nil
		}
		t.Branches[i].Participant, t.Branches[i].Detail = b.GetParticipant(), &fsm.Detail{Payload: b.GetPayload()}
	}
	return t
}
