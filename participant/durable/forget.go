package durable

import (
	"context"
	"maps"
	"slices"

	"github.com/concordat-tx/concordat/fsm/failpoint"
	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/rpc"
)

// Finished lists up to limit finished references. It goes round the journal,
// so that what the cluster still needs does not keep the rest from being
// listed, and costs no memory for each; the journal holds little else.
func (s *File) Finished(_ context.Context, limit int) ([]participant.Ref, error) {
	s.finishedMu.Lock()
	defer s.finishedMu.Unlock()
	after := s.finishedAfter
	var refs []participant.Ref
	err := s.View(func(p *Pages) error {
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
func (p *Pages) finished(refs *[]participant.Ref, after, upTo string, limit int) (string, error) {
	cursor := p.Cursor(bucketJournal)
	last := after
	for key, sealed := cursor.Seek([]byte(after + "\x00")); key != nil && len(*refs) < limit; key, sealed = cursor.Next() {
		if upTo != "" && string(key) > upTo {
			break
		}
		b, err := p.Open(bucketJournal, key, sealed)
		if err != nil {
			return last, err
		}
		r, err := p.readRecord(string(key), b)
		if err != nil {
			return last, err
		}
		*refs = append(*refs, r.Entry.Finished()...)
		last = string(key)
	}
	return last, nil
}

// Forget drops finished references below floor and raises the floor, in one write.
func (s *File) Forget(ctx context.Context, floor rpc.Attempt, refs []participant.Ref) error {
	byID := map[string][]participant.Ref{}
	for _, r := range refs {
		byID[r.ID] = append(byID[r.ID], r)
	}
	ids := slices.Sorted(maps.Keys(byID))
	var next participant.Binding
	apply := func(p *Pages) error {
		for _, id := range ids {
			if err := s.forgetOf(p, id, floor, byID[id]); err != nil {
				return err
			}
		}
		b, err := p.Binding()
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
	err := s.Submit(ctx, apply, func() { s.rebind(next) })
	failpoint.Hit("participant.forget.write.after")
	return err
}

func (s *File) forgetOf(p *Pages, id string, floor rpc.Attempt, refs []participant.Ref) error {
	r, err := p.Record(id)
	if err != nil {
		return err
	}
	before := len(r.Entry.Finished())
	r.Entry = r.Entry.Forget(floor, refs)
	if len(r.Entry.Finished()) == before {
		return nil
	}
	if s.options.Trim != nil {
		if r, err = s.options.Trim(id, r); err != nil {
			return p.CorruptRecord(id, err)
		}
	}
	return p.PutRecord(id, r)
}
