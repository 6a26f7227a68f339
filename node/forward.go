package node

import (
	"context"
	"sync"
	"time"

	"github.com/concordat-tx/concordat/rpc"
)

// leaderWatchEvery is how often a node looks whether the leader has changed.
const leaderWatchEvery = 50 * time.Millisecond

// forwards are the calls that this node has forwarded. A leader that vanished,
// as a machine does that hangs, answers nothing and closes no connection: the
// calls to it end when another leads.
type forwards struct {
	mu    sync.Mutex // guards lives
	lives map[string]life
}

// life is how long calls forwarded to one leader may last.
type life struct {
	ctx context.Context
	end context.CancelFunc
}

// to is the life of calls forwarded to a leader.
func (f *forwards) to(leader string) context.Context {
	f.mu.Lock()
	defer f.mu.Unlock()
	l, ok := f.lives[leader]
	if !ok {
		l.ctx, l.end = context.WithCancel(context.Background())
		if f.lives == nil {
			f.lives = map[string]life{}
		}
		f.lives[leader] = l
	}
	return l.ctx
}

// follow ends the calls that were forwarded to anybody but leader.
func (f *forwards) follow(leader string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for id, l := range f.lives {
		if id != leader {
			l.end()
			delete(f.lives, id)
		}
	}
}

// watchLeader ends what was forwarded to a leader that another has followed.
func (n *Node) watchLeader(ctx context.Context) {
	defer n.forwards.follow("")
	for ; ctx.Err() == nil; pause(ctx, leaderWatchEvery) {
		if id := n.replica.LeaderID(); id != "" {
			n.forwards.follow(id)
		}
	}
}

// forward makes a call to the leader of that id. What it has begun there is
// not known if the leader is lost meanwhile (P10).
func forward[T any](ctx context.Context, n *Node, leader string, call func(context.Context) (T, error)) (T, error) {
	life := n.forwards.to(leader)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(life, cancel)()
	r, err := call(ctx)
	if err != nil && life.Err() != nil {
		return r, rpc.Errorf(rpc.ReasonConnectionLost, "node %s was leading when it was given the call, and does not lead any more: repeat the call, by the same id: %w", leader, err)
	}
	return r, err
}
