package rpc

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/rpc/pb"
)

const (
	// Before a new try after a conflict: short at first, doubling, since every
	// try that conflicts again costs the log as much as one that commits.
	conflictPauseMin = 20 * time.Millisecond
	conflictPauseMax = 320 * time.Millisecond
	// conflictTryMin is what must be left of the deadline for a new try after a
	// conflict: a shorter one would trade an answer for an unknown outcome.
	conflictTryMin = 50 * time.Millisecond
	// maxSinceRefresh bounds how often a stale since of ours is replaced.
	maxSinceRefresh = 3
	// completedReserve is what a Submit that waits for COMPLETED keeps of its
	// deadline to ask for the decision alone; at most a tenth of what is left.
	completedReserve = 250 * time.Millisecond
)

// SubmitOption changes one Submit.
type SubmitOption func(*submitOptions)

type submitOptions struct {
	conflictRetry bool
	overloadRetry bool
}

// WithConflictRetry says whether a transaction that was aborted with CONFLICT
// is tried again until the deadline (the default), under the ids of DerivedID
// and with retry_of, so that it keeps its priority (P12). The answer names the
// id that it is about.
func WithConflictRetry(on bool) SubmitOption {
	return func(o *submitOptions) { o.conflictRetry = on }
}

// WithOverloadRetry says whether an OVERLOADED refusal is tried again until
// the deadline (the default) or returned at once.
func WithOverloadRetry(on bool) SubmitOption {
	return func(o *submitOptions) { o.overloadRetry = on }
}

// NewID makes a transaction id: a random one, ordered by time, of 32 bytes.
func NewID() (string, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return "", Errorf(ReasonInternal, "the system gives no random numbers: %w", err)
	}
	return hex.EncodeToString(id[:]), nil
}

// Submit runs a whole transaction and returns one of three things:
//
//   - an answer: COMMIT or ABORT, both with a nil error. With wait COMPLETED, an
//     answer that comes at the deadline may still have Pending participants.
//   - an *Error: a definite refusal; this call has begun nothing. EXPIRED means
//     that an earlier call may have, with the same id and since.
//   - an *UnknownOutcome: it may have begun, and ctx ended (or a node refused
//     the repetition) before the outcome was learned.
//
// An empty id is made here, before anything is sent, and so is an absent
// since; every try repeats both (P10). req is not changed. Without a deadline
// on ctx, DefaultDeadline holds: how long the caller waits, not the budget of
// the transaction, which is req.Timeout and goes on without the caller.
func (c *Client) Submit(ctx context.Context, req *pb.SubmitRequest, opts ...SubmitOption) (*pb.TransactionResponse, error) {
	o := submitOptions{conflictRetry: true, overloadRetry: true}
	for _, opt := range opts {
		opt(&o)
	}
	ctx, cancel := bounded(ctx)
	defer cancel()
	s, err := c.newSubmission(ctx, req, o)
	if err != nil {
		return nil, err
	}
	var last *pb.TransactionResponse
	for {
		resp, err := s.run(ctx)
		switch {
		case err == nil && !(o.conflictRetry && conflicted(resp)):
			return resp, nil
		case err == nil:
			last = resp
		case last != nil && isRefusal(err):
			// The last try did not begin; the one before it was answered.
			return last, nil
		default:
			return nil, err
		}
		deadline, _ := ctx.Deadline()
		if time.Until(deadline) < conflictTryMin || sleep(ctx, s.conflictPause()) != nil {
			return last, nil
		}
		s.next()
	}
}

func conflicted(resp *pb.TransactionResponse) bool {
	return resp.GetOutcome() == pb.Outcome_ABORT && resp.GetReason().GetCode() == pb.Reason_CONFLICT
}

// isRefusal reports whether err is a refusal that only lasted too long.
func isRefusal(err error) bool {
	e := FromError(err)
	return e.Definite() && e.Retryable()
}

// submission is one Submit on its way, under one id after the other.
type submission struct {
	client  *Client
	options submitOptions
	req     *pb.SubmitRequest // ours: a shallow copy
	base    string            // the id of the first try
	tries   int               // derived ids used so far
	// ownSince: the since was made here, so it may be replaced while nothing was sent.
	ownSince  bool
	refreshes int
}

func (c *Client) newSubmission(ctx context.Context, req *pb.SubmitRequest, o submitOptions) (*submission, error) {
	s := &submission{client: c, options: o, base: req.GetId(), req: &pb.SubmitRequest{
		Branches: req.GetBranches(), Wait: req.GetWait(), Timeout: req.GetTimeout(), RetryOf: req.GetRetryOf(),
	}}
	if s.base == "" {
		id, err := NewID()
		if err != nil {
			return nil, err
		}
		s.base = id
	}
	if err := fsm.CheckID("id", s.base); err != nil {
		return nil, FromError(err)
	}
	s.req.Id = s.base
	if size := proto.Size(s.req); size > MaxRequestBytes {
		return nil, FieldErrorf("branches", fmt.Sprintf("at most %d bytes of request", MaxRequestBytes), "%d", size)
	}
	if req.Since != nil {
		s.req.Since = proto.Uint64(req.GetSince())
		return s, nil
	}
	s.ownSince = true
	if c.Index() == 0 {
		if _, err := c.Status(ctx, ""); err != nil {
			return nil, err
		}
	}
	s.req.Since = proto.Uint64(c.Index())
	return s, nil
}

// conflictPause is how long to wait before the next try.
func (s *submission) conflictPause() time.Duration {
	pause := conflictPauseMin
	for n := 0; n < s.tries && pause < conflictPauseMax; n++ {
		pause *= 2
	}
	pause = min(pause, conflictPauseMax)
	return jitter(pause/4, pause)
}

// next turns to the next derived id, which inherits the priority of the try before it.
func (s *submission) next() {
	s.tries++
	s.req.RetryOf = s.req.Id
	s.req.Id = DerivedID(s.base, s.tries)
}

// DerivedID is the id of the n-th new try of a transaction that was aborted
// with CONFLICT: <base>.r<n>-<the first 8 digits of base's SHA-256>, which no
// caller takes for an id of their own by chance, as "booking.1" might be. Where
// that has more than 48 bytes, base is cut and 16 digits tell it from others
// that begin alike.
func DerivedID(base string, n int) string {
	hash := sha256.Sum256([]byte(base))
	tail := fmt.Sprintf(".r%d-%x", n, hash[:4])
	if len(base)+len(tail) <= fsm.MaxIDBytes {
		return base + tail
	}
	tail = fmt.Sprintf(".r%d-%x", n, hash[:8])
	return base[:fsm.MaxIDBytes-len(tail)] + tail
}

// run brings the current id to an answer. See Submit for its errors.
func (s *submission) run(ctx context.Context) (*pb.TransactionResponse, error) {
	tries, cancel := s.keepReserve(ctx)
	defer cancel()
	resp, sent, e := s.repeat(tries)
	if e == nil {
		return resp, nil
	}
	if !sent {
		return nil, e
	}
	if s.req.Wait == pb.Wait_COMPLETED && ctx.Err() == nil && tries.Err() != nil {
		if resp := s.decision(ctx); resp != nil {
			return resp, nil
		}
	}
	return nil, &UnknownOutcome{ID: s.req.Id, Since: s.req.GetSince(), Err: e}
}

// repeat sends the current id again and again until it is answered, refused
// for good, or ctx ends. sent: some try may have begun.
func (s *submission) repeat(ctx context.Context) (resp *pb.TransactionResponse, sent bool, e *Error) {
	var b retryBackoff
	last := lastWord{nodes: len(s.client.route.known())}
	for {
		var redirected bool
		resp, e, redirected = s.try(ctx, s.req)
		if e == nil {
			return resp, true, nil
		}
		sent = sent || !e.Definite()
		told := last.after(ctx, e)
		switch {
		case e.Reason == ReasonExpired && !sent && s.refreshSince(ctx):
			continue
		case !e.Retryable(), e.Reason == ReasonOverloaded && !sent && !s.options.overloadRetry:
			return nil, sent, e
		}
		if b.pause(ctx, e, redirected) != nil {
			return nil, sent, told
		}
	}
}

func (s *submission) try(ctx context.Context, req *pb.SubmitRequest) (*pb.TransactionResponse, *Error, bool) {
	var resp *pb.TransactionResponse
	e, redirected := s.client.tryNext(ctx, func(ctx context.Context, conn *Conn) (err error) {
		resp, err = pb.NewCoordinatorClient(conn).Submit(ctx, req)
		if err == nil && resp.GetOutcome() == pb.Outcome_OUTCOME_UNSPECIFIED {
			return Errorf(ReasonOutcomeUnknown, "%s answered before the decision", conn.Target())
		}
		return err
	})
	if e != nil {
		return nil, e, redirected
	}
	s.client.sawTransaction(resp)
	s.client.route.ranBy(resp.GetNode())
	return resp, nil, false
}

// refreshSince replaces a since of ours that turned out too old. Every node is
// asked, because a lagging one may hand out an old index again.
func (s *submission) refreshSince(ctx context.Context) bool {
	if !s.ownSince || s.refreshes == maxSinceRefresh {
		return false
	}
	s.refreshes++
	s.client.StatusAll(ctx)
	if index := s.client.Index(); index > s.req.GetSince() {
		s.req.Since = proto.Uint64(index)
		return true
	}
	return false
}

// keepReserve shortens the deadline of a Submit that waits for COMPLETED.
func (s *submission) keepReserve(ctx context.Context) (context.Context, context.CancelFunc) {
	deadline, ok := ctx.Deadline()
	if !ok || s.req.Wait != pb.Wait_COMPLETED {
		return context.WithCancel(ctx)
	}
	return context.WithDeadline(ctx, deadline.Add(-min(completedReserve, time.Until(deadline)/10)))
}

// decision attaches once more, for the decision alone; nil if it is not learned.
func (s *submission) decision(ctx context.Context) *pb.TransactionResponse {
	req := &pb.SubmitRequest{
		Id: s.req.Id, Branches: s.req.Branches, Timeout: s.req.Timeout, RetryOf: s.req.RetryOf,
		Since: s.req.Since, Wait: pb.Wait_DECIDED,
	}
	resp, e, _ := s.try(ctx, req)
	if e != nil {
		return nil
	}
	return resp
}
