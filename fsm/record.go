package fsm

import (
	"iter"
	"slices"

	"github.com/concordat-tx/concordat/fsm/fsmpb"
)

// The records of a snapshot; restore.go has their way back.

func (p *Participant) proto() *fsmpb.Participant {
	return &fsmpb.Participant{
		Name: p.Name, Endpoints: p.Endpoints, Kind: p.Kind, Incarnation: p.Incarnation,
		State: uint32(p.State), PendingIncarnation: p.PendingIncarnation, OnePhase: p.OnePhase,
	}
}

// maxBegunRanges bounds one record of begun attempts, at 20 bytes a range far
// below maxFrame; a term with more takes several.
const maxBegunRanges = 1 << 16

// protos are the term's records, ascending.
func (t begunTerm) protos() iter.Seq[*fsmpb.BegunTerm] {
	return func(yield func(*fsmpb.BegunTerm) bool) {
		for part := range slices.Chunk(t.ranges, maxBegunRanges) {
			p := &fsmpb.BegunTerm{Generation: t.generation, Term: t.term, Ranges: make([]uint64, 0, 2*len(part))}
			for _, s := range part {
				p.Ranges = append(p.Ranges, s.first, s.last)
			}
			if !yield(p) {
				return
			}
		}
	}
}
