// Package rpc is the wire: the generated services (rpc/pb), the one place
// that dials and the one that serves, the table of errors, and the client
// that services embed. It knows nothing of Raft.
package rpc

import (
	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// Attempt is one try to run a transaction (P3).
type Attempt = fsm.Attempt

// Digest identifies a payload.
type Digest = fsm.Digest

// AttemptFrom reads an attempt off the wire; nil is the zero attempt.
func AttemptFrom(p *pb.Attempt) Attempt {
	return Attempt{Generation: p.GetGeneration(), Term: p.GetTerm(), Sequence: p.GetSequence()}
}

// AttemptProto is the attempt on the wire.
func AttemptProto(a Attempt) *pb.Attempt {
	return &pb.Attempt{Generation: a.Generation, Term: a.Term, Sequence: a.Sequence}
}
