package rpc

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/concordat-tx/concordat/fsm"
)

// overTheWire is err as the other side gets it.
func overTheWire(t *testing.T, err error) error {
	t.Helper()
	st, ok := status.FromError(err)
	if !ok {
		t.Fatalf("%v carries no status", err)
	}
	b, merr := proto.Marshal(st.Proto())
	if merr != nil {
		t.Fatal(merr)
	}
	p := st.Proto()
	proto.Reset(p)
	if merr := proto.Unmarshal(b, p); merr != nil {
		t.Fatal(merr)
	}
	return status.FromProto(p).Err()
}

func TestErrorRoundTripOfEveryReason(t *testing.T) {
	for reason, row := range reasons {
		t.Run(string(reason), func(t *testing.T) {
			sent := Error{
				Reason: reason, Message: "what happened; what to do",
				Field: "branches[1].payload", Limit: "at most 64 KiB", Txn: "a.b-c", Participant: "seats",
				LeaderID: "n2", LeaderAddress: "127.0.0.1:7002", RetryAfter: 20 * time.Millisecond,
				Details: map[string]string{"found": "COMMITTED"},
			}
			wire := overTheWire(t, fmt.Errorf("wrapped: %w", &sent))
			if got := status.Code(wire); got != row.code {
				t.Errorf("code %v, want %v", got, row.code)
			}
			got := FromError(fmt.Errorf("again: %w", wire))
			want := sent
			if !maps.Equal(got.Details, want.Details) {
				t.Errorf("details %v, want %v", got.Details, want.Details)
			}
			got.Details, want.Details = nil, nil
			got.cause = nil // a deadline or cancellation is known again by its code
			// fmt.Errorf around the sent error puts its text first.
			want.Message = "wrapped: " + sent.Error()
			if fmt.Sprintf("%+v", *got) != fmt.Sprintf("%+v", want) {
				t.Errorf("got  %+v\nwant %+v", *got, want)
			}
			if got.Definite() != row.definite || got.Retryable() != row.retry {
				t.Errorf("definite %v retry %v, want %v %v", got.Definite(), got.Retryable(), row.definite, row.retry)
			}
		})
	}
}

// A generic retry policy repeats UNAVAILABLE: of what may have begun, only a
// lost connection may look so, and that is made by the client itself.
func TestUnavailableIsDefinite(t *testing.T) {
	for reason, row := range reasons {
		if row.code == codes.Unavailable && !row.definite && reason != ReasonConnectionLost {
			t.Errorf("%s is UNAVAILABLE and not definite", reason)
		}
	}
}

func TestFromError(t *testing.T) {
	cause := errors.New("disk on fire")
	for name, tc := range map[string]struct {
		err  error
		want ErrorReason
	}{
		"ours":                   {Errorf(ReasonLocked, "x"), ReasonLocked},
		"ours wrapped":           {fmt.Errorf("read: %w", Errorf(ReasonLocked, "x")), ReasonLocked},
		"field error":            {fmt.Errorf("submit: %w", fsm.CheckID("id", "")), ReasonInvalidArgument},
		"deadline":               {fmt.Errorf("x: %w", context.DeadlineExceeded), ReasonDeadline},
		"cancelled":              {context.Canceled, ReasonCancelled},
		"plain":                  {cause, ReasonInternal},
		"gRPC unavailable":       {status.Error(codes.Unavailable, "EOF"), ReasonConnectionLost},
		"gRPC deadline":          {status.Error(codes.DeadlineExceeded, ""), ReasonDeadline},
		"gRPC cancelled":         {status.Error(codes.Canceled, ""), ReasonCancelled},
		"gRPC not implemented":   {status.Error(codes.Unimplemented, ""), ReasonUnimplemented},
		"gRPC message too large": {status.Error(codes.ResourceExhausted, ""), ReasonInternal},
		"unknown outcome":        {&UnknownOutcome{ID: "a", Err: Errorf(ReasonConnectionLost, "x")}, ReasonOutcomeUnknown},
		"unknown outcome, wire":  {overTheWire(t, &UnknownOutcome{ID: "a", Err: cause}), ReasonOutcomeUnknown},
		"a newer reason":         {overTheWire(t, Errorf("FROM_THE_FUTURE", "x")), "FROM_THE_FUTURE"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := ReasonOf(tc.err); got != tc.want {
				t.Errorf("reason %s, want %s", got, tc.want)
			}
		})
	}
	if FromError(nil) != nil || ReasonOf(nil) != "" {
		t.Error("nil does not stay nil")
	}
	if future := FromError(Errorf("FROM_THE_FUTURE", "x")); future.Definite() || future.Retryable() {
		t.Error("a reason that is not known counts as definite or retryable")
	}
	if err := Errorf(ReasonInternal, "write: %w", cause); !errors.Is(err, cause) {
		t.Error("the cause is lost")
	}
	if err := overTheWire(t, Errorf(ReasonDeadline, "late")); !errors.Is(FromError(err), context.DeadlineExceeded) {
		t.Error("a deadline over the wire is not context.DeadlineExceeded")
	}
}

func TestFieldErrorTravels(t *testing.T) {
	err := overTheWire(t, FieldErrorf("branches", "1 to 64", "%d", 65))
	e := FromError(err)
	if e.Field != "branches" || e.Limit != "1 to 64" || e.Message != "branches: 1 to 64, got 65" {
		t.Errorf("got %+v", e)
	}
	for _, d := range status.Convert(err).Details() {
		if br, ok := d.(*errdetails.BadRequest); ok && br.GetFieldViolations()[0].GetField() == "branches" {
			return
		}
	}
	t.Error("no BadRequest names the field")
}

func TestUnknownOutcomeNamesIDAndSince(t *testing.T) {
	u := &UnknownOutcome{ID: "booking-42", Since: 77, Err: Errorf(ReasonConnectionLost, "gone")}
	e := FromError(overTheWire(t, u))
	if e.Txn != "booking-42" || e.Details["since"] != "77" {
		t.Errorf("got %+v", e)
	}
}
