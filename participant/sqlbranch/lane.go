package sqlbranch

import "context"

// Lane lets the settlements of branches that are prepared, and hold locks, pass
// those of which nothing is here but an end to be noted: a database that was down
// comes back to hundreds of these, and has few sessions for them.
type Lane struct{ slow chan struct{} }

// NewLane makes a Lane for so many sessions, of which the slow ones get a half.
func NewLane(sessions int) *Lane { return &Lane{make(chan struct{}, max(1, sessions/2))} }

// Enter waits for a turn, unless a branch is prepared. Call leave at the end.
func (l *Lane) Enter(ctx context.Context, prepared bool) (leave func(), err error) {
	if prepared {
		return func() {}, nil
	}
	select {
	case l.slow <- struct{}{}:
		return func() { <-l.slow }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
