package bench

import (
	"context"
	"sync"
	"time"

	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

const (
	// maxUnsettled bounds the outcomes that wait to be learned, some 100 bytes each.
	maxUnsettled = 1 << 16
	// settlersAtOnce ask; settleTry bounds one question, settlePause comes before the next.
	settlersAtOnce = 16
	settleTry      = 5 * time.Second
	settlePause    = 200 * time.Millisecond
	// namedUnsettled is how many ids of outcomes that stay unknown are told.
	namedUnsettled = 20
)

// unsettled is a transaction whose outcome was not learned.
type unsettled struct {
	id     string
	since  uint64
	number uint64 // of the operation
}

// settler learns the outcomes that callers did not: by aborting the
// transaction by its id, which answers with the outcome if there is one, and
// makes one if there is none (P10). It begins at once, since a cluster forgets.
type settler struct {
	client *rpc.Client
	// learned is told what became of an operation, gaveUp of which it is not known.
	learned func(number uint64, commit bool)
	gaveUp  func(number uint64)
	queue   chan unsettled
	wg      sync.WaitGroup

	mu     sync.Mutex // guards what follows
	result UnknownOutcomes
}

func newSettler(ctx context.Context, client *rpc.Client, learned func(uint64, bool), gaveUp func(uint64)) *settler {
	s := &settler{client: client, learned: learned, gaveUp: gaveUp, queue: make(chan unsettled, maxUnsettled)}
	for range settlersAtOnce {
		s.wg.Go(func() {
			for u := range s.queue {
				s.settle(ctx, u)
			}
		})
	}
	return s
}

// add hands over an outcome to be learned.
func (s *settler) add(u unsettled) {
	s.mu.Lock()
	s.result.Total++
	s.mu.Unlock()
	select {
	case s.queue <- u:
	default:
		s.stays(u, "too many outcomes were to be learned")
	}
}

// waiting is how many outcomes are yet to be learned.
func (s *settler) waiting() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.result.Total - s.result.Committed - s.result.Aborted - s.result.Unresolved
}

// finish waits until every outcome is learned, or cannot be. It ends with the
// context of newSettler; nothing may be added any more.
func (s *settler) finish() UnknownOutcomes {
	close(s.queue)
	s.wg.Wait()
	return s.result
}

func (s *settler) settle(ctx context.Context, u unsettled) {
	why := "there was no time left to ask"
	for ctx.Err() == nil {
		try, cancel := context.WithTimeout(ctx, settleTry)
		resp, err := s.client.Abort(try, &pb.AbortRequest{Id: u.id, Since: &u.since, Message: "concordat bench settles an unknown outcome"})
		cancel()
		switch {
		case err == nil && resp.GetOutcome() != pb.Outcome_OUTCOME_UNSPECIFIED:
			s.settled(u, resp.GetOutcome() == pb.Outcome_COMMIT)
			return
		case err == nil:
			why = "the cluster has not decided"
		case !rpc.FromError(err).Retryable():
			s.stays(u, rpc.FromError(err).Error())
			return
		default:
			why = rpc.FromError(err).Error()
		}
		pause(ctx, settlePause)
	}
	s.stays(u, why)
}

func (s *settler) settled(u unsettled, commit bool) {
	s.mu.Lock()
	if commit {
		s.result.Committed++
	} else {
		s.result.Aborted++
	}
	s.mu.Unlock()
	s.learned(u.number, commit)
}

func (s *settler) stays(u unsettled, why string) {
	s.gaveUp(u.number)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.result.Unresolved++
	if len(s.result.UnresolvedIDs) < namedUnsettled {
		s.result.UnresolvedIDs = append(s.result.UnresolvedIDs, Unresolved{ID: u.id, Since: u.since, Why: why})
	}
}

// pause waits for d or the end of ctx.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
