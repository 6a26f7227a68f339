package kv

import (
	"context"
	"maps"
	"slices"

	"github.com/concordat-tx/concordat/fsm/failpoint"
	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/rpc"
)

// Commit makes the held branch final. It fails with the end of ctx only if
// nothing was written.
func (s *Store) Commit(ctx context.Context, ref participant.Ref) (participant.Settlement, error) {
	return s.settle(ctx, ref, true)
}

// Rollback undoes the held branch, or leaves a tombstone. It fails with the
// end of ctx only if nothing was written.
func (s *Store) Rollback(ctx context.Context, ref participant.Ref) (participant.Settlement, error) {
	return s.settle(ctx, ref, false)
}

func (s *Store) settle(ctx context.Context, ref participant.Ref, commit bool) (participant.Settlement, error) {
	if err := checkID(ref.ID); err != nil {
		return participant.Settlement{}, err
	}
	var v participant.SettleVerdict
	apply := func(p *pages) error {
		r, err := p.record(ref.ID)
		if err != nil {
			return err
		}
		if commit {
			v = r.entry.OnCommit(ref)
		} else {
			v = r.entry.OnRollback(ref)
		}
		if v.Step != participant.Apply && v.Step != participant.Tombstone {
			return nil
		}
		if v.Step == participant.Apply && commit {
			if err := p.apply(r.redo); err != nil {
				return err
			}
		}
		r.entry = v.Entry
		return p.putRecord(ref.ID, r)
	}
	failpoint.Hit("participant.settled.write.before")
	err := s.committer.submit(ctx, apply, func() {
		if v.Step == participant.Apply {
			s.settled(ref.ID)
		}
	})
	failpoint.Hit("participant.settled.write.after")
	if err != nil {
		return participant.Settlement{}, err
	}
	return participant.Settlement{Settled: v.Settled, Message: v.Message}, nil
}

// settled frees the locks of a branch whose end is durable (I1). It runs in the committer.
func (s *Store) settled(id string) {
	s.mu.Lock()
	b := s.held[id]
	delete(s.held, id)
	s.mu.Unlock()
	s.locks.release(b.owner)
}

// Held lists every prepared branch that is not settled, the oldest attempt first.
func (s *Store) Held(context.Context) ([]participant.Held, error) {
	if err := s.failure(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	held := make([]participant.Held, 0, len(s.held))
	for _, b := range s.held {
		held = append(held, b.held)
	}
	slices.SortFunc(held, func(a, b participant.Held) int { return a.Attempt.Compare(b.Attempt) })
	return held, nil
}

// Finished lists up to limit finished references. It goes round the journal,
// so that what the cluster still needs does not keep the rest from being
// listed, and costs no memory for each; the journal holds little else.
func (s *Store) Finished(_ context.Context, limit int) ([]participant.Ref, error) {
	s.finishedMu.Lock()
	defer s.finishedMu.Unlock()
	after := s.finishedAfter
	var refs []participant.Ref
	err := s.view(func(p *pages) error {
		last, err := p.finished(&refs, after, "", limit)
		if err == nil && len(refs) < limit && after != "" {
			last, err = p.finished(&refs, "", after, limit)
		}
		s.finishedAfter = last
		return err
	})
	return refs[:min(len(refs), max(limit, 0))], err
}

// finished collects the finished references of the ids above after, up to
// upTo (empty: to the end), until there are limit. It returns the last id it saw.
func (p *pages) finished(refs *[]participant.Ref, after, upTo string, limit int) (string, error) {
	cursor := p.tx.Bucket(bucketJournal).Cursor()
	last := after
	for key, sealed := cursor.Seek([]byte(after + "\x00")); key != nil && len(*refs) < limit; key, sealed = cursor.Next() {
		if upTo != "" && string(key) > upTo {
			break
		}
		r, err := p.openRecord(key, sealed)
		if err != nil {
			return last, err
		}
		*refs = append(*refs, r.entry.Finished()...)
		last = string(key)
	}
	return last, nil
}

// Forget drops finished references below floor and raises the floor, in one write.
func (s *Store) Forget(ctx context.Context, floor rpc.Attempt, refs []participant.Ref) error {
	byID := map[string][]participant.Ref{}
	for _, r := range refs {
		byID[r.ID] = append(byID[r.ID], r)
	}
	ids := slices.Sorted(maps.Keys(byID))
	var next participant.Binding
	apply := func(p *pages) error {
		for _, id := range ids {
			r, err := p.record(id)
			if err != nil {
				return err
			}
			before := len(r.entry.Finished())
			r.entry = r.entry.Forget(floor, byID[id])
			if len(r.entry.Finished()) == before {
				continue
			}
			if err := p.putRecord(id, r); err != nil {
				return err
			}
		}
		b, err := p.binding()
		if err != nil {
			return err
		}
		if next = b; b.Floor.Less(floor) {
			next.Floor = floor
			return p.putBinding(next)
		}
		return nil
	}
	failpoint.Hit("participant.forget.write.before")
	err := s.committer.submit(ctx, apply, func() { s.rebind(next) })
	failpoint.Hit("participant.forget.write.after")
	return err
}
