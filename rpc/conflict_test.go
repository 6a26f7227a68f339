package rpc

import (
	"context"
	"errors"
	"math"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// conflictUntil aborts with CONFLICT before try n, as far as wanted.
func conflictUntil(n int) func(context.Context, *pb.SubmitRequest, int) (*pb.TransactionResponse, error) {
	return func(ctx context.Context, req *pb.SubmitRequest, count int) (*pb.TransactionResponse, error) {
		if count >= n {
			return answer(pb.Outcome_COMMIT)(ctx, req, count)
		}
		return &pb.TransactionResponse{
			Id: req.GetId(), Outcome: pb.Outcome_ABORT,
			Reason: &pb.Reason{Code: pb.Reason_CONFLICT, Participant: "seats"},
		}, nil
	}
}

func TestSubmitRetriesConflicts(t *testing.T) {
	n := startNode(t)
	n.script(conflictUntil(4))
	req := booking()
	req.Id, req.RetryOf = "booking-42", "booking-41"
	resp, err := newTestClient(t, n).Submit(within(t, 10*time.Second), req)
	if err != nil || resp.GetOutcome() != pb.Outcome_COMMIT || resp.GetId() != DerivedID("booking-42", 3) {
		t.Fatalf("got %v, %v", resp, err)
	}
	var chain []string
	for _, r := range n.requests() {
		chain = append(chain, r.GetRetryOf()+"<-"+r.GetId())
		if r.GetSince() != 100 {
			t.Errorf("since %d, want that of the first try", r.GetSince())
		}
	}
	want := []string{
		"booking-41<-booking-42", "booking-42<-booking-42.r1-bea5749b", "booking-42.r1-bea5749b<-booking-42.r2-bea5749b",
		"booking-42.r2-bea5749b<-booking-42.r3-bea5749b",
	}
	if !slices.Equal(chain, want) {
		t.Errorf("tries %v, want %v", chain, want)
	}
}

func TestSubmitConflictAnswersInTheEnd(t *testing.T) {
	never := conflictUntil(1 << 30)
	thenOverloaded := func(ctx context.Context, req *pb.SubmitRequest, n int) (*pb.TransactionResponse, error) {
		if n == 1 {
			return never(ctx, req, n)
		}
		return nil, Errorf(ReasonOverloaded, "queue full")
	}
	for name, tc := range map[string]struct {
		script func(context.Context, *pb.SubmitRequest, int) (*pb.TransactionResponse, error)
		opts   []SubmitOption
		tries  int // 0: many
	}{
		"the deadline ends it":           {never, nil, 0},
		"retry is off":                   {never, []SubmitOption{WithConflictRetry(false)}, 1},
		"the last try could not even go": {thenOverloaded, nil, 0},
	} {
		t.Run(name, func(t *testing.T) {
			n := startNode(t)
			n.script(tc.script)
			resp, err := newTestClient(t, n).Submit(within(t, time.Second), booking(), tc.opts...)
			u, unknown := errors.AsType[*UnknownOutcome](err)
			switch {
			case unknown && tc.tries == 0 && strings.HasPrefix(u.ID, n.requests()[0].GetId()+"."):
				// A machine this slow let the deadline fall into a new try.
			case err != nil || !conflicted(resp):
				t.Fatalf("got %v, %v", resp, err)
			}
			if got := len(n.requests()); (tc.tries > 0 && got != tc.tries) || (tc.tries == 0 && got < 2) {
				t.Errorf("%d tries", got)
			}
		})
	}
}

func TestSubmitConflictThenUnknownNamesTheDerivedID(t *testing.T) {
	n := startNode(t)
	n.script(func(ctx context.Context, req *pb.SubmitRequest, count int) (*pb.TransactionResponse, error) {
		if count == 1 {
			return conflictUntil(2)(ctx, req, count)
		}
		return interrupted(ctx, req, count)
	})
	req := booking()
	req.Id = "a"
	_, err := newTestClient(t, n).Submit(within(t, time.Second), req)
	if u, ok := errors.AsType[*UnknownOutcome](err); !ok || u.ID != DerivedID("a", 1) {
		t.Errorf("got %v", err)
	}
}

func TestDerivedID(t *testing.T) {
	form := regexp.MustCompile(`\.r[0-9]+-([0-9a-f]{8}|[0-9a-f]{16})$`)
	rapid.Check(t, func(t *rapid.T) {
		base := rapid.StringMatching(`[A-Za-z0-9._-]{0,47}[A-Za-z0-9_-]`).Draw(t, "base")
		n := rapid.OneOf(rapid.IntRange(1, 100_000), rapid.Just(math.MaxInt)).Draw(t, "n")
		id := DerivedID(base, n)
		if err := fsm.CheckID("id", id); err != nil {
			t.Fatalf("%q: %v", id, err)
		}
		if id == base || n < math.MaxInt && id == DerivedID(base, n+1) || id != DerivedID(base, n) {
			t.Fatalf("%q of %q is not one of its own", id, base)
		}
		if !form.MatchString(id) {
			t.Fatalf("%q is no form that callers do not use themselves", id)
		}
	})
	for base, want := range map[string]string{
		"a":                     "a.r1-ca978112",
		strings.Repeat("a", 36): strings.Repeat("a", 36) + ".r1-22c1d24b",
		strings.Repeat("a", 37): strings.Repeat("a", 28) + ".r1-21ec055b38ce759c",
	} {
		if got := DerivedID(base, 1); got != want {
			t.Errorf("%q of %q, want %q", got, base, want)
		}
	}
	a, b := strings.Repeat("a", 47)+"a", strings.Repeat("a", 47)+"b"
	if DerivedID(a, 1) == DerivedID(b, 1) {
		t.Error("long ids with one head have one derived id")
	}
}

// A caller's own "booking.1" is not what a new try of "booking" runs under: the
// caller would be told of the other transaction's outcome.
func TestConflictRetryLeavesTheCallersIDsAlone(t *testing.T) {
	n := startNode(t)
	n.script(func(ctx context.Context, req *pb.SubmitRequest, count int) (*pb.TransactionResponse, error) {
		if req.GetId() == "booking.1" {
			return nil, Errorf(ReasonIDReused, "booking.1 is another transaction")
		}
		return conflictUntil(2)(ctx, req, count)
	})
	req := booking()
	req.Id = "booking"
	resp, err := newTestClient(t, n).Submit(within(t, 10*time.Second), req)
	if err != nil || resp.GetOutcome() != pb.Outcome_COMMIT || resp.GetId() != DerivedID("booking", 1) {
		t.Fatalf("got %v, %v", resp, err)
	}
}
