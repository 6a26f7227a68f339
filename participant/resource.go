package participant

import (
	"context"
	"errors"
	"time"

	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// ResourceManager does the work of a participant over its own data: an
// embedded store, a database, a service. It also keeps what the protocol must
// remember (journal, tombstones, fence), because that is only worth something
// if it is written together with the data, in the same atomic durable write
// (P5, P6). The runtime (Server) owns no file and does everything else: the
// wire, retries, inquiries, alerts.
//
// Rules for every implementation, checked by the suite in participanttest:
//
//   - Prepare, Commit and Rollback load the Entry of the id inside the write
//     that changes it, ask the Entry's On… method what is allowed, and store
//     the entry that it returns in that same write.
//   - No method answers before its write is durable.
//   - Methods may be called concurrently; calls for one id are serialised by the runtime.
//   - An error that may pass by itself is wrapped with Transient; the runtime
//     then tries again, boundedly before a vote and until success after a decision.
type ResourceManager interface {
	// Identity is what the data know of themselves.
	Identity(ctx context.Context) (Identity, error)
	// Bind makes a new Binding durable: the cluster the data belong to, the
	// highest term seen and the floor. It is never called with an older one.
	Bind(ctx context.Context, b Binding) error
	// Prepare does the work of one branch and makes it durable before it
	// votes. ctx ends with the prepare budget; work that is not durable by
	// then is undone and votes ABORTED.
	Prepare(ctx context.Context, w Work) (Vote, error)
	// Commit makes the held branch final.
	Commit(ctx context.Context, ref Ref) (Settlement, error)
	// Rollback undoes the held branch, or leaves a tombstone.
	Rollback(ctx context.Context, ref Ref) (Settlement, error)
	// Held lists every prepared branch that is not settled, oldest first.
	Held(ctx context.Context) ([]Held, error)
	// Finished lists up to limit finished references (committed or
	// tombstones) that could be forgotten if the cluster agrees, in an order
	// that does not change from call to call; older attempts first is best.
	Finished(ctx context.Context, limit int) ([]Ref, error)
	// Forget drops the given finished references, durably, in one write with
	// the floor (see Entry.Forget). The floor is never older than the bound one.
	Forget(ctx context.Context, floor rpc.Attempt, refs []Ref) error
}

// OnePhase is a ResourceManager that can do a branch's work and commit it in
// one durable write, for transactions without another branch (P17). It is
// optional; the runtime tells the cluster whether there is one.
type OnePhase interface {
	ResourceManager
	// CommitOnePhase does the work of the branch and makes it final, in the write
	// that also stores Entry.Once and has asked Entry.OnCommitOnePhase: the vote is
	// COMMITTED. Called again it says so again, and does nothing. ABORTED means
	// that it has left no effect; before that is told, the runtime makes it final
	// with Refuse, whose tombstone the commit's write must heed. An error means
	// that nobody knows: MustWait, or one that may be Transient. ctx as in Prepare.
	CommitOnePhase(ctx context.Context, w Work) (Vote, error)
	// Refuse is Rollback for a branch in one phase. It should keep why (see
	// Entry.OnRefuse), for a leader that has not heard it and asks again.
	Refuse(ctx context.Context, ref Ref, why Vote) (Settlement, error)
}

// Identity says whose data these are. Incarnation is random and made with the
// data; data restored from a backup must be given a new one (P14).
type Identity struct {
	Kind        string
	Incarnation string
	Binding     Binding
}

// Binding is the fence that a participant keeps with its data (P8, P14).
type Binding struct {
	ClusterID  string
	Generation uint32
	Term       uint64
	// Floor: a Prepare of an attempt below it is refused.
	Floor rpc.Attempt
}

// Ref names one branch of one attempt.
type Ref struct {
	ID      string
	Attempt rpc.Attempt
	Digest  rpc.Digest
}

// Work is what a Prepare asks for.
type Work struct {
	Ref
	// Priority is the attempt of the transaction's first try (P12).
	Priority rpc.Attempt
	Payload  []byte
}

// Vote is a branch's answer to Prepare or CommitOnePhase.
type Vote struct {
	Kind pb.Vote
	// Code and Message say why, if Kind is ABORTED.
	Code    pb.Reason_Code
	Message string
	// Result is what the branch read; at most 64 KiB.
	Result []byte
	// ResultLost: an earlier call committed the branch, and its result was not kept.
	ResultLost bool
}

// Committed is the vote of a branch that is final in one phase.
func Committed(result []byte) Vote { return Vote{Kind: pb.Vote_VOTE_COMMITTED, Result: result} }

// Prepared is the vote of a branch whose work is durable.
func Prepared(result []byte) Vote { return Vote{Kind: pb.Vote_VOTE_PREPARED, Result: result} }

// ReadOnly is the vote of a branch that took no lock that matters.
func ReadOnly(result []byte) Vote { return Vote{Kind: pb.Vote_VOTE_READ_ONLY, Result: result} }

// Aborted is the vote of a branch that left no effect.
func Aborted(code pb.Reason_Code, message string) Vote {
	return Vote{Kind: pb.Vote_VOTE_ABORTED, Code: code, Message: message}
}

// Settlement is the answer to Commit and Rollback.
type Settlement struct {
	// Settled is DONE when the decision is durable here (also if it was
	// before), a heuristic if something else was found, and UNSPECIFIED if
	// nothing may be acknowledged now because another attempt is held.
	Settled pb.Settled
	Message string
}

// Done acknowledges a decision.
var Done = Settlement{Settled: pb.Settled_SETTLED_DONE}

// Held is a prepared branch that waits for its decision.
type Held struct {
	Ref
	Priority rpc.Attempt
	// Since is when this process learned of it (its vote, or its start).
	Since time.Time
}

// MustWait is CommitOnePhase's error while another attempt of the id is held.
func MustWait(ref Ref, why string) error {
	return rpc.Errorf(rpc.ReasonOtherHeld, "attempt %s of %s must wait: %s", ref.Attempt, ref.ID, why)
}

// Transient marks an error that may pass by itself: a lost connection, a
// busy database. The runtime tries again.
func Transient(err error) error {
	if err == nil {
		return nil
	}
	return &transientError{err}
}

// IsTransient reports whether err was marked by Transient.
func IsTransient(err error) bool {
	var t *transientError
	return errors.As(err, &t)
}

type transientError struct{ err error }

func (e *transientError) Error() string { return e.err.Error() }
func (e *transientError) Unwrap() error { return e.err }
