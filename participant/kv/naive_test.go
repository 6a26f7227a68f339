package kv

import (
	"cmp"
	"maps"
	"math/big"
	"slices"

	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/participant/participanttest"
	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/kvop"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// naive is a KV participant as one would explain it: a map of data, a map of
// prepared branches that hold their keys, and what each id remembers. It does
// one thing at a time and has no queue: who would wait is told for whom.
type naive struct {
	data  map[string]kvop.Value
	ids   map[string]*participanttest.Model
	held  map[string]*naiveBranch
	floor rpc.Attempt
}

// naiveBranch is a prepared branch.
type naiveBranch struct {
	ref      participant.Ref
	priority rpc.Attempt
	changes  map[string]*kvop.Value // nil: deleted
	locks    map[string]bool        // true: for writing
	result   string
}

// naiveVote is a vote, or the prepared branches that have to end before there
// is one.
type naiveVote struct {
	vote     pb.Vote
	code     pb.Reason_Code
	result   string
	waitsFor []string
}

func newNaive() *naive {
	return &naive{data: map[string]kvop.Value{}, ids: map[string]*participanttest.Model{}, held: map[string]*naiveBranch{}}
}

func (n *naive) id(id string) *participanttest.Model {
	if n.ids[id] == nil {
		n.ids[id] = &participanttest.Model{}
	}
	n.ids[id].Floor = n.floor
	return n.ids[id]
}

func (n *naive) prepare(w participant.Work, ops []kvop.Op) naiveVote {
	before := *n.id(w.ID)
	vote, code := n.ids[w.ID].Prepare(w.Ref)
	if b := n.held[w.ID]; b != nil || vote != pb.Vote_VOTE_PREPARED {
		if vote != pb.Vote_VOTE_PREPARED {
			return naiveVote{vote: vote, code: code}
		}
		if b.ref = w.Ref; b.ref.Attempt != before.Held.Attempt && w.Priority.Less(b.priority) { // taken over
			b.priority = w.Priority
		}
		return naiveVote{vote: vote, result: b.result}
	}
	b := &naiveBranch{ref: w.Ref, priority: w.Priority, changes: map[string]*kvop.Value{}, locks: map[string]bool{}}
	v := n.lock(b, ops)
	if v.code == 0 && len(v.waitsFor) == 0 {
		if v = n.run(b, ops); v.code == 0 {
			n.held[w.ID] = b
			return v
		}
	}
	*n.ids[w.ID] = before // nothing was done
	return v
}

// lock gives b its keys in order, or says which older branch it dies of or
// which younger ones it waits for (P12).
func (n *naive) lock(b *naiveBranch, ops []kvop.Op) naiveVote {
	for _, op := range ops {
		b.locks[op.Key] = b.locks[op.Key] || op.Kind != kvop.Get && op.Kind != kvop.Check
	}
	for _, key := range slices.Sorted(maps.Keys(b.locks)) {
		var holders []string
		conflict, dies := false, false
		for id, h := range n.held {
			if write, holds := h.locks[key]; holds {
				holders = append(holders, id)
				conflict = conflict || write || b.locks[key]
				dies = dies || !b.olderThan(h)
			}
		}
		if conflict && dies {
			return naiveVote{vote: pb.Vote_VOTE_ABORTED, code: pb.Reason_CONFLICT}
		}
		if conflict {
			return naiveVote{waitsFor: holders}
		}
	}
	return naiveVote{}
}

func (b *naiveBranch) olderThan(h *naiveBranch) bool {
	return cmp.Or(b.priority.Compare(h.priority), b.ref.Attempt.Compare(h.ref.Attempt), cmp.Compare(b.ref.ID, h.ref.ID)) < 0
}

// run does the operations on a copy.
func (n *naive) run(b *naiveBranch, ops []kvop.Op) naiveVote {
	data := maps.Clone(n.data)
	var results []kvop.Result
	for _, op := range ops {
		old, exists := data[op.Key]
		ok := true
		switch op.Kind {
		case kvop.Get:
			results = append(results, kvop.Result{Key: op.Key, Exists: exists, Value: old})
			continue
		case kvop.Check:
			ok = op.Exists != nil && *op.Exists == exists || op.Equals != nil && exists && op.Equals.String() == old.String()
		case kvop.Put:
			data[op.Key] = op.Value
		case kvop.Delete:
			delete(data, op.Key)
		case kvop.Append:
			list, is := old.Elements()
			ok = is || !exists
			data[op.Key] = kvop.ListOf(append(list, op.Values...)...)
		case kvop.Add:
			var sum int64
			sum, ok = naiveSum(old, exists, op)
			data[op.Key] = kvop.Number(sum)
		}
		if !ok {
			return naiveVote{vote: pb.Vote_VOTE_ABORTED, code: pb.Reason_CONDITION}
		}
		if op.Kind == kvop.Check {
			continue
		}
		b.changes[op.Key] = nil
		if v, left := data[op.Key]; left {
			b.changes[op.Key] = &v
		}
	}
	b.result = string(kvop.EncodeResults(results))
	return naiveVote{vote: pb.Vote_VOTE_PREPARED, result: b.result}
}

func naiveSum(old kvop.Value, exists bool, op kvop.Op) (int64, bool) {
	number, is := old.Number()
	sum := new(big.Int).Add(big.NewInt(number), big.NewInt(op.Delta))
	within := sum.IsInt64() &&
		(op.Min == nil || sum.Cmp(big.NewInt(*op.Min)) >= 0) && (op.Max == nil || sum.Cmp(big.NewInt(*op.Max)) <= 0)
	return sum.Int64(), within && (is || !exists)
}

func (n *naive) settle(r participant.Ref, commit bool) pb.Settled {
	m := n.id(r.ID)
	before := m.Held
	said := pb.Settled_SETTLED_UNSPECIFIED
	if commit {
		said = m.Commit(r)
	} else {
		said = m.Rollback(r)
	}
	if before != nil && m.Held == nil {
		if commit {
			for key, v := range n.held[r.ID].changes {
				if v == nil {
					delete(n.data, key)
				} else {
					n.data[key] = *v
				}
			}
		}
		delete(n.held, r.ID)
	}
	return said
}

func (n *naive) forget(floor rpc.Attempt, refs []participant.Ref) {
	if n.floor.Less(floor) {
		n.floor = floor
	}
	for id := range n.ids {
		n.id(id).Forget(floor, refs)
	}
}

// finished are the references that are remembered.
func (n *naive) finished() []participant.Ref {
	var refs []participant.Ref
	for _, m := range n.ids {
		refs = append(append(refs, m.Committed...), m.Refused...)
	}
	return refs
}

// writers are the branches that hold one of keys for writing.
func (n *naive) writers(keys []string) []string {
	var ids []string
	for id, h := range n.held {
		if slices.ContainsFunc(keys, func(key string) bool { return h.locks[key] }) {
			ids = append(ids, id)
		}
	}
	return ids
}
