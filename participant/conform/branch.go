package conform

import (
	"bytes"
	"fmt"

	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// branch is one participant's part of one attempt of a transaction.
type branch struct {
	id       string
	attempt  rpc.Attempt
	priority rpc.Attempt
	key      string // what the payload adds to
	payload  []byte
	digest   rpc.Digest
}

// ref names a branch, as a key of maps.
type ref struct {
	id      string
	attempt rpc.Attempt
	digest  string
}

func (b branch) ref() ref { return ref{b.id, b.attempt, string(b.digest[:])} }

func refOf(b *pb.BranchRef) ref {
	return ref{b.GetId(), rpc.AttemptFrom(b.GetAttempt()), string(b.GetDigest())}
}

// String names the branch in a failure.
func (b branch) String() string {
	return fmt.Sprintf("%s attempt %s digest %x (key %s)", b.id, b.attempt, b.digest[:4], b.key)
}

func (s *session) proto(b branch) *pb.BranchRef {
	return &pb.BranchRef{Id: b.id, Attempt: rpc.AttemptProto(b.attempt), Participant: s.name, Digest: b.digest[:]}
}

// matches reports whether an answer is about the branch that was asked for (P3).
func matches(asked, got *pb.BranchRef) bool {
	return asked.GetId() == got.GetId() && asked.GetParticipant() == got.GetParticipant() &&
		rpc.AttemptFrom(asked.GetAttempt()) == rpc.AttemptFrom(got.GetAttempt()) &&
		bytes.Equal(asked.GetDigest(), got.GetDigest())
}

// with is the branch with another payload.
func (b branch) with(key string, payload []byte) branch {
	b.key, b.payload, b.digest = key, payload, fsm.DigestOf(payload)
	return b
}

// fresh is a branch that adds one to a key of its own.
func (s *session) fresh() branch { return s.on(s.unique("k")) }

// on is a new transaction's branch that adds one to key.
func (s *session) on(key string) branch { return s.named(s.unique("t"), key) }

func (s *session) named(id, key string) branch {
	a := s.nextAttempt()
	return branch{id: id, attempt: a, priority: a}.with(key, s.add(key))
}

// again is the next attempt of b's transaction, with the same content.
func (s *session) again(b branch) branch {
	b.attempt = s.nextAttempt()
	b.priority = b.attempt
	return b
}

// other is b with other content: the same attempt that adds to another key.
func (s *session) other(b branch) branch {
	key := s.unique("k")
	return b.with(key, s.add(key))
}
