package cluster

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/hashicorp/raft"
)

func TestOutcomeOf(t *testing.T) {
	for _, tc := range []struct {
		err  error
		want Outcome
	}{
		{nil, Applied},
		{raft.ErrNotLeader, NotApplied},
		{raft.ErrEnqueueTimeout, NotApplied},
		{raft.ErrLeadershipTransferInProgress, NotApplied},
		{ErrNotLeading, NotApplied},
		{ErrQueueFull, NotApplied},
		{ErrTooLarge, NotApplied},
		{ErrUnencodable, NotApplied},
		{ErrClosed, NotApplied},
		{ErrWithdrawn, NotApplied},
		{fmt.Errorf("%w: %w", ErrWithdrawn, context.DeadlineExceeded), NotApplied},
		{fmt.Errorf("propose: %w", raft.ErrNotLeader), NotApplied},
		{raft.ErrLeadershipLost, Unknown},
		{raft.ErrRaftShutdown, Unknown},
		{raft.ErrAbortedByRestore, Unknown},
		{ErrAbandoned, Unknown},
		{context.Canceled, Unknown},
		{context.DeadlineExceeded, Unknown},
		{fmt.Errorf("the command is under way: %w", context.DeadlineExceeded), Unknown},
		{errors.New("node is not the leader"), Unknown}, // only the error itself counts, not its words
	} {
		t.Run(fmt.Sprint(tc.err), func(t *testing.T) {
			if got := OutcomeOf(tc.err); got != tc.want {
				t.Errorf("%v, should be %v", got, tc.want)
			}
		})
	}
}
