package node

import (
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// showProgress adds what only the leader knows of a transaction under way: how
// often each branch was called, why in vain, when it is called next, and the
// votes that are in before the decision logs them.
func (n *Node) showProgress(r *pb.TransactionResponse) {
	l := n.leader.Load()
	if l == nil {
		return
	}
	f := l.flight(r.GetId())
	if f == nil {
		return
	}
	for i, p := range f.progress() {
		if i >= len(r.GetBranches()) {
			return // another transaction under the id, which is not in the record yet
		}
		b := r.GetBranches()[i]
		b.Tries, b.LastError = p.tries, p.lastError
		if r.GetState() == pb.State_STATE_PREPARING && p.vote != fsm.VoteNone {
			b.Vote = pb.Vote(p.vote)
		}
		if p.nextTry > 0 {
			b.NextTry = durationpb.New(p.nextTry)
		}
	}
}
