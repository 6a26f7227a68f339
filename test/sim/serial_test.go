package sim

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/concordat-tx/concordat/rpc/pb"
	"github.com/concordat-tx/concordat/test/history"
)

// auditLists: there is an order of all transactions and plain reads, each
// between its call and its answer, that explains every list that was read, and
// what the lists are in the end (strict serializability).
func (l *load) auditLists(final map[cell][]int) {
	began := l.world.began
	var txns []*history.Txn
	for _, t := range append(slices.Clone(l.told), l.looks...) {
		txns = append(txns, t.history(began))
	}
	end := &history.Txn{ID: "the end", Outcome: history.Committed, Call: int64(time.Since(began)), Return: int64(time.Since(began)) + 1}
	for c, list := range final {
		end.Ops = append(end.Ops, history.Op{Key: c.String(), List: wide(list)})
	}
	slices.SortFunc(end.Ops, func(a, b history.Op) int { return strings.Compare(a.Key, b.Key) })
	found := history.CheckLists(append(txns, end))
	for _, a := range found.Anomalies {
		l.world.fail("%s", a)
	}
	for _, t := range found.Unresolved {
		if len(t.Ops) > 0 {
			l.world.trace("!!", "left unknown: %s", t)
		}
	}
}

// history is the transaction as the checker wants it: at each participant it
// appends first, if it does, and reads then.
func (t *told) history(began time.Time) *history.Txn {
	h := &history.Txn{ID: t.id, Outcome: history.Unknown, Call: int64(t.began.Sub(began)), Return: int64(time.Since(began))}
	switch {
	case t.outcome == pb.Outcome_COMMIT:
		h.Outcome = history.Committed
	case t.outcome == pb.Outcome_ABORT || t.refused:
		h.Outcome = history.Aborted
	}
	if !t.ended.IsZero() {
		h.Return = int64(t.ended.Sub(began))
	}
	for _, c := range t.appended {
		h.Ops = append(h.Ops, history.Op{Key: c.String(), Append: true, Value: int64(t.n)})
	}
	for _, c := range slices.SortedFunc(maps.Keys(t.read), func(a, b cell) int { return strings.Compare(a.String(), b.String()) }) {
		h.Ops = append(h.Ops, history.Op{Key: c.String(), List: wide(t.read[c])})
	}
	return h
}

func (c cell) String() string { return c.participant + "/" + c.key }

func wide(list []int) []int64 {
	w := make([]int64, len(list))
	for i, n := range list {
		w[i] = int64(n)
	}
	return w
}
