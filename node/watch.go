package node

import (
	"context"
	"errors"
	"slices"
	"time"

	"google.golang.org/grpc"

	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

const (
	// maxWatchers bounds the watches of one node: each looks at the state by itself.
	maxWatchers = 64
	// watchPause is the time between two looks of a watch, so how late an event may be.
	watchPause = 50 * time.Millisecond
	// bookmarkEvery is the longest silence of a watch that has nothing to tell.
	bookmarkEvery = time.Second
	// watchPage is how many changes one look takes, catchUpPause the time between
	// looks of a watch that is behind. A look holds the state, and costs as much
	// for few changes as for many.
	watchPage    = 10_000
	catchUpPause = 5 * time.Millisecond
	// leaderless is how long a node without a leader keeps a watch: others may know more.
	leaderless = 2 * time.Second
	// catchUpWithin is how long a watch waits for this node to reach its token.
	catchUpWithin = 5 * time.Second
)

// watcher is one Watch under way. It keeps a position and nothing else, so a
// reader that is slow costs nothing, and one that comes back at another node
// goes on where it was.
type watcher struct {
	node *Node
	req  *pb.WatchRequest
	out  grpc.ServerStreamingServer[pb.WatchEvent]
	at   fsm.Position
	// told is when the reader was last sent anything, led when a leader was last known.
	told, led time.Time
}

// Watch streams what becomes of transactions as this node applies it.
func (s *coordinator) Watch(req *pb.WatchRequest, out grpc.ServerStreamingServer[pb.WatchEvent]) error {
	if req.GetId() != "" {
		if err := fsm.CheckID("id", req.GetId()); err != nil {
			return err
		}
	}
	if err := checkFilter(req.GetStates(), req.GetParticipant()); err != nil {
		return err
	}
	if req.GetResume() != "" && req.GetExisting() {
		return rpc.FieldErrorf("existing", "not together with resume", "both")
	}
	if s.watchers.Add(1) > maxWatchers {
		s.watchers.Add(-1)
		return rpc.Errorf(rpc.ReasonOverloaded, "this node has %d watches, the limit; watch another node", maxWatchers)
	}
	defer s.watchers.Add(-1)
	w := &watcher{node: s.Node, req: req, out: out, led: time.Now()}
	if err := w.begin(out.Context()); err != nil {
		return err
	}
	return w.follow(out.Context())
}

// begin finds the first position and tells what is there already, if asked to.
func (w *watcher) begin(ctx context.Context) error {
	if token := w.req.GetResume(); token != "" {
		at, err := fsm.ParsePosition(token)
		if err != nil {
			return err
		}
		w.at = at
		wait, cancel := context.WithTimeout(ctx, catchUpWithin)
		defer cancel()
		if err := w.node.replica.WaitApplied(wait, at.Index); err != nil {
			if ctx.Err() != nil {
				return ctx.Err() // the reader's own time ended, or it left: nothing is said of this node
			}
			return rpc.Errorf(rpc.ReasonNotReady, "node %s has not applied entry %d of the token within %s: try another node",
				w.node.cfg.Cluster.NodeID, at.Index, catchUpWithin)
		}
		if _, err := w.look(); err != nil {
			return err
		}
		return w.bookmark()
	}
	var existing []*fsm.Txn
	w.node.replica.View(func(m *fsm.Machine) {
		w.at = fsm.Position{Index: m.Index()}
		switch t := m.Txn(w.req.GetId()); {
		case !w.req.GetExisting():
		case w.req.GetId() == "":
			existing = m.Live()
		case t != nil:
			existing = []*fsm.Txn{t}
		}
	})
	for _, t := range existing {
		if !w.wants(t, t.State) {
			continue
		}
		// No token: a stream that breaks among these starts over.
		if err := w.send(&pb.WatchEvent{Kind: pb.WatchEvent_EXISTING, Transaction: w.show(t, t.State, w.at.Index)}); err != nil {
			return err
		}
	}
	return w.bookmark()
}

// follow tells the changes until the reader leaves or this node cannot go on.
func (w *watcher) follow(ctx context.Context) error {
	for ctx.Err() == nil {
		more, err := w.look()
		if err != nil {
			return err
		}
		if more && time.Since(w.told) < bookmarkEvery {
			pause(ctx, catchUpPause) // entries that wait to be applied go first
			continue
		}
		if time.Since(w.told) >= bookmarkEvery {
			if err := w.bookmark(); err != nil {
				return err
			}
		}
		if err := w.standing(); err != nil {
			return err
		}
		pause(ctx, watchPause)
	}
	return ctx.Err()
}

// look sends one page of changes.
func (w *watcher) look() (more bool, err error) {
	var changes []fsm.Change
	behind := w.at
	w.node.replica.View(func(m *fsm.Machine) {
		if m.Index() == w.at.Index && w.at.ID == "" {
			return
		}
		changes, more, err = m.Changes(w.at, watchPage)
		if !more {
			behind = fsm.Position{Index: m.Index()}
		}
	})
	if errors.Is(err, fsm.ErrChangesForgotten) {
		return false, rpc.Errorf(rpc.ReasonExpired, "what happened since token %q has in part been forgotten: list the transactions, then watch anew", w.at)
	}
	if err != nil {
		return false, err
	}
	for _, c := range changes {
		w.at = c.Position
		if !w.wants(c.Txn, c.Position.State) {
			continue
		}
		event := &pb.WatchEvent{
			Kind: pb.WatchEvent_CHANGED, Token: c.Position.String(), Transaction: w.show(c.Txn, c.Position.State, c.Position.Index),
		}
		if err := w.send(event); err != nil {
			return false, err
		}
	}
	if !more {
		w.at = behind
	}
	return more, nil
}

// standing ends a watch that another node serves better.
func (w *watcher) standing() error {
	if w.node.draining.Load() {
		return rpc.Errorf(rpc.ReasonShuttingDown, "node %s is shutting down: go on at another node", w.node.cfg.Cluster.NodeID)
	}
	if w.node.replica.LeaderID() != "" {
		w.led = time.Now()
		return nil
	}
	if time.Since(w.led) > leaderless {
		return rpc.Errorf(rpc.ReasonNoLeader, "node %s knows no leader, so it may be cut off: go on at another node", w.node.cfg.Cluster.NodeID)
	}
	return nil
}

func (w *watcher) wants(t *fsm.Txn, state fsm.State) bool {
	return (w.req.GetId() == "" || w.req.GetId() == t.ID) && picks(t, pb.State(state), w.req.GetStates(), w.req.GetParticipant())
}

func (w *watcher) bookmark() error {
	return w.send(&pb.WatchEvent{Kind: pb.WatchEvent_BOOKMARK, Token: w.at.String()})
}

func (w *watcher) send(event *pb.WatchEvent) error {
	w.told = time.Now()
	return w.out.Send(event)
}

// show is the transaction as it entered the state, without results.
func (w *watcher) show(t *fsm.Txn, state fsm.State, index uint64) *pb.TransactionResponse {
	r := response(asOf(t, state), nil, index, w.node.cfg.Cluster.NodeID)
	r.Results = pb.Results_RESULTS_UNSPECIFIED
	for _, b := range r.GetBranches() {
		b.Result, b.ResultUnavailable = nil, false
	}
	return r
}

// asOf takes back what a record learned after it entered a state.
func asOf(t *fsm.Txn, state fsm.State) *fsm.Txn {
	if t.State == state {
		return t
	}
	past := *t
	past.State, past.FinishIndex, past.FinishedAfterMS, past.Acknowledged = state, 0, 0, false
	past.Branches = slices.Clone(t.Branches)
	for i := range past.Branches {
		b := &past.Branches[i]
		if state == fsm.Preparing {
			b.Vote, b.Detail = fsm.VoteNone, nil
		}
		if state == fsm.Preparing || b.Vote != fsm.VoteReadOnly { // READ_ONLY was settled by the decision
			b.Settled = fsm.Unsettled
		}
	}
	if state == fsm.Preparing {
		past.DecideIndex, past.DecidedAfterMS, past.Reason = 0, 0, nil
	}
	return &past
}
