package http

import (
	"fmt"
	"slices"

	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/participant/durable"
)

// record is what the journal keeps of one id.
type record struct {
	entry participant.Entry
	// key names the reservation of the held branch to the service.
	key string
	// open are reservations that the service may have and that nobody may
	// confirm: the try is not answered yet, or the cancel is not.
	open []reservation
	// heuristics are branches that the service settled against the decision.
	heuristics []heuristic
}

// reservation is one that the service may have.
type reservation struct {
	ref participant.Ref
	key string
	// cancelled: a cancel may have been sent, so a try must not be any more.
	cancelled bool
}

// heuristic is what the service said of a branch that it settled otherwise.
type heuristic struct {
	ref  participant.Ref
	said string
}

func (r record) journal() durable.Record {
	j := durable.Record{Entry: r.entry}
	if r.key == "" && len(r.open) == 0 && len(r.heuristics) == 0 {
		return j
	}
	e := durable.NewTail()
	e.Text(r.key)
	e.Count(len(r.open))
	for _, o := range r.open {
		e.Attempt(o.ref.Attempt)
		e.Digest(o.ref.Digest)
		e.Text(o.key)
		if o.cancelled {
			e.Byte(1)
		} else {
			e.Byte(0)
		}
	}
	e.Count(len(r.heuristics))
	for _, h := range r.heuristics {
		e.Attempt(h.ref.Attempt)
		e.Digest(h.ref.Digest)
		e.Text(h.said)
	}
	j.Tail = e.Encoded()
	return j
}

// recordOf reads a record of the journal.
func recordOf(id string, j durable.Record) (record, error) {
	r := record{entry: j.Entry}
	d := durable.DecodeTail(j.Tail)
	if d.More() {
		r.key = d.Text()
		for n := d.Count(); n > 0 && !d.Bad(); n-- {
			o := reservation{ref: participant.Ref{ID: id, Attempt: d.Attempt(), Digest: d.Digest()}, key: d.Text()}
			switch d.Byte() {
			case 0:
			case 1:
				o.cancelled = true
			default:
				d.Spoil()
			}
			r.open = append(r.open, o)
		}
		for n := d.Count(); n > 0 && !d.Bad(); n-- {
			ref := participant.Ref{ID: id, Attempt: d.Attempt(), Digest: d.Digest()}
			r.heuristics = append(r.heuristics, heuristic{ref, d.Text()})
		}
	}
	if (r.entry.Held == nil) != (r.key == "") {
		d.Spoil()
	}
	if err := d.End(); err != nil {
		return record{}, fmt.Errorf("journal: %w", err)
	}
	return r, nil
}

func checkRecord(id string, b []byte) error {
	j, err := durable.DecodeRecord(id, b)
	if err == nil {
		_, err = recordOf(id, j)
	}
	return err
}

// trim drops what was said of branches that are forgotten.
func trim(id string, j durable.Record) (durable.Record, error) {
	r, err := recordOf(id, j)
	if err != nil {
		return durable.Record{}, err
	}
	finished := r.entry.Finished()
	r.heuristics = slices.DeleteFunc(r.heuristics, func(h heuristic) bool { return !slices.Contains(finished, h.ref) })
	return r.journal(), nil
}

// opened is the open reservation of ref; nil if there is none.
func (r *record) opened(ref participant.Ref) *reservation {
	for i := range r.open {
		if r.open[i].ref == ref {
			return &r.open[i]
		}
	}
	return nil
}

// close drops the open reservation of ref.
func (r *record) close(ref participant.Ref) {
	r.open = slices.DeleteFunc(slices.Clone(r.open), func(o reservation) bool { return o.ref == ref })
}

// said is what the service said of a heuristic branch; empty if it is none.
func (r *record) said(ref participant.Ref) string {
	for _, h := range r.heuristics {
		if h.ref == ref {
			return h.said
		}
	}
	return ""
}
