package kv

import (
	"fmt"

	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/participant/durable"
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

// journal is r as the journal takes it.
func (r record) journal() durable.Record {
	j := durable.Record{Entry: r.entry}
	if r.entry.Held == nil {
		return j
	}
	e := durable.NewTail()
	e.Count(len(r.redo))
	for _, f := range r.redo {
		e.Text(f.key)
		if f.value.Type() == 0 {
			e.Byte(0)
			continue
		}
		e.Byte(1)
		appendValue(e, f.value)
	}
	e.Count(len(r.locks))
	for _, l := range r.locks {
		e.Text(l.key)
		e.Byte(byte(l.mode))
	}
	j.Tail = e.Encoded()
	return j
}

// decodeRecord reads what the journal has of id.
func decodeRecord(id string, b []byte) (record, error) {
	entry, d := durable.DecodeEntry(id, b)
	r := record{entry: entry}
	if entry.Held != nil {
		r.readTail(d)
	}
	if err := d.End(); err != nil {
		return record{}, fmt.Errorf("journal: %w", err)
	}
	return r, nil
}

func (r *record) readTail(d *durable.Decoder) {
	for n := d.Count(); n > 0 && !d.Bad(); n-- {
		f := effect{key: d.Text()}
		switch d.Byte() {
		case 0:
		case 1:
			f.value = readValue(d, false)
		default:
			d.Spoil()
		}
		r.redo = append(r.redo, f)
	}
	for n := d.Count(); n > 0 && !d.Bad(); n-- {
		l := keyMode{key: d.Text(), mode: mode(d.Byte())}
		if l.mode != shared && l.mode != exclusive {
			d.Spoil()
		}
		r.locks = append(r.locks, l)
	}
}

// pages is a point in time of the file, read as a store.
type pages struct{ *durable.Pages }

// record reads what is remembered of id; the zero record if nothing is.
func (p pages) record(id string) (record, error) {
	j, err := p.Record(id)
	if err != nil {
		return record{}, err
	}
	return p.recordOf(id, j)
}

// recordOf reads a record of the journal.
func (p pages) recordOf(id string, j durable.Record) (record, error) {
	r := record{entry: j.Entry}
	if j.Entry.Held == nil {
		return r, nil
	}
	d := durable.DecodeTail(j.Tail)
	r.readTail(d)
	if err := d.End(); err != nil {
		return record{}, p.CorruptRecord(id, err)
	}
	return r, nil
}

// putRecord stores r, or drops the id if there is nothing left to remember.
func (p pages) putRecord(id string, r record) error { return p.PutRecord(id, r.journal()) }

// value reads a key; false if it does not exist.
func (p pages) value(key string) (kvop.Value, bool, error) {
	b, err := p.Get(bucketData, []byte(key))
	if err != nil || b == nil {
		return kvop.Value{}, false, err
	}
	v, err := p.readValue([]byte(key), b)
	return v, err == nil, err
}

// openValue is a value as a cursor found it.
func (p pages) openValue(key, sealed []byte) (kvop.Value, error) {
	b, err := p.Open(bucketData, key, sealed)
	if err != nil {
		return kvop.Value{}, err
	}
	return p.readValue(key, b)
}

func (p pages) readValue(key, b []byte) (kvop.Value, error) {
	v, err := decodeValue(b)
	if err != nil {
		return kvop.Value{}, p.Corrupt(bucketData, key, err.Error())
	}
	return v, nil
}

// apply makes the effects of a branch final.
func (p pages) apply(redo []effect) error {
	for _, f := range redo {
		var err error
		if f.value.Type() == 0 {
			err = p.Delete(bucketData, []byte(f.key))
		} else {
			err = p.Put(bucketData, []byte(f.key), encodeValue(f.value))
		}
		if err != nil {
			return err
		}
	}
	return nil
}
