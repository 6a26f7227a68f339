package http

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"

	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/participant/durable"
	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// Prepare reserves: it makes the intent durable, tries, and votes PREPARED
// when the service has said 200 to that try and that is durable too.
func (m *Manager) Prepare(ctx context.Context, w participant.Work) (participant.Vote, error) {
	if err := m.ids.Enter(ctx, w.ID); err != nil {
		return participant.Aborted(pb.Reason_TIMEOUT, "the budget ended behind another message of this id"), nil
	}
	defer m.ids.Leave(w.ID)
	t, vote, err := m.intend(ctx, w)
	switch {
	case errors.Is(err, durable.ErrNotQueued):
		return participant.Aborted(pb.Reason_TIMEOUT, "the budget ended before the try could be recorded"), nil
	case err != nil || t.key == "":
		return vote, err
	}
	r := m.call(ctx, callTry, t.key, w.Payload)
	switch r.answer {
	case ok:
		if vote, fits := judge(r); !fits {
			return vote, nil
		}
		return m.hold(ctx, w, r.body)
	case refused:
		// A service that does not know the key again may refuse the second try
		// of a reservation that it made at the first.
		if t.fresh {
			if err := m.drop(w.Ref); err != nil {
				return participant.Vote{}, err
			}
		}
		return participant.Aborted(pb.Reason_APPLICATION, r.said()), nil
	case unsent:
		if t.fresh {
			if err := m.drop(w.Ref); err != nil {
				return participant.Vote{}, err
			}
		}
	case unknown:
	}
	return participant.Vote{}, participant.Transient(r.err)
}

// intent is a try that may leave; without a key there is none.
type intent struct {
	key string
	// fresh: it was never sent before.
	fresh bool
}

// intend judges w and, if its work is to be done, makes the key of its
// reservation durable (I1). Otherwise there is a vote.
func (m *Manager) intend(ctx context.Context, w participant.Work) (t intent, vote participant.Vote, err error) {
	cluster := m.file.Bound().ClusterID
	err = m.change(ctx, w.ID, func(r *record, floor rpc.Attempt) (bool, error) {
		v := r.entry.OnPrepare(w.Ref, floor)
		switch v.Step {
		case participant.Execute:
			var changed bool
			t, vote, changed = r.intend(w, m.key(cluster, w.Ref))
			return changed, nil
		case participant.Repeat:
			vote = participant.Prepared(r.entry.Held.Result)
			return false, nil
		case participant.TakeOver:
			vote = participant.Prepared(r.entry.Held.Result)
			r.entry = v.Entry.Inherit(w.Priority)
			return true, nil
		}
		vote = participant.Aborted(v.Code, v.Reason)
		r.entry = v.Entry
		return v.Store, nil
	})
	return t, vote, err
}

// intend finds the reservation that is open for the work of w, also when an
// older attempt began it, or opens one under key.
func (r *record) intend(w participant.Work, key string) (t intent, vote participant.Vote, changed bool) {
	for _, o := range r.open {
		switch {
		case w.Attempt.Less(o.ref.Attempt):
			return t, participant.Aborted(pb.Reason_SUPERSEDED, "the newer attempt "+o.ref.Attempt.String()+" is at work"), false
		case o.cancelled && o.ref == w.Ref:
			return t, participant.Aborted(pb.Reason_SUPERSEDED, "the reservation of this attempt is being cancelled"), false
		}
	}
	for i, o := range r.open {
		if !o.cancelled && o.ref.Digest == w.Digest {
			r.open[i].ref = w.Ref
			return intent{key: o.key}, vote, o.ref != w.Ref
		}
	}
	r.open = append(r.open, reservation{ref: w.Ref, key: key})
	return intent{key: key, fresh: true}, vote, true
}

// key names a branch to the service, among all clusters and participants that
// may share it (P16: escaped, so that nothing runs together).
func (m *Manager) key(cluster string, ref participant.Ref) string {
	return fmt.Sprintf("%s/%s/%s/%s/%s", url.PathEscape(cluster), m.name, url.PathEscape(ref.ID), ref.Attempt, hex.EncodeToString(ref.Digest[:]))
}

// judge says whether the body of a 200 can be a branch's result. If not, the
// reservation stays open, and so it is cancelled.
func judge(r reply) (vote participant.Vote, fits bool) {
	switch {
	case !r.whole:
		return participant.Aborted(pb.Reason_INVALID, fmt.Sprintf("the service's answer to try: at most %d bytes", fsm.MaxResultBytes)), false
	case len(r.body) > 0 && !json.Valid(r.body):
		return participant.Aborted(pb.Reason_INVALID, fmt.Sprintf("the service's answer to try is not JSON: %q", words(r.body, maxShown))), false
	}
	return vote, true
}

// hold makes the vote durable: what OnPrepare allows is checked in the very
// write that makes the branch prepared (P6).
func (m *Manager) hold(ctx context.Context, w participant.Work, result []byte) (participant.Vote, error) {
	var vote participant.Vote
	err := m.change(ctx, w.ID, func(r *record, floor rpc.Attempt) (bool, error) {
		v := r.entry.OnPrepare(w.Ref, floor)
		o := r.opened(w.Ref)
		switch {
		case v.Step != participant.Execute:
			vote = participant.Aborted(v.Code, v.Reason)
			return false, nil
		case o == nil || o.cancelled:
			return false, fmt.Errorf("transaction %s attempt %s: its open reservation is gone", w.ID, w.Attempt)
		}
		vote = participant.Prepared(result)
		r.key = o.key
		r.close(w.Ref)
		r.entry = v.Entry.Hold(w, result)
		return true, nil
	})
	if errors.Is(err, durable.ErrNotQueued) {
		return participant.Aborted(pb.Reason_TIMEOUT, "the budget ended before the reservation could be recorded"), nil
	}
	return vote, err
}

// drop forgets an open reservation that the service certainly does not have.
// It does not end with the budget: an answer is at hand.
func (m *Manager) drop(ref participant.Ref) error {
	return m.change(context.Background(), ref.ID, func(r *record, _ rpc.Attempt) (bool, error) {
		r.close(ref)
		return true, nil
	})
}
