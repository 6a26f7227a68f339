package participant

import (
	"fmt"

	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/fsm/mutant"
	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// maxClusterIDBytes is ample for a random id in text.
const maxClusterIDBytes = 64

// readRef checks the reference of a message against its fence.
func (s *Server) readRef(f *pb.Fence, b *pb.BranchRef) (Ref, error) {
	if err := fsm.CheckID("branch.id", b.GetId()); err != nil {
		return Ref{}, err
	}
	if b.GetParticipant() != s.cfg.Name && !mutant.On("any-name") {
		return Ref{}, rpc.Errorf(rpc.ReasonWrongParticipant,
			"the branch is of participant %q, this is %q", b.GetParticipant(), s.cfg.Name)
	}
	attempt := rpc.AttemptFrom(b.GetAttempt())
	switch {
	case attempt.Term == 0 || attempt.Sequence == 0:
		return Ref{}, rpc.FieldErrorf("branch.attempt", "term and sequence from 1", "%s", attempt)
	case attempt.Generation > f.GetGeneration(),
		attempt.Generation == f.GetGeneration() && attempt.Term > f.GetTerm():
		return Ref{}, rpc.FieldErrorf("branch.attempt",
			fmt.Sprintf("not newer than the message's term %d.%d", f.GetGeneration(), f.GetTerm()), "%s", attempt)
	}
	digest, ok := fsm.DigestFrom(b.GetDigest())
	if !ok {
		return Ref{}, rpc.FieldErrorf("branch.digest", fmt.Sprintf("%d bytes", fsm.DigestBytes), "%d bytes", len(b.GetDigest()))
	}
	return Ref{ID: b.GetId(), Attempt: attempt, Digest: digest}, nil
}

// workRequest is what a Prepare and a CommitOnePhase ask with.
type workRequest interface {
	GetFence() *pb.Fence
	GetBranch() *pb.BranchRef
	GetPriority() *pb.Attempt
	GetPayload() []byte
	GetBudgetMs() uint32
}

// readWork checks what is asked for.
func (s *Server) readWork(req workRequest) (Work, error) {
	ref, err := s.readRef(req.GetFence(), req.GetBranch())
	if err != nil {
		return Work{}, err
	}
	payload := req.GetPayload()
	if len(payload) > fsm.MaxPayloadBytes {
		return Work{}, rpc.FieldErrorf("payload", fmt.Sprintf("at most %d bytes", fsm.MaxPayloadBytes), "%d bytes", len(payload))
	}
	if fsm.DigestOf(payload) != ref.Digest {
		return Work{}, rpc.FieldErrorf("branch.digest", "the first 16 bytes of SHA-256 of the payload", "another digest")
	}
	priority := rpc.AttemptFrom(req.GetPriority())
	switch {
	case priority.IsZero():
		priority = ref.Attempt
	case ref.Attempt.Less(priority):
		return Work{}, rpc.FieldErrorf("priority", "not newer than the attempt "+ref.Attempt.String(), "%s", priority)
	}
	return Work{Ref: ref, Priority: priority, Payload: payload}, nil
}

// proto is ref on the wire, as a branch of participant name.
func (r Ref) proto(name string) *pb.BranchRef {
	return &pb.BranchRef{Id: r.ID, Attempt: rpc.AttemptProto(r.Attempt), Participant: name, Digest: r.Digest[:]}
}
