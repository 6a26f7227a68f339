package participanttest

import (
	"context"
	"testing"

	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// Harness is one resource manager on one set of data, empty at first. The
// function given to Run makes a new one for every check; it registers its own
// clean-up with t.Cleanup (the suite leaves the last resource manager open).
type Harness struct {
	// Open opens the data; the suite calls it first and after every Crash, so
	// it must find what was durable.
	Open func(ctx context.Context) (participant.ResourceManager, error)
	// Crash abandons the open resource manager as a kill of the process would:
	// no clean shutdown that makes anything durable. Calls in flight fail. It
	// must leave the data in a state that Open can take. Calling it twice is harmless.
	Crash func() error
	// Work is a payload whose effect adds one to the committed count of key.
	Work func(key string) []byte
	// Refused is a payload whose work on key votes ABORTED(RefusedCode).
	Refused func(key string) []byte
	// RefusedCode is CONDITION if it is not set.
	RefusedCode pb.Reason_Code
	// Effect reads the committed count of key, without waiting for prepared
	// branches; 0 if there is none.
	Effect func(ctx context.Context, key string) (int64, error)
	// CrashAtWrite makes the n-th durable write from now on (1 is the next
	// one) crash the resource manager: right before it, so that nothing of it
	// is durable, or right after it, so that all of it is; either way the call
	// returns an error and every later call too, until the next Open. 0
	// disarms. Optional: without it those checks are skipped, and Run says so.
	CrashAtWrite func(n int, when When)
	// Exclusive says that a branch that is prepared keeps others off its key
	// until it is settled: they wait or vote ABORTED(CONFLICT).
	Exclusive bool
	// Outside says that effects are not in the data that Open opens, but with a
	// service that is told: a crash in a Commit may leave a branch held whose
	// effect is there already. It must be there once when the Commit has come again.
	Outside bool
}

// When says on which side of a durable write a crash falls.
type When int

// The sides of a durable write.
const (
	Before When = iota + 1
	After
)

func (w When) String() string {
	if w == Before {
		return "before"
	}
	return "after"
}

// Make makes a fresh harness. It gets a testing.TB because the suite also
// runs on recorders that turn failures into data.
type Make func(t testing.TB) Harness
