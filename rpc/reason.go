package rpc

import "google.golang.org/grpc/codes"

// ErrorReason says why a call was refused or failed. It travels as the reason
// of a google.rpc.ErrorInfo and never changes its meaning. It is not the
// reason of an abort (pb.Reason): an abort is an answer, not an error.
type ErrorReason string

// ErrorDomain is the domain of every ErrorInfo that Concordat sends.
const ErrorDomain = "concordat"

// The reasons. What follows from each stands in the table below.
const (
	// ReasonInvalidArgument: a field is outside its limit; Field and Limit name it.
	ReasonInvalidArgument ErrorReason = "INVALID_ARGUMENT"
	// ReasonIDReused: the id belongs to a transaction with other content.
	ReasonIDReused ErrorReason = "ID_REUSED"
	// ReasonNotFound: nothing is known of the id or name. It settles nothing (P10).
	ReasonNotFound ErrorReason = "NOT_FOUND"
	// ReasonExpired: the id is not known and what was known of it may have been forgotten since (P10).
	ReasonExpired ErrorReason = "EXPIRED"
	// ReasonNotLeader: ask the leader; LeaderAddress names it if it is known.
	ReasonNotLeader ErrorReason = "NOT_LEADER"
	// ReasonNoLeader: the node knows no leader, or cannot reach it.
	ReasonNoLeader ErrorReason = "NO_LEADER"
	// ReasonNotReady: the leader has not passed its barrier yet.
	ReasonNotReady ErrorReason = "NOT_READY"
	// ReasonOutcomeUnknown: the transaction may or may not have begun; repeat by id (P10).
	ReasonOutcomeUnknown ErrorReason = "OUTCOME_UNKNOWN"
	// ReasonParticipantUnavailable: a participant has too many undelivered branches, or none of its endpoints answers.
	ReasonParticipantUnavailable ErrorReason = "PARTICIPANT_UNAVAILABLE"
	// ReasonParticipantUnknown: the registry has no participant of that name.
	ReasonParticipantUnknown ErrorReason = "PARTICIPANT_UNKNOWN"
	// ReasonParticipantDraining: the participant is being removed and takes no new branch.
	ReasonParticipantDraining ErrorReason = "PARTICIPANT_DRAINING"
	// ReasonOverloaded: a queue or limit is full; RetryAfter is a hint.
	ReasonOverloaded ErrorReason = "OVERLOADED"
	// ReasonDiskReserve: the disk is nearly full; no new work until there is room.
	ReasonDiskReserve ErrorReason = "DISK_RESERVE"
	// ReasonStaleTerm: the message is of an older term than the participant has seen (P14).
	ReasonStaleTerm ErrorReason = "STALE_TERM"
	// ReasonWrongCluster: the message is of another cluster (P14).
	ReasonWrongCluster ErrorReason = "WRONG_CLUSTER"
	// ReasonWrongGeneration: the message is of another generation of the cluster (P14).
	ReasonWrongGeneration ErrorReason = "WRONG_GENERATION"
	// ReasonWrongParticipant: the message is meant for another participant (P14).
	ReasonWrongParticipant ErrorReason = "WRONG_PARTICIPANT"
	// ReasonWrongIncarnation: the participant's data are not the registered data (P14).
	ReasonWrongIncarnation ErrorReason = "WRONG_INCARNATION"
	// ReasonBelowFloor: the attempt is below the floor (P8).
	ReasonBelowFloor ErrorReason = "BELOW_FLOOR"
	// ReasonOtherHeld: another attempt of the id is held and must be settled first (P6).
	ReasonOtherHeld ErrorReason = "OTHER_HELD"
	// ReasonLocked: a read waited for a prepared writer, named by Txn, until its deadline (P13).
	ReasonLocked ErrorReason = "LOCKED"
	// ReasonShuttingDown: the process is stopping and took no part in the call.
	ReasonShuttingDown ErrorReason = "SHUTTING_DOWN"
	// ReasonDeadline: the call's deadline ended before the answer; the work goes on.
	ReasonDeadline ErrorReason = "DEADLINE"
	// ReasonCancelled: the caller gave up before the answer; the work goes on.
	ReasonCancelled ErrorReason = "CANCELLED"
	// ReasonNotDecided: a transaction that is not decided cannot be resolved.
	ReasonNotDecided ErrorReason = "NOT_DECIDED"
	// ReasonConflictingState: the state found does not allow what was asked.
	ReasonConflictingState ErrorReason = "CONFLICTING_STATE"
	// ReasonUnreachable: no connection could be made, so nothing was sent. Only clients make it.
	ReasonUnreachable ErrorReason = "UNREACHABLE"
	// ReasonConnectionLost: the connection or the process behind it was lost in mid-call.
	ReasonConnectionLost ErrorReason = "CONNECTION_LOST"
	// ReasonUnimplemented: the address answers, but does not serve this method.
	ReasonUnimplemented ErrorReason = "UNIMPLEMENTED"
	// ReasonInternal: a defect; the log of the process that sent it says more.
	ReasonInternal ErrorReason = "INTERNAL"
)

// reasonInfo is what follows from a reason.
type reasonInfo struct {
	code codes.Code
	// definite: this call began and changed nothing.
	definite bool
	// retry: repeating the same call, by the same id, can help soon; the client does it by itself.
	retry bool
}

// reasons is the one table of errors. OUTCOME_UNKNOWN is not UNAVAILABLE on
// purpose: generic retry policies repeat UNAVAILABLE calls, and a Submit whose
// id the node made must not be repeated so.
var reasons = map[ErrorReason]reasonInfo{
	ReasonInvalidArgument:        {codes.InvalidArgument, true, false},
	ReasonIDReused:               {codes.AlreadyExists, true, false},
	ReasonNotFound:               {codes.NotFound, true, false},
	ReasonExpired:                {codes.FailedPrecondition, true, false},
	ReasonNotLeader:              {codes.Unavailable, true, true},
	ReasonNoLeader:               {codes.Unavailable, true, true},
	ReasonNotReady:               {codes.Unavailable, true, true},
	ReasonOutcomeUnknown:         {codes.Unknown, false, true},
	ReasonParticipantUnavailable: {codes.Unavailable, true, false},
	ReasonParticipantUnknown:     {codes.FailedPrecondition, true, false},
	ReasonParticipantDraining:    {codes.FailedPrecondition, true, false},
	ReasonOverloaded:             {codes.ResourceExhausted, true, true},
	ReasonDiskReserve:            {codes.ResourceExhausted, true, false},
	ReasonStaleTerm:              {codes.FailedPrecondition, true, false},
	ReasonWrongCluster:           {codes.FailedPrecondition, true, false},
	ReasonWrongGeneration:        {codes.FailedPrecondition, true, false},
	ReasonWrongParticipant:       {codes.FailedPrecondition, true, false},
	ReasonWrongIncarnation:       {codes.FailedPrecondition, true, false},
	ReasonBelowFloor:             {codes.FailedPrecondition, true, false},
	ReasonOtherHeld:              {codes.Unavailable, true, true},
	ReasonLocked:                 {codes.Unavailable, true, true},
	ReasonShuttingDown:           {codes.Unavailable, true, true},
	ReasonDeadline:               {codes.DeadlineExceeded, false, true},
	ReasonCancelled:              {codes.Canceled, false, true},
	ReasonNotDecided:             {codes.FailedPrecondition, true, false},
	ReasonConflictingState:       {codes.FailedPrecondition, true, false},
	ReasonUnreachable:            {codes.Unavailable, true, true},
	ReasonConnectionLost:         {codes.Unavailable, false, true},
	ReasonUnimplemented:          {codes.Unimplemented, true, false},
	ReasonInternal:               {codes.Internal, false, false},
}

// info is the row of r; a reason of a newer version counts as INTERNAL.
func (r ErrorReason) info() reasonInfo {
	if i, ok := reasons[r]; ok {
		return i
	}
	return reasons[ReasonInternal]
}

// Code is the canonical gRPC code of the reason.
func (r ErrorReason) Code() codes.Code { return r.info().code }

// Definite reports whether a call that failed with r began and changed nothing.
func (r ErrorReason) Definite() bool { return r.info().definite }

// Retryable reports whether repeating the call, by the same id, can help soon.
func (r ErrorReason) Retryable() bool { return r.info().retry }

// reasonOfCode reads a status without an ErrorInfo: one that gRPC itself made,
// or a foreign server. UNAVAILABLE may be a connection lost after the request
// was sent, so it is not definite; RESOURCE_EXHAUSTED is a message over gRPC's
// size limit, which may be the answer's.
func reasonOfCode(c codes.Code) ErrorReason {
	switch c {
	case codes.InvalidArgument:
		return ReasonInvalidArgument
	case codes.NotFound:
		return ReasonNotFound
	case codes.Unavailable:
		return ReasonConnectionLost
	case codes.DeadlineExceeded:
		return ReasonDeadline
	case codes.Canceled:
		return ReasonCancelled
	case codes.Unimplemented:
		return ReasonUnimplemented
	}
	return ReasonInternal
}
