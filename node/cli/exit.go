package cli

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"

	"github.com/concordat-tx/concordat/rpc"
)

// Exit statuses, part of the interface.
const (
	exitDone        = 0 // done, or the submitted transaction committed
	exitError       = 1
	exitUsage       = 2
	exitAborted     = 3 // the submitted transaction aborted
	exitUnavailable = 4 // nobody could answer, or the outcome is not known
)

// usageError is a command line that makes no sense.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

func usageErrorf(format string, args ...any) error {
	return &usageError{fmt.Errorf(format, args...)}
}

// statusError ends the program with a status; what there is to say was said.
type statusError struct{ status int }

func (e *statusError) Error() string { return fmt.Sprintf("exit status %d", e.status) }

// report prints err on stderr and returns the exit status that it stands for.
func (a *app) report(cmd *cobra.Command, err error) int {
	if err == nil {
		return exitDone
	}
	if s, ok := errors.AsType[*statusError](err); ok {
		return s.status
	}
	if u, ok := errors.AsType[*rpc.UnknownOutcome](err); ok {
		fmt.Fprintf(a.stderr, "concordat: the outcome of transaction %s is not known: %v\n"+
			"It may still commit. To learn it, run the same command with --id %s --since %d; to stop it, 'concordat tx abort %s --since %d'.\n",
			u.ID, u.Err, u.ID, u.Since, u.ID, u.Since)
		return exitUnavailable
	}
	fmt.Fprintf(a.stderr, "concordat: %v\n", err)
	if _, ok := errors.AsType[*usageError](err); ok {
		fmt.Fprintf(a.stderr, "Run '%s --help' for usage.\n", cmd.CommandPath())
		return exitUsage
	}
	if e, ok := errors.AsType[*rpc.Error](err); ok && unavailable(e) {
		return exitUnavailable
	}
	return exitError
}

// unavailable reports whether the same command may well succeed a little later.
func unavailable(e *rpc.Error) bool {
	switch e.Reason.Code() {
	case codes.Unavailable, codes.ResourceExhausted, codes.DeadlineExceeded, codes.Canceled, codes.Unknown:
		return true
	}
	return false
}
