package cluster

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// verifier lets concurrent callers share rounds of heartbeats. A caller only
// shares a round that begins after its call, so there is at most one round
// under way and one waiting.
type verifier struct {
	mu      sync.Mutex // guards what follows
	running bool
	next    *verifyRound // not begun; nil if nobody waits for it
}

type verifyRound struct {
	done chan struct{}
	err  error // readable once done is closed
}

// join returns a round that has not begun and, if none is running, begins it.
func (v *verifier) join(verify func() error) *verifyRound {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.next == nil {
		v.next = &verifyRound{done: make(chan struct{})}
	}
	round := v.next
	if !v.running {
		v.running = true
		go v.run(verify)
	}
	return round
}

// run carries out rounds until nobody waits.
func (v *verifier) run(verify func() error) {
	for {
		v.mu.Lock()
		round := v.next
		v.next = nil
		if round == nil {
			v.running = false
			v.mu.Unlock()
			return
		}
		v.mu.Unlock()
		round.err = verify()
		close(round.done)
	}
}

// VerifyLeader returns nil if, after the call began, a majority confirmed that
// this node leads, in the term of its running leadership. What View shows
// afterwards includes everything that was acknowledged before the call.
func (r *Replica) VerifyLeader(ctx context.Context) error {
	led, ok := r.leadership.current()
	if !ok {
		return fmt.Errorf("verify leadership: %w", ErrNotLeading)
	}
	round := r.verifier.join(r.verifyOnce)
	select {
	case <-round.done:
	case <-ctx.Done():
		return fmt.Errorf("verify leadership: %w", ctx.Err())
	}
	if round.err != nil {
		return fmt.Errorf("verify leadership: %w", round.err)
	}
	// Leadership lost and won again has a term whose barrier has not passed.
	if r.raft.Load().CurrentTerm() != led.Term {
		return fmt.Errorf("verify leadership: %w", ErrNotLeading)
	}
	return nil
}

// verifyOnce asks the followers until a majority has answered a question asked
// after it began. Each of Raft's rounds uses up at least one older answer, and
// few are ever under way, so this ends.
func (r *Replica) verifyOnce() error {
	began := time.Now()
	led, ok := r.leadership.current()
	if !ok {
		return ErrNotLeading
	}
	for {
		err := r.await(context.Background(), func() error { return r.raft.Load().VerifyLeader().Error() })
		if err != nil {
			return err
		}
		if r.followedSince(led.Term, began) {
			return nil
		}
	}
}

// followedSince reports whether a majority said after t that it follows this node.
func (r *Replica) followedSince(term uint64, t time.Time) bool {
	voters, yes := 0, 0
	for _, s := range r.raft.Load().GetConfiguration().Configuration().Servers {
		if s.Suffrage != raft.Voter {
			continue
		}
		voters++
		if string(s.ID) == r.cfg.NodeID || r.trans.followed.since(s.ID, term, t) {
			yes++
		}
	}
	return yes >= voters/2+1
}
