package postgres

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/hashicorp/go-hclog"
	"github.com/jackc/pgx/v5"

	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// Work does the work of one branch in tx and returns its result. The
// transaction is the coordinator's to end: Commit and Rollback of tx are
// refused. An error undoes everything and votes ABORTED: one made by Abort with
// its code, one of the database by its SQLSTATE, any other one FAILED. One that
// may pass by itself (participant.Transient) makes the runtime try again.
//
// The branch runs in READ COMMITTED. It waits for a lock at most a second or a
// quarter of its budget, and its statements end with the budget.
type Work func(ctx context.Context, tx pgx.Tx, w participant.Work) (result []byte, err error)

// Options of a Store. Name and DSN are required.
type Options struct {
	// Name is the participant's. Several may share a database.
	Name string
	// DSN is the database's address, postgres://… or key=value. It may hold a
	// password: it is in no error and no log.
	DSN string
	// Work is the work of a branch; nil executes the statements of its payload.
	Work Work
	// Kind is what Identity says; empty is "postgres".
	Kind string
	// NewIncarnation gives the data a new incarnation, once: they were restored
	// from a backup (P14). An operator must then accept it.
	NewIncarnation bool
	// MaxBranches is how many branches are worked on at the same time, each on a
	// connection; 0 is 16. How many may be prepared is the server's max_prepared_transactions.
	MaxBranches int
	// Logger; nil logs nothing.
	Logger hclog.Logger

	// around lets tests stop before and after every durable write.
	around func(write func() error) error
	// familiar lets tests have every text count as one that has come before.
	familiar bool
	// dial lets tests cut the connections off.
	dial func(ctx context.Context, network, address string) (net.Conn, error)
}

const defaultMaxBranches = 16

func (o Options) withDefaults() (Options, error) {
	if err := fsm.CheckParticipant("Name", o.Name); err != nil {
		return o, err
	}
	if o.Kind == "" {
		o.Kind = "postgres"
	}
	if len(o.Kind) > fsm.MaxKindBytes {
		return o, &fsm.FieldError{Field: "Kind", Limit: fmt.Sprintf("at most %d bytes", fsm.MaxKindBytes), Got: fmt.Sprintf("%d bytes", len(o.Kind))}
	}
	if o.MaxBranches == 0 {
		o.MaxBranches = defaultMaxBranches
	}
	if o.MaxBranches < 1 || o.MaxBranches > 10_000 {
		return o, &fsm.FieldError{Field: "MaxBranches", Limit: "1 to 10000", Got: fmt.Sprint(o.MaxBranches)}
	}
	if o.DSN == "" {
		return o, errors.New("DSN: say which database, as postgres://USER:PASSWORD@HOST:PORT/DATABASE")
	}
	if o.Logger == nil {
		o.Logger = hclog.NewNullLogger()
	}
	if o.around == nil {
		o.around = func(write func() error) error { return write() }
	}
	return o, nil
}

// AbortError is the error of a Work that votes ABORTED.
type AbortError struct {
	Code    pb.Reason_Code
	Message string
}

func (e *AbortError) Error() string { return e.Code.String() + ": " + e.Message }

// Abort is the error that votes ABORTED with a code: CONDITION for what does
// not hold, APPLICATION for a reason of one's own.
func Abort(code pb.Reason_Code, format string, args ...any) error {
	return &AbortError{Code: code, Message: fmt.Sprintf(format, args...)}
}
