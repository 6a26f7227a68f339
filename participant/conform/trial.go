package conform

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// trial is one check under way. Its methods demand an answer and end the check
// with a failure if they get another; they are for the check's own goroutine,
// but for the try… ones.
type trial struct {
	*session
	ctx context.Context

	mu   sync.Mutex // guards open
	open map[ref]branch
}

// skip ends a check that turns out not to apply.
type skip string

// fail ends the check.
func (t *trial) fail(sent, expected, format string, args ...any) {
	panic(&failure{sent, expected, fmt.Sprintf(format, args...)})
}

// vote is the answer to a Prepare. The refusal BELOW_FLOOR counts as
// ABORTED(SUPERSEDED), which says the same.
type vote struct {
	kind   pb.Vote
	code   pb.Reason_Code
	result []byte
	lost   bool // the result was not kept
	err    error
}

func (v vote) String() string {
	switch {
	case v.err != nil:
		return "the error " + v.err.Error()
	case v.kind == pb.Vote_VOTE_ABORTED:
		return fmt.Sprintf("%s(%s)", v.kind, v.code)
	}
	return fmt.Sprintf("%s with result %.200q", v.kind, v.result)
}

// superseded reports a refusal of work that is finished, rolled back or out of date.
func (v vote) superseded() bool {
	return v.err == nil && v.kind == pb.Vote_VOTE_ABORTED && v.code == pb.Reason_SUPERSEDED
}

// ack is the answer to a Commit or Rollback.
type ack struct {
	settled pb.Settled
	err     error
}

func (a ack) String() string {
	if a.err != nil {
		return "the error " + a.err.Error()
	}
	return a.settled.String()
}

// prepareOf is the Prepare of b as the cluster would send it.
func (t *trial) prepareOf(b branch) *pb.PrepareRequest {
	return &pb.PrepareRequest{
		Fence: t.fence(), Branch: t.proto(b), Priority: rpc.AttemptProto(b.priority), Payload: b.payload,
		BudgetMs: uint32(callTimeout.Milliseconds()),
	}
}

// tryPrepare sends a Prepare and reads the answer.
func (t *trial) tryPrepare(req *pb.PrepareRequest) vote {
	ctx, cancel := context.WithTimeout(t.ctx, callTimeout)
	defer cancel()
	resp, err := t.client.Prepare(ctx, req)
	switch {
	case rpc.ReasonOf(err) == rpc.ReasonBelowFloor:
		return vote{kind: pb.Vote_VOTE_ABORTED, code: pb.Reason_SUPERSEDED}
	case err != nil:
		return vote{err: rpc.FromError(err)}
	case !matches(req.GetBranch(), resp.GetBranch()):
		return vote{err: fmt.Errorf("an answer about another branch: %v", resp.GetBranch())}
	case resp.GetIncarnation() != t.incarnation:
		return vote{err: fmt.Errorf("an answer of incarnation %q, where Describe says %q", resp.GetIncarnation(), t.incarnation)}
	}
	return vote{kind: resp.GetVote(), code: resp.GetReason().GetCode(), result: resp.GetResult()}
}

// trySettle sends a Commit or Rollback.
func (t *trial) trySettle(fence *pb.Fence, b branch, commit bool) ack {
	ctx, cancel := context.WithTimeout(t.ctx, callTimeout)
	defer cancel()
	return t.settleWithin(ctx, fence, b, commit)
}

func (t *trial) settleWithin(ctx context.Context, fence *pb.Fence, b branch, commit bool) ack {
	var resp *pb.SettleResponse
	var err error
	if commit {
		resp, err = t.client.Commit(ctx, &pb.CommitRequest{Fence: fence, Branch: t.proto(b)})
	} else {
		resp, err = t.client.Rollback(ctx, &pb.RollbackRequest{Fence: fence, Branch: t.proto(b)})
	}
	switch {
	case err != nil:
		return ack{err: rpc.FromError(err)}
	case !matches(t.proto(b), resp.GetBranch()):
		return ack{err: fmt.Errorf("an answer about another branch: %v", resp.GetBranch())}
	}
	if resp.GetSettled() == pb.Settled_SETTLED_DONE {
		t.closed(b)
	}
	return ack{settled: resp.GetSettled()}
}

// opened notes that b may be prepared, closed that it is not any more.
func (t *trial) opened(b branch) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.open[b.ref()] = b
}

func (t *trial) closed(b branch) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.open, b.ref())
}

// cleanUp rolls back what a check has left prepared. Whether that works is not
// the check's to judge any more.
func (t *trial) cleanUp() {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.ctx), 2*time.Second)
	defer cancel()
	t.mu.Lock()
	left := make([]branch, 0, len(t.open))
	for _, b := range t.open {
		left = append(left, b)
	}
	t.mu.Unlock()
	for _, b := range left {
		t.desk.answer(b, pb.BranchOutcome_ABORT)
		_ = t.settleWithin(ctx, t.fence(), b, false)
	}
}

// vote sends a Prepare and notes what it may leave.
func (t *trial) vote(b branch) vote {
	v := t.tryPrepare(t.prepareOf(b))
	if v.err != nil || v.kind == pb.Vote_VOTE_PREPARED {
		t.opened(b)
	}
	return v
}

// prepared demands PREPARED.
func (t *trial) prepared(b branch) vote {
	v := t.vote(b)
	if v.err != nil || v.kind != pb.Vote_VOTE_PREPARED {
		t.fail("Prepare of "+b.String(), "VOTE_PREPARED", "%s", v)
	}
	return v
}

// sameVote demands PREPARED with the result of the first vote.
func (t *trial) sameVote(b branch, first vote) {
	if v := t.prepared(b); !bytes.Equal(v.result, first.result) {
		t.fail("Prepare again of "+b.String(), fmt.Sprintf("the result of the first vote, %.200q", first.result), "%.200q", v.result)
	}
}

// awaitPrepared is prepared, but for locks that may still be let go.
func (t *trial) awaitPrepared(b branch) {
	deadline := time.Now().Add(t.cfg.Patience)
	for {
		v := t.vote(b)
		switch {
		case v.err == nil && v.kind == pb.Vote_VOTE_PREPARED:
			return
		case v.err != nil || v.code != pb.Reason_CONFLICT || time.Now().After(deadline):
			t.fail("Prepare of "+b.String()+" on a key that is free again", "VOTE_PREPARED", "%s", v)
		}
		t.pause(pollEvery)
	}
}

// aborted demands ABORTED with one of the codes.
func (t *trial) aborted(b branch, codes ...pb.Reason_Code) {
	v := t.vote(b)
	for _, code := range codes {
		if v.err == nil && v.kind == pb.Vote_VOTE_ABORTED && v.code == code {
			return
		}
	}
	t.fail("Prepare of "+b.String(), fmt.Sprintf("VOTE_ABORTED%v", codes), "%s", v)
}

// superseded demands that nothing is run: what was finished, rolled back or
// overtaken stays so.
func (t *trial) superseded(b branch) { t.aborted(b, pb.Reason_SUPERSEDED) }

const (
	done = pb.Settled_SETTLED_DONE
	// unanswered stands for no acknowledgement: the error OTHER_HELD.
	unanswered = pb.Settled_SETTLED_UNSPECIFIED
)

// commit demands what a Commit finds.
func (t *trial) commit(b branch, want pb.Settled) { t.settle(b, true, want) }

// rollback demands what a Rollback finds.
func (t *trial) rollback(b branch, want pb.Settled) { t.settle(b, false, want) }

func (t *trial) settle(b branch, commit bool, want pb.Settled) {
	got := t.trySettle(t.fence(), b, commit)
	sent, expected := verb(commit)+" of "+b.String(), want.String()
	if want == unanswered {
		expected = "the error OTHER_HELD (UNAVAILABLE)"
		if rpc.ReasonOf(got.err) == rpc.ReasonOtherHeld {
			return
		}
	} else if got.err == nil && got.settled == want {
		return
	}
	t.fail(sent, expected, "%s", got)
}

func verb(commit bool) string {
	if commit {
		return "Commit"
	}
	return "Rollback"
}

// refusedWith demands an error of that reason, with its code.
func (t *trial) refusedWith(sent string, err error, reason rpc.ErrorReason) {
	if rpc.ReasonOf(err) == reason {
		return
	}
	got := "an answer instead of an error"
	if err != nil {
		got = "the error " + rpc.FromError(err).Error()
	}
	t.fail(sent, fmt.Sprintf("the error %s (%s)", reason, reason.Code()), "%s", got)
}

// effect demands the committed count of key. It reads as a transaction does:
// a branch that gets the key and is rolled back.
func (t *trial) effect(key string, want int64) {
	if t.cfg.Payload != "" {
		return
	}
	got := t.count(key)
	if got != want {
		t.fail(fmt.Sprintf("get of %s, in a branch of its own", key), fmt.Sprintf("the value %d", want), "%d", got)
	}
}

// count reads key. Locks of a branch settled a moment ago may still be let go.
func (t *trial) count(key string) int64 {
	deadline := time.Now().Add(t.cfg.Patience)
	for {
		b := t.on(key).with(key, get(key))
		v := t.vote(b)
		conflict := v.err == nil && v.kind == pb.Vote_VOTE_ABORTED && v.code == pb.Reason_CONFLICT
		if conflict && time.Now().Before(deadline) {
			t.pause(pollEvery)
			continue
		}
		if v.err != nil || v.kind == pb.Vote_VOTE_ABORTED {
			t.fail("Prepare of a branch that gets "+key, "VOTE_PREPARED or VOTE_READ_ONLY", "%s", v)
		}
		n, err := counted(v.result)
		if err != nil {
			t.fail("Prepare of a branch that gets "+key, `{"results":[{"key":…,"exists":…,"value":…}]}`, "%s: %v", v, err)
		}
		if v.kind == pb.Vote_VOTE_PREPARED {
			t.rollback(b, done)
		}
		return n
	}
}

// pause waits a little, or for the end of the run.
func (t *trial) pause(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-t.ctx.Done():
	}
}

// crash kills the participant and waits until it serves again.
func (t *trial) crash() {
	if err := t.restart(t.ctx); err != nil {
		t.fail("kill -9 and a new start", "that the participant serves again", "%v", err)
	}
}
