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
	lives map[string]*life
}

// life is how long calls forwarded to one leader may last.
type life struct {
	leader string
	ctx    context.Context
	end    context.CancelFunc
	// relays are for Submits that go on as they are, by connection; last is the one
	// that was used last. Guarded by forwards.
	relays map[*rpc.Conn]*rpc.Relay
	last   *rpc.Relay
}

// to is the life of calls forwarded to a leader.
func (f *forwards) to(leader string) *life {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.life(leader)
}

func (f *forwards) life(leader string) *life {
	l := f.lives[leader]
	if l == nil {
		l = &life{leader: leader, relays: map[*rpc.Conn]*rpc.Relay{}}
		l.ctx, l.end = context.WithCancel(context.Background())
		if f.lives == nil {
			f.lives = map[string]*life{}
		}
		f.lives[leader] = l
	}
	return l
}

// relay is the one to a leader over conn, or what fresh makes.
func (f *forwards) relay(leader string, conn *rpc.Conn, fresh func(*life) *rpc.Relay) *rpc.Relay {
	f.mu.Lock()
	defer f.mu.Unlock()
	l := f.life(leader)
	r := l.relays[conn]
	if r == nil {
		r = fresh(l)
		l.relays[conn] = r
	}
	l.last = r
	return r
}

// standing is the relay to a leader that was used last, if its stream stands: then
// its address needs no look at the state, which may be busy. nil: there is none.
func (f *forwards) standing(leader string) *rpc.Relay {
	f.mu.Lock()
	defer f.mu.Unlock()
	if l := f.lives[leader]; l != nil && l.last != nil && l.last.Stands() {
		return l.last
	}
	return nil
}

// follow ends the calls that were forwarded to anybody but leader.
func (f *forwards) follow(leader string) {
	for _, l := range f.leave(leader) {
		l.end()
		for _, r := range l.relays {
			r.End()
		}
	}
}

// leave takes out the lives of all but leader.
func (f *forwards) leave(leader string) (left []*life) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for id, l := range f.lives {
		if id != leader {
			left = append(left, l)
			delete(f.lives, id)
		}
	}
	return left
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
	defer context.AfterFunc(life.ctx, cancel)()
	r, err := call(ctx)
	return r, life.told(err)
}

// told is what the caller of a call is told of its error.
func (l *life) told(err error) error {
	if err != nil && l.ctx.Err() != nil {
		return rpc.Errorf(rpc.ReasonConnectionLost, "node %s was leading when it was given the call, and does not lead any more: repeat the call, by the same id: %w", l.leader, err)
	}
	return err
}

// relaySubmits is where Submits go on to as they are: the leader checks what is
// asked, as it does anyway. nil: they are to be served here, which also says why
// they can't be.
func (n *Node) relaySubmits() *rpc.Relay {
	if n.Leads() {
		return nil
	}
	id := n.replica.LeaderID()
	if id == "" || id == n.cfg.Cluster.NodeID {
		return nil
	}
	if r := n.forwards.standing(id); r != nil {
		return r
	}
	address := n.addressOf(id)
	if address == "" {
		return nil
	}
	conn, err := n.peers.get(address)
	if err != nil {
		return nil
	}
	return n.forwards.relay(id, conn, func(l *life) *rpc.Relay {
		return rpc.NewRelay(conn, []string{hopKey, "1"}, func(method string, err error) error {
			n.metrics.forwarded.Inc()
			err = l.told(err)
			n.metrics.calls.Answered(method, err)
			return err
		})
	})
}
