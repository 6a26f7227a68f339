package durable

import (
	"encoding/binary"
	"errors"
	"math"

	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// FormatVersion is that of the file. Every record begins with it, so that a
// later format can be read record by record.
const FormatVersion = 1

// errRecord: a record with a good checksum that cannot be read is of a newer
// version, or a defect of ours.
var errRecord = errors.New("the record cannot be read (written by a newer version?)")

// Encoder builds a record: fixed-width attempts and digests, varints for
// numbers, lengths before everything that varies.
type Encoder struct{ b []byte }

// NewEncoder begins a record.
func NewEncoder() *Encoder { return &Encoder{b: []byte{FormatVersion}} }

// NewTail begins what a resource manager adds to a record.
func NewTail() *Encoder { return &Encoder{} }

// Encoded is what was written so far.
func (e *Encoder) Encoded() []byte { return e.b }

// Byte writes one byte.
func (e *Encoder) Byte(v byte) { e.b = append(e.b, v) }

// Uint writes a varint.
func (e *Encoder) Uint(v uint64) { e.b = binary.AppendUvarint(e.b, v) }

// Int writes a signed varint.
func (e *Encoder) Int(v int64) { e.b = binary.AppendVarint(e.b, v) }

// Text writes a string with its length.
func (e *Encoder) Text(v string) { e.Uint(uint64(len(v))); e.b = append(e.b, v...) }

// Bytes writes bytes with their length.
func (e *Encoder) Bytes(v []byte) { e.Uint(uint64(len(v))); e.b = append(e.b, v...) }

// Count writes the number of things that follow.
func (e *Encoder) Count(n int) { e.Uint(uint64(n)) }

// Digest writes the digest of a payload.
func (e *Encoder) Digest(d rpc.Digest) { e.b = append(e.b, d[:]...) }

// Attempt writes an attempt.
func (e *Encoder) Attempt(a rpc.Attempt) {
	e.b = binary.BigEndian.AppendUint32(e.b, a.Generation)
	e.b = binary.BigEndian.AppendUint64(e.b, a.Term)
	e.b = binary.BigEndian.AppendUint64(e.b, a.Sequence)
}

func (e *Encoder) refs(refs []participant.Ref) {
	e.Count(len(refs))
	for _, r := range refs {
		e.Attempt(r.Attempt)
		e.Digest(r.Digest)
	}
}

// Decoder reads a record. The first thing that does not fit makes it bad, and
// everything after that zero.
type Decoder struct {
	b   []byte
	bad bool
}

// NewDecoder reads a record from its beginning.
func NewDecoder(b []byte) *Decoder {
	d := &Decoder{b: b}
	if d.Byte() != FormatVersion {
		d.bad = true
	}
	return d
}

// End is the verdict; data that are left over are bad too.
func (d *Decoder) End() error {
	if d.bad || len(d.b) != 0 {
		return errRecord
	}
	return nil
}

// Spoil makes the record bad: what was read has no meaning.
func (d *Decoder) Spoil() { d.bad = true }

// Bad reports whether something did not fit.
func (d *Decoder) Bad() bool { return d.bad }

// More reports whether anything is left.
func (d *Decoder) More() bool { return !d.bad && len(d.b) > 0 }

func (d *Decoder) take(n uint64) []byte {
	if d.bad || n > uint64(len(d.b)) {
		d.bad, d.b = true, nil
		return nil
	}
	v := d.b[:n:n]
	d.b = d.b[n:]
	return v
}

// Byte reads one byte.
func (d *Decoder) Byte() byte {
	if v := d.take(1); len(v) == 1 {
		return v[0]
	}
	return 0
}

// Uint reads a varint.
func (d *Decoder) Uint() uint64 {
	v, n := binary.Uvarint(d.b)
	d.skip(n)
	return v
}

// Int reads a signed varint.
func (d *Decoder) Int() int64 {
	v, n := binary.Varint(d.b)
	d.skip(n)
	return v
}

func (d *Decoder) skip(n int) {
	if n <= 0 {
		d.bad, d.b = true, nil
		return
	}
	d.take(uint64(n))
}

// Text reads a string.
func (d *Decoder) Text() string { return string(d.take(d.Uint())) }

// Bytes reads bytes, as a copy: records outlive the transaction they were read
// in. None are nil.
func (d *Decoder) Bytes() []byte {
	v := d.take(d.Uint())
	if len(v) == 0 {
		return nil
	}
	return append([]byte(nil), v...)
}

// Count is a number of things of at least one byte each, so that a bad one
// cannot make us allocate more than the record is long.
func (d *Decoder) Count() int {
	n := d.Uint()
	if n > uint64(len(d.b)) {
		d.bad, d.b = true, nil
		return 0
	}
	return int(n)
}

// Attempt reads an attempt.
func (d *Decoder) Attempt() rpc.Attempt {
	v := d.take(20)
	if len(v) != 20 {
		return rpc.Attempt{}
	}
	return rpc.Attempt{
		Generation: binary.BigEndian.Uint32(v), Term: binary.BigEndian.Uint64(v[4:]), Sequence: binary.BigEndian.Uint64(v[12:]),
	}
}

// Digest reads the digest of a payload.
func (d *Decoder) Digest() (digest rpc.Digest) {
	copy(digest[:], d.take(uint64(len(digest))))
	return digest
}

func (d *Decoder) reasonCode() pb.Reason_Code {
	n := d.Uint()
	if n > math.MaxUint32 {
		d.bad, n = true, 0
	}
	return pb.Reason_Code(int32(uint32(n)))
}

func (d *Decoder) refs(id string) []participant.Ref {
	n := d.Count()
	var refs []participant.Ref
	for range n {
		refs = append(refs, participant.Ref{ID: id, Attempt: d.Attempt(), Digest: d.Digest()})
		if d.bad {
			return nil
		}
	}
	return refs
}
