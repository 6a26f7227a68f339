package drive

import (
	"crypto/sha256"
	"encoding/binary"
	"strings"

	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/fsm/fsmpb"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// The commands of one transaction, in the words of the log.

// BeginCommand begins what req asks for as attempt a. The digests are those of
// ContentDigest.
func BeginCommand(req *pb.SubmitRequest, a fsm.Attempt, content fsm.Digest, digests []fsm.Digest) *fsmpb.Begin {
	timeout := fsm.DefaultTimeout
	if req.GetTimeout() != nil {
		timeout = req.GetTimeout().AsDuration()
	}
	c := &fsmpb.Begin{
		Id: req.GetId(), Attempt: AttemptLog(a), Digest: content[:], RetryOf: req.GetRetryOf(),
		Since: req.GetSince(), HasSince: req.Since != nil, TimeoutMs: uint32(timeout.Milliseconds()),
	}
	for i, b := range req.GetBranches() {
		c.Branches = append(c.Branches, &fsmpb.BeginBranch{
			Participant: b.GetParticipant(), Payload: b.GetPayload(), Digest: digests[i][:],
		})
	}
	return c
}

// DecideCommand is the command of an effect Decide.
func DecideCommand(d *Driver) *fsmpb.Command {
	rec, decision := d.Record(), d.Decision()
	c := &fsmpb.Decide{
		Id: rec.ID, Attempt: AttemptLog(rec.Attempt), Commit: decision.Commit, Reason: reasonLog(decision.Reason),
		Votes: make([]*fsmpb.BranchVote, len(rec.Branches)),
	}
	room := fsm.MaxLoggedResultBytes
	for i, a := range d.Answers() {
		v := &fsmpb.BranchVote{Vote: uint32(a.Vote), Reason: reasonLog(a.Reason)}
		if len(a.Result) <= room {
			v.Result = a.Result
			room -= len(a.Result)
		} else {
			v.Truncated = true
		}
		c.Votes[i] = v
	}
	return &fsmpb.Command{Kind: &fsmpb.Command_Decide{Decide: c}}
}

// FinishCommand is the command of an effect Finish.
func FinishCommand(d *Driver) *fsmpb.Command {
	rec := d.Record()
	c := &fsmpb.Finish{Id: rec.ID, Attempt: AttemptLog(rec.Attempt), Settled: make([]uint32, len(rec.Branches))}
	for i, s := range d.Settlements() {
		c.Settled[i] = uint32(s)
	}
	return &fsmpb.Command{Kind: &fsmpb.Command_Finish{Finish: c}}
}

// ContentDigest identifies what a Submit asks for: its branches, in order.
// Lengths stand before the parts, so no two contents have the same bytes (P16).
func ContentDigest(branches []*pb.Branch) (content fsm.Digest, each []fsm.Digest) {
	h := sha256.New()
	each = make([]fsm.Digest, len(branches))
	var length [4]byte
	for i, b := range branches {
		each[i] = fsm.DigestOf(b.GetPayload())
		binary.BigEndian.PutUint32(length[:], uint32(len(b.GetParticipant())))
		h.Write(length[:])
		h.Write([]byte(b.GetParticipant()))
		h.Write(each[i][:])
	}
	return fsm.Digest(h.Sum(nil)[:fsm.DigestBytes]), each
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
