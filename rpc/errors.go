package rpc

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/concordat-tx/concordat/fsm"
)

// Error is the one error of the wire: a reason from the table and what a
// caller needs to act on it. A handler returns it as it is; gRPC sends it with
// its code and details, and FromError reads it back. Empty fields are not sent.
type Error struct {
	Reason ErrorReason
	// Message says what happened and what to do.
	Message string
	// Field and Limit name what is outside which limit.
	Field string
	Limit string
	// Txn is the transaction that is concerned or in the way.
	Txn string
	// Participant is the participant that is concerned.
	Participant string
	// LeaderID and LeaderAddress (of the rpc listener) tell where the leader is.
	LeaderID      string
	LeaderAddress string
	// RetryAfter is a hint: sooner makes no sense.
	RetryAfter time.Duration
	// Details are further facts, by name. They must not use the names of the fields above.
	Details map[string]string

	cause error
}

// Keys of the fields in the metadata of an ErrorInfo.
const (
	keyField         = "field"
	keyLimit         = "limit"
	keyTxn           = "txn"
	keyParticipant   = "participant"
	keyLeaderID      = "leader_id"
	keyLeaderAddress = "leader_address"
)

// Errorf makes an Error. A %w keeps the cause for errors.Is within the
// process; only its text is sent.
func Errorf(reason ErrorReason, format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	return &Error{Reason: reason, Message: err.Error(), cause: errors.Unwrap(err)}
}

// FieldErrorf makes an INVALID_ARGUMENT about one field. limit is human text,
// such as "1 to 64 branches"; format says what was found.
func FieldErrorf(field, limit, format string, args ...any) *Error {
	return fieldError(&fsm.FieldError{Field: field, Limit: limit, Got: fmt.Sprintf(format, args...)})
}

func fieldError(fe *fsm.FieldError) *Error {
	return &Error{Reason: ReasonInvalidArgument, Message: fe.Error(), Field: fe.Field, Limit: fe.Limit, cause: fe}
}

// Error is the reason and the message.
func (e *Error) Error() string { return string(e.Reason) + ": " + e.Message }

// Unwrap is the cause, if the error was made in this process.
func (e *Error) Unwrap() error { return e.cause }

// Definite reports whether this very call began and changed nothing. An
// earlier call under the same id may still have.
func (e *Error) Definite() bool { return e.Reason.Definite() }

// Retryable reports whether repeating the call, by the same id, can help soon.
func (e *Error) Retryable() bool { return e.Reason.Retryable() }

// GRPCStatus is the error as gRPC sends it.
func (e *Error) GRPCStatus() *status.Status {
	st := status.New(e.Reason.Code(), e.Message)
	meta := make(map[string]string, len(e.Details)+4)
	maps.Copy(meta, e.Details)
	for _, f := range e.fields() {
		if *f.value != "" {
			meta[f.key] = *f.value
		}
	}
	details := []protoadapt.MessageV1{
		&errdetails.ErrorInfo{Reason: string(e.Reason), Domain: ErrorDomain, Metadata: meta},
	}
	if e.Field != "" {
		details = append(details, &errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{
			{Field: e.Field, Description: e.Message},
		}})
	}
	if e.RetryAfter > 0 {
		details = append(details, &errdetails.RetryInfo{RetryDelay: durationpb.New(e.RetryAfter)})
	}
	full, err := st.WithDetails(details...)
	if err != nil {
		return st // only a code of OK fails, and the table has none
	}
	return full
}

type errorField struct {
	key   string
	value *string
}

func (e *Error) fields() []errorField {
	return []errorField{
		{keyField, &e.Field}, {keyLimit, &e.Limit}, {keyTxn, &e.Txn}, {keyParticipant, &e.Participant},
		{keyLeaderID, &e.LeaderID}, {keyLeaderAddress, &e.LeaderAddress},
	}
}

// FromError reads any error as an Error: one of ours (also wrapped), a gRPC
// status, an UnknownOutcome, a field error, the end of a context; anything
// else is INTERNAL. nil stays nil.
func FromError(err error) *Error {
	if err == nil {
		return nil
	}
	if u, ok := errors.AsType[*UnknownOutcome](err); ok {
		return u.wire()
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	if fe, ok := errors.AsType[*fsm.FieldError](err); ok {
		return fieldError(fe)
	}
	if s, ok := errors.AsType[interface {
		error
		GRPCStatus() *status.Status
	}](err); ok && s.GRPCStatus().Code() != codes.OK {
		return fromStatus(s.GRPCStatus())
	}
	reason := ReasonInternal
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		reason = ReasonDeadline
	case errors.Is(err, context.Canceled):
		reason = ReasonCancelled
	}
	return &Error{Reason: reason, Message: err.Error(), cause: err}
}

func fromStatus(st *status.Status) *Error {
	e := &Error{Reason: reasonOfCode(st.Code()), Message: st.Message()}
	for _, d := range st.Details() {
		switch d := d.(type) {
		case *errdetails.ErrorInfo:
			if d.GetDomain() == ErrorDomain {
				e.Reason = ErrorReason(d.GetReason())
				e.readMetadata(d.GetMetadata())
			}
		case *errdetails.RetryInfo:
			e.RetryAfter = d.GetRetryDelay().AsDuration()
		}
	}
	switch st.Code() {
	case codes.DeadlineExceeded:
		e.cause = context.DeadlineExceeded
	case codes.Canceled:
		e.cause = context.Canceled
	}
	return e
}

func (e *Error) readMetadata(meta map[string]string) {
	rest := maps.Clone(meta)
	for _, f := range e.fields() {
		*f.value = rest[f.key]
		delete(rest, f.key)
	}
	if len(rest) > 0 {
		e.Details = rest
	}
}

// ReasonOf is the reason of err, as FromError reads it; empty for nil.
func ReasonOf(err error) ErrorReason {
	if err == nil {
		return ""
	}
	return FromError(err).Reason
}
