package kv

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/kvop"
)

// The format of the file. Every record begins with it, so that a later format
// can be read record by record.
const formatVersion = 1

// errRecord: a record with a good checksum that cannot be read is of a newer
// version, or a defect of ours.
var errRecord = errors.New("the record cannot be read (written by a newer version?)")

// encoder builds a record: fixed-width attempts and digests, varints for
// numbers, lengths before everything that varies.
type encoder struct{ b []byte }

func newEncoder() *encoder { return &encoder{b: []byte{formatVersion}} }

func (e *encoder) byte(v byte)         { e.b = append(e.b, v) }
func (e *encoder) uint(v uint64)       { e.b = binary.AppendUvarint(e.b, v) }
func (e *encoder) int(v int64)         { e.b = binary.AppendVarint(e.b, v) }
func (e *encoder) text(v string)       { e.uint(uint64(len(v))); e.b = append(e.b, v...) }
func (e *encoder) bytes(v []byte)      { e.uint(uint64(len(v))); e.b = append(e.b, v...) }
func (e *encoder) count(n int)         { e.uint(uint64(n)) }
func (e *encoder) digest(d rpc.Digest) { e.b = append(e.b, d[:]...) }

func (e *encoder) attempt(a rpc.Attempt) {
	e.b = binary.BigEndian.AppendUint32(e.b, a.Generation)
	e.b = binary.BigEndian.AppendUint64(e.b, a.Term)
	e.b = binary.BigEndian.AppendUint64(e.b, a.Sequence)
}

func (e *encoder) refs(refs []participant.Ref) {
	e.count(len(refs))
	for _, r := range refs {
		e.attempt(r.Attempt)
		e.digest(r.Digest)
	}
}

func (e *encoder) value(v kvop.Value) {
	e.byte(byte(v.Type()))
	switch v.Type() {
	case kvop.String:
		s, _ := v.Text()
		e.text(s)
	case kvop.Int:
		n, _ := v.Number()
		e.int(n)
	case kvop.List:
		list, _ := v.Elements()
		e.count(len(list))
		for _, el := range list {
			e.value(el)
		}
	}
}

// decoder reads a record. The first thing that does not fit makes it bad, and
// everything after that zero.
type decoder struct {
	b   []byte
	bad bool
}

func newDecoder(b []byte) *decoder {
	d := &decoder{b: b}
	if d.byte() != formatVersion {
		d.bad = true
	}
	return d
}

// end is the verdict; data that are left over are bad too.
func (d *decoder) end() error {
	if d.bad || len(d.b) != 0 {
		return errRecord
	}
	return nil
}

func (d *decoder) take(n uint64) []byte {
	if d.bad || n > uint64(len(d.b)) {
		d.bad, d.b = true, nil
		return nil
	}
	v := d.b[:n:n]
	d.b = d.b[n:]
	return v
}

func (d *decoder) byte() byte {
	if v := d.take(1); len(v) == 1 {
		return v[0]
	}
	return 0
}

func (d *decoder) uint() uint64 {
	v, n := binary.Uvarint(d.b)
	d.skip(n)
	return v
}

func (d *decoder) int() int64 {
	v, n := binary.Varint(d.b)
	d.skip(n)
	return v
}

func (d *decoder) skip(n int) {
	if n <= 0 {
		d.bad, d.b = true, nil
		return
	}
	d.take(uint64(n))
}

func (d *decoder) text() string { return string(d.take(d.uint())) }

// bytes is a copy: records outlive the transaction they were read in.
func (d *decoder) bytes() []byte {
	v := d.take(d.uint())
	if len(v) == 0 {
		return nil
	}
	return append([]byte(nil), v...)
}

// count is a number of things of at least one byte each, so that a bad one
// cannot make us allocate more than the record is long.
func (d *decoder) count() int {
	n := d.uint()
	if n > uint64(len(d.b)) {
		d.bad, d.b = true, nil
		return 0
	}
	return int(n)
}

func (d *decoder) attempt() rpc.Attempt {
	v := d.take(20)
	if len(v) != 20 {
		return rpc.Attempt{}
	}
	return rpc.Attempt{
		Generation: binary.BigEndian.Uint32(v), Term: binary.BigEndian.Uint64(v[4:]), Sequence: binary.BigEndian.Uint64(v[12:]),
	}
}

func (d *decoder) digest() (digest rpc.Digest) {
	copy(digest[:], d.take(uint64(len(digest))))
	return digest
}

func (d *decoder) refs(id string) []participant.Ref {
	n := d.count()
	var refs []participant.Ref
	for range n {
		refs = append(refs, participant.Ref{ID: id, Attempt: d.attempt(), Digest: d.digest()})
		if d.bad {
			return nil
		}
	}
	return refs
}

func (d *decoder) value(inList bool) kvop.Value {
	switch kvop.Type(d.byte()) {
	case kvop.String:
		return kvop.Text(d.text())
	case kvop.Int:
		return kvop.Number(d.int())
	case kvop.List:
		if inList {
			break
		}
		n := d.count()
		list := make([]kvop.Value, 0, n)
		for range n {
			list = append(list, d.value(true))
			if d.bad {
				return kvop.Value{}
			}
		}
		return kvop.ListOf(list...)
	}
	d.bad = true
	return kvop.Value{}
}

func encodeValue(v kvop.Value) []byte {
	e := newEncoder()
	e.value(v)
	return e.b
}

func decodeValue(b []byte) (kvop.Value, error) {
	d := newDecoder(b)
	v := d.value(false)
	if err := d.end(); err != nil {
		return kvop.Value{}, fmt.Errorf("value: %w", err)
	}
	return v, nil
}
