package http

import (
	"context"
	"slices"

	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// Commit confirms the held branch's reservation and remembers that.
func (m *Manager) Commit(ctx context.Context, ref participant.Ref) (participant.Settlement, error) {
	if err := m.ids.Enter(ctx, ref.ID); err != nil {
		return participant.Settlement{}, participant.Transient(err)
	}
	defer m.ids.Leave(ref.ID)
	var v participant.SettleVerdict
	var key, said string
	// A read: but what it sees is durable, which View would not promise.
	err := m.change(ctx, ref.ID, func(r *record, _ rpc.Attempt) (bool, error) {
		v, key, said = r.entry.OnCommit(ref), r.key, r.said(ref)
		return false, nil
	})
	if err != nil || v.Step != participant.Apply {
		return settlement(v, said), err
	}
	r := m.settleCall(ctx, callConfirm, key)
	switch r.answer {
	case ok:
		err := m.change(context.Background(), ref.ID, func(r *record, _ rpc.Attempt) (bool, error) {
			r.entry, r.key = r.entry.OnCommit(ref).Entry, ""
			return true, nil
		})
		return participant.Done, err
	case refused:
		m.log.Error("the service refused to confirm what it had reserved: an operator must look at its data",
			"txn", ref.ID, "attempt", ref.Attempt, "said", r.said())
		err := m.change(context.Background(), ref.ID, func(rec *record, _ rpc.Attempt) (bool, error) {
			rec.entry, rec.key = rec.entry.OnRollback(ref).Entry, ""
			rec.heuristics = append(rec.heuristics, heuristic{ref, r.said()})
			return true, nil
		})
		return participant.Settlement{Settled: pb.Settled_HEURISTIC_ROLLBACK, Message: r.said()}, err
	case unknown, unsent:
	}
	return participant.Settlement{}, participant.Transient(r.err)
}

// Rollback cancels the branch's reservation, if the service may have one, or
// leaves a tombstone.
func (m *Manager) Rollback(ctx context.Context, ref participant.Ref) (participant.Settlement, error) {
	if err := m.ids.Enter(ctx, ref.ID); err != nil {
		return participant.Settlement{}, participant.Transient(err)
	}
	defer m.ids.Leave(ref.ID)
	var v participant.SettleVerdict
	var key, said string
	err := m.change(ctx, ref.ID, func(r *record, _ rpc.Attempt) (store bool, _ error) {
		v, said = r.entry.OnRollback(ref), r.said(ref)
		key, store = r.rollBack(ref, v)
		return store, nil
	})
	if err != nil || key == "" {
		return settlement(v, said), err
	}
	return m.cancel(ctx, ref, key)
}

// rollBack marks what v allows: from then on no try leaves for ref (I1). The
// key is that of the reservation to cancel; empty if the service has none.
func (r *record) rollBack(ref participant.Ref, v participant.SettleVerdict) (key string, store bool) {
	switch v.Step {
	case participant.Apply:
		r.entry = v.Entry
		r.open = append(r.open, reservation{ref: ref, key: r.key, cancelled: true})
		r.key = ""
		return r.opened(ref).key, true
	case participant.Tombstone:
		r.entry, store = v.Entry, true
	case participant.Already:
	default:
		return "", false
	}
	o := r.opened(ref)
	if o == nil {
		return "", store
	}
	store = store || !o.cancelled
	o.cancelled = true
	return o.key, store
}

// cancel gives a reservation back that is marked as cancelled.
func (m *Manager) cancel(ctx context.Context, ref participant.Ref, key string) (participant.Settlement, error) {
	r := m.settleCall(ctx, callCancel, key)
	switch r.answer {
	case ok:
		return participant.Done, m.drop(ref)
	case refused:
		m.log.Error("the service refused to cancel: an operator must look at its data", "txn", ref.ID, "attempt", ref.Attempt, "said", r.said())
		err := m.change(context.Background(), ref.ID, func(rec *record, _ rpc.Attempt) (bool, error) {
			rec.close(ref)
			rec.entry.Refused = slices.DeleteFunc(slices.Clone(rec.entry.Refused), func(o participant.Ref) bool { return o == ref })
			rec.entry.Committed = append(slices.Clip(rec.entry.Committed), ref)
			rec.heuristics = append(rec.heuristics, heuristic{ref, r.said()})
			return true, nil
		})
		return participant.Settlement{Settled: pb.Settled_HEURISTIC_COMMIT, Message: r.said()}, err
	case unknown, unsent:
	}
	return participant.Settlement{}, participant.Transient(r.err)
}

// settleCall is a confirm or cancel, which has no body: the key says it all.
func (m *Manager) settleCall(ctx context.Context, name, key string) reply {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return m.call(ctx, name, key, nil)
}

// settlement is what v found; the service's own words say it better, if there are any.
func settlement(v participant.SettleVerdict, said string) participant.Settlement {
	if said != "" && v.Step == participant.Contradiction {
		return participant.Settlement{Settled: v.Settled, Message: said}
	}
	return participant.Settlement{Settled: v.Settled, Message: v.Message}
}
