package drive

import (
	"strings"

	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/fsm/fsmpb"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// The commands of one transaction, in the words of the log.

// loggedDigest is the size of a payload from which on its digest is logged:
// every replica would have to hash it, and the digest is little beside it.
const loggedDigest = 1 << 10

// BeginCommand begins what req asks for as attempt a, in one phase or two. The
// digests are those of ContentDigest.
func BeginCommand(req *pb.SubmitRequest, a fsm.Attempt, digests []fsm.Digest, onePhase bool) *fsmpb.Begin {
	c := &fsmpb.Begin{
		Id: req.GetId(), Attempt: AttemptLog(a), RetryOf: req.GetRetryOf(),
		Since: req.GetSince(), HasSince: req.Since != nil, TimeoutMs: timeoutMS(req), OnePhase: onePhase,
		Branches: make([]*fsmpb.BeginBranch, len(req.GetBranches())),
	}
	for i, b := range req.GetBranches() {
		c.Branches[i] = &fsmpb.BeginBranch{Participant: b.GetParticipant(), Payload: b.GetPayload()}
		if len(b.GetPayload()) >= loggedDigest {
			c.Branches[i].Digest = digests[i][:]
		}
	}
	return c
}

// Pending is the record that the Begin of req as attempt a makes if it is applied:
// what the overlapped order (P2) drives until then. It lacks what only the log
// knows, the index and the time. nil: the priority is inherited (P12), which only
// the state machine can tell, so the order has to be the plain one.
func Pending(req *pb.SubmitRequest, a fsm.Attempt, digests []fsm.Digest) *fsm.Txn {
	if req.GetRetryOf() != "" {
		return nil
	}
	t := &fsm.Txn{
		ID: req.GetId(), Attempt: a, State: fsm.Preparing, TimeoutMS: timeoutMS(req),
		Branches: make([]fsm.Branch, len(req.GetBranches())),
	}
	for i, b := range req.GetBranches() {
		t.Branches[i] = fsm.Branch{Participant: b.GetParticipant(), Digest: digests[i], Detail: &fsm.Detail{Content: b.GetPayload()}}
	}
	return t
}

func timeoutMS(req *pb.SubmitRequest) uint32 {
	if req.GetTimeout() == nil {
		return uint32(fsm.DefaultTimeout.Milliseconds())
	}
	return uint32(req.GetTimeout().AsDuration().Milliseconds())
}

// DecideCommand is the command of an effect Decide.
func DecideCommand(d *Driver) *fsmpb.Command {
	rec, decision := d.Record(), d.Decision()
	c := &fsmpb.Decide{
		Id: d.named(), Attempt: AttemptLog(rec.Attempt), Commit: decision.Commit, Reason: reasonLog(decision.Reason),
		Votes: make([]*fsmpb.BranchVote, len(rec.Branches)),
	}
	room := fsm.MaxLoggedResultBytes
	for i, a := range d.Answers() {
		v := &fsmpb.BranchVote{Vote: uint32(a.Vote), Reason: reasonLog(a.Reason)}
		switch {
		case a.ResultLost:
			v.Truncated = true
		case len(a.Result) <= room:
			v.Result = a.Result
			room -= len(a.Result)
		default:
			v.Truncated = true
		}
		c.Votes[i] = v
	}
	return &fsmpb.Command{Kind: &fsmpb.Command_Decide{Decide: c}}
}

// FinishCommand is the command of an effect Finish.
func FinishCommand(d *Driver) *fsmpb.Command {
	rec := d.Record()
	c := &fsmpb.Finish{Id: d.named(), Attempt: AttemptLog(rec.Attempt), Settled: make([]uint32, len(rec.Branches))}
	for i := range c.Settled {
		c.Settled[i] = uint32(d.Settled(i))
	}
	return &fsmpb.Command{Kind: &fsmpb.Command_Finish{Finish: c}}
}

// ContentDigest identifies what a Submit asks for: its branches, in order.
func ContentDigest(branches []*pb.Branch) (content fsm.Digest, each []fsm.Digest) {
	each = make([]fsm.Digest, len(branches))
	content = fsm.DigestOfContent(len(branches), func(i int) (string, fsm.Digest) {
		each[i] = fsm.DigestOf(branches[i].GetPayload())
		return branches[i].GetParticipant(), each[i]
	})
	return content, each
}

// CutReason bounds a text from outside: Decide carries every branch's, and a
// command that is too large for the log could never be applied.
func CutReason(text string) string {
	return strings.ToValidUTF8(text[:min(len(text), fsm.MaxReasonBytes)], "�")
}

func reasonLog(r *fsm.Reason) *fsmpb.Reason {
	if r == nil {
		return nil
	}
	return &fsmpb.Reason{Code: uint32(r.Code), Participant: r.Participant, Message: CutReason(r.Message)}
}

// AttemptLog is an attempt as the log has it.
func AttemptLog(a fsm.Attempt) *fsmpb.Attempt {
	return &fsmpb.Attempt{Generation: a.Generation, Term: a.Term, Sequence: a.Sequence}
}
