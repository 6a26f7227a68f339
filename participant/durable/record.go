package durable

import (
	"fmt"

	"github.com/concordat-tx/concordat/fsm/mutant"
	"github.com/concordat-tx/concordat/participant"
)

// Record is what the journal keeps of one id.
type Record struct {
	Entry participant.Entry
	// Tail is what the resource manager adds, in its own form.
	Tail []byte
}

// Encode is r as it is stored.
func (r Record) Encode() []byte {
	e := NewEncoder()
	e.Attempt(r.Entry.Max)
	e.refs(r.Entry.Committed)
	e.refs(r.Entry.Refused)
	switch h, kept := r.Entry.Held, r.Entry.Kept; {
	case h != nil:
		e.Byte(1)
		e.Attempt(h.Attempt)
		e.Digest(h.Digest)
		e.Attempt(h.Priority)
		e.Bytes(h.Result)
	case kept != nil:
		e.Byte(2)
		e.Attempt(kept.Attempt)
		e.Bytes(kept.Result)
		e.Uint(uint64(uint32(kept.Code))) // of the wire, where it may be any number
		e.Text(kept.Message)
	default:
		e.Byte(0)
	}
	return append(e.b, r.Tail...)
}

// DecodeRecord reads the record of id. Its tail is a copy, as all of it is.
func DecodeRecord(id string, b []byte) (Record, error) {
	entry, d := DecodeEntry(id, b)
	if d.bad {
		return Record{}, fmt.Errorf("journal: %w", errRecord)
	}
	r := Record{Entry: entry}
	if len(d.b) > 0 {
		r.Tail = append([]byte(nil), d.b...)
	}
	return r, nil
}

// DecodeEntry reads the entry of a record of id, and leaves the tail to the decoder.
func DecodeEntry(id string, b []byte) (participant.Entry, *Decoder) {
	d := NewDecoder(b)
	e := participant.Entry{Max: d.Attempt(), Committed: d.refs(id), Refused: d.refs(id)}
	switch d.Byte() {
	case 0:
	case 1:
		e.Held = &participant.HeldBranch{Attempt: d.Attempt(), Digest: d.Digest(), Priority: d.Attempt(), Result: d.Bytes()}
	case 2:
		e.Kept = &participant.KeptAnswer{Attempt: d.Attempt(), Result: d.Bytes(), Code: d.reasonCode(), Message: d.Text()}
	default:
		d.bad = true
	}
	return e, d
}

// DecodeTail reads what a resource manager added to a record.
func DecodeTail(tail []byte) *Decoder { return &Decoder{b: tail} }

// Record reads what is remembered of id; the zero Record if nothing is.
func (p *Pages) Record(id string) (Record, error) {
	b, err := p.Get(bucketJournal, journalKey(id))
	if err != nil || b == nil {
		return Record{}, err
	}
	return p.readRecord(id, b)
}

// journalKey is the key of an id: the id itself, whole (P16).
func journalKey(id string) []byte {
	if mutant.On("short-ids") {
		return []byte(id[:min(len(id), 5)])
	}
	return []byte(id)
}

func (p *Pages) readRecord(id string, b []byte) (Record, error) {
	r, err := DecodeRecord(id, b)
	if err != nil {
		return Record{}, p.CorruptRecord(id, err)
	}
	return r, nil
}

// CorruptRecord is the error for a record of id that cannot be read.
func (p *Pages) CorruptRecord(id string, err error) error {
	return p.Corrupt(bucketJournal, []byte(id), err.Error())
}

// PutRecord stores r, or drops the id if there is nothing left to remember.
func (p *Pages) PutRecord(id string, r Record) error {
	if r.Entry.IsZero() && len(r.Tail) == 0 {
		return p.Delete(bucketJournal, journalKey(id))
	}
	return p.Put(bucketJournal, journalKey(id), r.Encode())
}

// EachRecord calls f for every record, in the order of the ids, until it fails.
func (p *Pages) EachRecord(f func(id string, r Record) error) error {
	cursor := p.Cursor(bucketJournal)
	for key, sealed := cursor.Seek(nil); key != nil; key, sealed = cursor.Next() {
		b, err := p.Open(bucketJournal, key, sealed)
		if err != nil {
			return err
		}
		r, err := p.readRecord(string(key), b)
		if err != nil {
			return err
		}
		if err := f(string(key), r); err != nil {
			return err
		}
	}
	return nil
}
