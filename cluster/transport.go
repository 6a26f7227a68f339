package cluster

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// transport is Raft's network transport without its two dangerous shortcuts.
type transport struct {
	*raft.NetworkTransport
	layer    *streamLayer
	followed followed
	// leads tells whether this node leads in a term and the follower is still a
	// member. It is nil until Raft runs.
	leads atomic.Pointer[func(follower raft.ServerID, term uint64) bool]
	// ordinary is the term of an election that was not asked for by a leader that
	// hands over, whatever Raft takes it for.
	ordinary atomic.Uint64
}

// resendPause is the longest pause between two tries to reach a follower.
const resendPause = 100 * time.Millisecond

// Raft takes these abilities from the concrete type; without WithPreVote it
// would turn pre-vote off with no more than a warning.
var (
	_ raft.Transport   = (*transport)(nil)
	_ raft.WithPreVote = (*transport)(nil)
	_ raft.WithClose   = (*transport)(nil)
)

func newTransport(layer *streamLayer, timeout time.Duration, log hclog.Logger) *transport {
	return &transport{
		layer: layer,
		NetworkTransport: raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
			Stream:                  layer,
			MaxPool:                 maxPool,
			MaxRPCsInFlight:         1, // 1 turns pipelining off: it can stall a follower for good
			Timeout:                 timeout,
			Logger:                  log,
			MsgpackUseNewTimeFormat: true,
		}),
	}
}

// SetHeartbeatHandler does nothing. The handler would run beside Raft's main
// loop and may change term and state under it, after which a deposed leader
// can write an entry into a term that is not its own (raft#695). Without it
// heartbeats wait their turn in the main loop.
func (t *transport) SetHeartbeatHandler(func(raft.RPC)) {}

// AppendEntries tries again for as long as this node leads. Raft doubles its
// pause with every failure, up to ten seconds, and does not shorten it when
// the follower's heartbeats are heard again: a node that was down for a while
// would stay behind, and the cluster without its third copy, long after its return.
func (t *transport) AppendEntries(id raft.ServerID, address raft.ServerAddress, req *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	for pause := 5 * time.Millisecond; ; pause = min(2*pause, resendPause) {
		err := t.appendOnce(id, address, req, resp)
		if err == nil || isHeartbeat(req) {
			return err
		}
		leads := t.leads.Load()
		if leads == nil || !(*leads)(id, req.Term) {
			return err
		}
		select {
		case <-time.After(pause):
		case <-t.layer.closing:
			return err
		}
	}
}

// RequestVote asks in an election of this node's own for no more than Raft grants
// to every candidate: a voter that has a leader refuses.
func (t *transport) RequestVote(id raft.ServerID, address raft.ServerAddress, req *raft.RequestVoteRequest, resp *raft.RequestVoteResponse) error {
	if req.LeadershipTransfer && req.Term == t.ordinary.Load() {
		own := *req // Raft sends the same to all
		own.LeadershipTransfer = false
		req = &own
	}
	return voted(t.NetworkTransport.RequestVote(id, address, req, resp))
}

// isHeartbeat: Raft sends heartbeats on a goroutine of their own, with a short
// pause of its own, and marks them by what they leave out.
func isHeartbeat(req *raft.AppendEntriesRequest) bool {
	return req.PrevLogEntry == 0 && req.PrevLogTerm == 0 && len(req.Entries) == 0 && req.LeaderCommitIndex == 0
}

// appendOnce notes which followers accepted this leader, and when they were asked.
func (t *transport) appendOnce(id raft.ServerID, address raft.ServerAddress, req *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	asked := time.Now()
	err := t.NetworkTransport.AppendEntries(id, address, req, resp)
	if err == nil {
		appended(req)
	}
	if err == nil && resp.Success && resp.Term == req.Term {
		t.followed.note(id, req.Term, asked)
	}
	return err //nolint:wrapcheck // Raft's own
}

// followed is when each follower was last asked a question to which it
// answered that it follows this node in a term. Raft's VerifyLeader also counts
// answers to questions from before the call, which may have been under way for
// long, above all after this process was paused.
type followed struct {
	mu   sync.Mutex // guards last
	last map[raft.ServerID]question
}

type question struct {
	term  uint64
	asked time.Time
}

func (f *followed) note(id raft.ServerID, term uint64, asked time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.last == nil {
		f.last = map[raft.ServerID]question{}
	}
	if old := f.last[id]; term > old.term || term == old.term && asked.After(old.asked) {
		f.last[id] = question{term, asked}
	}
}

// since reports whether a follower said yes to a question asked after t.
func (f *followed) since(id raft.ServerID, term uint64, t time.Time) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	q := f.last[id]
	return q.term == term && q.asked.After(t)
}
