package rpc

import (
	"fmt"

	"google.golang.org/grpc/status"
)

// UnknownOutcome is the error of a Submit that may have begun and whose
// outcome was not learned: it may be committed, aborted, running, or never
// begin (P10). Submit of the same id, since and content settles it, and so
// does Abort of the id with that since; NOT_FOUND does not.
type UnknownOutcome struct {
	// ID is the id that was sent: of the last try, if the Submit was tried
	// again under a derived id after a conflict.
	ID string
	// Since is the since that was sent; repeat it.
	Since uint64
	// Err is what ended the wait.
	Err error
}

// Error names the id and what settles it.
func (u *UnknownOutcome) Error() string {
	return fmt.Sprintf("the outcome of transaction %s is not known (%v); submit it again with the same id, "+
		"since %d and content, or abort the id", u.ID, u.Err, u.Since)
}

// Unwrap is what ended the wait.
func (u *UnknownOutcome) Unwrap() error { return u.Err }

// GRPCStatus is OUTCOME_UNKNOWN with the id.
func (u *UnknownOutcome) GRPCStatus() *status.Status { return u.wire().GRPCStatus() }

func (u *UnknownOutcome) wire() *Error {
	return &Error{
		Reason: ReasonOutcomeUnknown, Message: u.Error(), Txn: u.ID,
		Details: map[string]string{"since": fmt.Sprint(u.Since)}, cause: u.Err,
	}
}
