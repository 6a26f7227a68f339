package kv

import (
	"fmt"

	"github.com/concordat-tx/concordat/fsm/mutant"
	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/rpc/kvop"
)

// record is what the journal keeps of one id. Redo and locks belong to the
// held branch and are empty without one.
type record struct {
	entry participant.Entry
	// redo are the final values of the keys that the branch changed: what
	// Commit writes. Nothing of a branch is in the data before that.
	redo []effect
	// locks are what the branch holds, in the order of the keys.
	locks []keyMode
}

// effect is the final state of one key; no value means that it is deleted.
type effect struct {
	key   string
	value kvop.Value
}

// keyMode is a lock on one key.
type keyMode struct {
	key  string
	mode mode
}

func encodeRecord(r record) []byte {
	e := newEncoder()
	e.attempt(r.entry.Max)
	e.refs(r.entry.Committed)
	e.refs(r.entry.Refused)
	h := r.entry.Held
	if h == nil {
		e.byte(0)
		return e.b
	}
	e.byte(1)
	e.attempt(h.Attempt)
	e.digest(h.Digest)
	e.attempt(h.Priority)
	e.bytes(h.Result)
	e.count(len(r.redo))
	for _, f := range r.redo {
		e.text(f.key)
		if f.value.Type() == 0 {
			e.byte(0)
			continue
		}
		e.byte(1)
		e.value(f.value)
	}
	e.count(len(r.locks))
	for _, l := range r.locks {
		e.text(l.key)
		e.byte(byte(l.mode))
	}
	return e.b
}

func decodeRecord(id string, b []byte) (record, error) {
	d := newDecoder(b)
	var r record
	r.entry.Max = d.attempt()
	r.entry.Committed = d.refs(id)
	r.entry.Refused = d.refs(id)
	switch d.byte() {
	case 0:
	case 1:
		decodeHeld(d, &r)
	default:
		d.bad = true
	}
	if err := d.end(); err != nil {
		return record{}, fmt.Errorf("journal: %w", err)
	}
	return r, nil
}

func decodeHeld(d *decoder, r *record) {
	r.entry.Held = &participant.HeldBranch{Attempt: d.attempt(), Digest: d.digest(), Priority: d.attempt(), Result: d.bytes()}
	for n := d.count(); n > 0 && !d.bad; n-- {
		f := effect{key: d.text()}
		switch d.byte() {
		case 0:
		case 1:
			f.value = d.value(false)
		default:
			d.bad = true
		}
		r.redo = append(r.redo, f)
	}
	for n := d.count(); n > 0 && !d.bad; n-- {
		l := keyMode{key: d.text(), mode: mode(d.byte())}
		if l.mode != shared && l.mode != exclusive {
			d.bad = true
		}
		r.locks = append(r.locks, l)
	}
}

// record reads what is remembered of id; the zero record if nothing is.
func (p *pages) record(id string) (record, error) {
	b, err := p.get(bucketJournal, journalKey(id))
	if err != nil || b == nil {
		return record{}, err
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

// openRecord is a record as a cursor found it.
func (p *pages) openRecord(key, sealed []byte) (record, error) {
	b, err := p.open(bucketJournal, key, sealed)
	if err != nil {
		return record{}, err
	}
	return p.readRecord(string(key), b)
}

func (p *pages) readRecord(id string, b []byte) (record, error) {
	r, err := decodeRecord(id, b)
	if err != nil {
		return record{}, p.corrupt(bucketJournal, []byte(id), err.Error())
	}
	return r, nil
}

// putRecord stores r, or drops the id if there is nothing left to remember.
func (p *pages) putRecord(id string, r record) error {
	if r.entry.Held == nil {
		r.redo, r.locks = nil, nil
	}
	if r.entry.IsZero() {
		return p.delete(bucketJournal, journalKey(id))
	}
	return p.put(bucketJournal, journalKey(id), encodeRecord(r))
}

// value reads a key; false if it does not exist.
func (p *pages) value(key string) (kvop.Value, bool, error) {
	b, err := p.get(bucketData, []byte(key))
	if err != nil || b == nil {
		return kvop.Value{}, false, err
	}
	v, err := p.readValue([]byte(key), b)
	return v, err == nil, err
}

// openValue is a value as a cursor found it.
func (p *pages) openValue(key, sealed []byte) (kvop.Value, error) {
	b, err := p.open(bucketData, key, sealed)
	if err != nil {
		return kvop.Value{}, err
	}
	return p.readValue(key, b)
}

func (p *pages) readValue(key, b []byte) (kvop.Value, error) {
	v, err := decodeValue(b)
	if err != nil {
		return kvop.Value{}, p.corrupt(bucketData, key, err.Error())
	}
	return v, nil
}

// apply makes the effects of a branch final.
func (p *pages) apply(redo []effect) error {
	for _, f := range redo {
		var err error
		if f.value.Type() == 0 {
			err = p.delete(bucketData, []byte(f.key))
		} else {
			err = p.put(bucketData, []byte(f.key), encodeValue(f.value))
		}
		if err != nil {
			return err
		}
	}
	return nil
}
