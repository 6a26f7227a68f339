package rpc

import (
	"slices"
	"sync"
	"time"

	"github.com/concordat-tx/concordat/rpc/pb"
)

const (
	// maxKnownNodes bounds what a client learns from answers; clusters have 3 or 5.
	maxKnownNodes = 32
	// avoidUnreachable is how long a node that could not be reached is not
	// preferred just because an answer named it the leader: its address may be
	// one that only the other nodes can reach, and they forward.
	avoidUnreachable = 5 * time.Second
)

// route remembers which nodes there are and which of them leads.
type route struct {
	mu          sync.Mutex // guards what follows
	nodes       []string
	addresses   map[string]string // by node id
	leader      string            // address; empty if not known
	next        int
	unreachable map[string]time.Time
}

func newRoute(nodes []string) *route {
	return &route{
		nodes:       slices.Clone(nodes),
		addresses:   make(map[string]string),
		unreachable: make(map[string]time.Time),
	}
}

// pick is the node to ask now: the leader if it is known, or the next in turn.
func (r *route) pick() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.leader != "" {
		return r.leader
	}
	return r.nodes[r.next%len(r.nodes)]
}

// known lists every known node, the leader first.
func (r *route) known() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := slices.Clone(r.nodes)
	if i := slices.Index(all, r.leader); i > 0 {
		all = append([]string{r.leader}, slices.Delete(all, i, i+1)...)
	}
	return all
}

// failed learns from an error of the node at addr. It reports whether the
// error named another node as the leader, which may then be asked at once.
func (r *route) failed(addr string, e *Error) (redirected bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if hint := e.LeaderAddress; hint != "" && hint != addr && CheckAddress("leader", hint) == nil {
		r.leave(addr) // should the hint be out of date, another node is asked next
		r.add(hint)
		r.leader = hint
		return true
	}
	switch e.Reason {
	case ReasonUnreachable:
		r.unreachable[addr] = time.Now()
		r.leave(addr)
	case ReasonConnectionLost, ReasonNotLeader, ReasonNoLeader, ReasonNotReady, ReasonShuttingDown,
		ReasonOutcomeUnknown, ReasonCancelled, ReasonInternal, ReasonUnimplemented:
		r.leave(addr)
	}
	return false
}

// leave asks another node next time. Caller holds mu.
func (r *route) leave(addr string) {
	if r.leader == addr {
		r.leader = ""
	}
	if r.nodes[r.next%len(r.nodes)] == addr {
		r.next++
	}
}

// add makes a node known. Caller holds mu.
func (r *route) add(addr string) {
	if !slices.Contains(r.nodes, addr) && len(r.nodes) < maxKnownNodes {
		r.nodes = append(r.nodes, addr)
	}
}

// prefer takes addr for the leader, unless it was out of reach a moment ago. Caller holds mu.
func (r *route) prefer(addr string) {
	if at, ok := r.unreachable[addr]; ok {
		if time.Since(at) < avoidUnreachable {
			return
		}
		delete(r.unreachable, addr)
	}
	r.add(addr)
	r.leader = addr
}

// ranBy learns that the node of that id ran a transaction, so it leads.
func (r *route) ranBy(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if addr, ok := r.addresses[id]; ok {
		r.prefer(addr)
	}
}

// learn takes what a status says of nodes and leader.
func (r *route) learn(st *pb.StatusResponse) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, n := range st.GetNodes() {
		if CheckAddress("node", n.GetRpcAddress()) == nil && len(r.addresses) < maxKnownNodes {
			r.addresses[n.GetId()] = n.GetRpcAddress()
			r.add(n.GetRpcAddress())
		}
	}
	if CheckAddress("leader", st.GetLeaderRpcAddress()) == nil {
		r.prefer(st.GetLeaderRpcAddress())
	}
}

// skip asks another node than addr next, whatever is known of it.
func (r *route) skip(addr string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.leave(addr)
}
