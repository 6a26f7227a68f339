package fsm

import (
	"encoding/binary"
	"fmt"
	"math"

	"google.golang.org/protobuf/encoding/protowire"
)

// wire reads the fields of one message of log.proto, numbers and bytes, without
// allocating anything. They must stand in the order of their numbers, as they
// are written. Once err is set, next is false.
type wire struct {
	rest  []byte
	field protowire.Number
	kind  protowire.Type
	value uint64
	inner []byte
	err   error
}

// next is false at the end of the message and at an error.
func (w *wire) next() bool {
	if len(w.rest) == 0 || w.err != nil {
		return false
	}
	tag := w.uvarint()
	before := w.field
	w.field, w.kind = protowire.Number(min(tag>>3, math.MaxInt32)), protowire.Type(tag&7)
	w.value = w.uvarint()
	switch {
	case w.err != nil:
		return false
	case w.field < before:
		w.broken(fmt.Sprintf("stands behind field %d", before))
	case !w.field.IsValid():
		w.broken("is no field")
	case w.kind == protowire.BytesType && w.value > uint64(len(w.rest)):
		w.broken("is cut short")
	case w.kind == protowire.BytesType:
		w.inner, w.rest = w.rest[:w.value:w.value], w.rest[w.value:]
	case w.kind != protowire.VarintType:
		w.broken("has a type that no field of ours has")
	}
	return w.err == nil
}

func (w *wire) uvarint() uint64 {
	v, n := binary.Uvarint(w.rest)
	if n <= 0 {
		w.broken("is cut short")
		return 0
	}
	w.rest = w.rest[n:]
	return v
}

func (w *wire) broken(what string) {
	if w.err == nil {
		w.err = fmt.Errorf("field %d %s: %w", w.field, what, ErrCorrupt)
	}
}

// unknown refuses a field that this program does not know: to skip it would be
// to lose it in the next snapshot.
func (w *wire) unknown() {
	if w.err == nil {
		w.err = fmt.Errorf("field %d is not known: run the newer program", w.field)
	}
}

// number is the field's, at most limit.
func (w *wire) number(limit uint64) uint64 {
	switch {
	case w.kind != protowire.VarintType:
		w.broken("is no number")
		return 0
	case w.value > limit:
		w.broken(fmt.Sprintf("is %d, at most %d", w.value, limit))
		return 0
	}
	return w.value
}

func (w *wire) bool() bool { return w.number(1) == 1 }

// bytes are the field's; they belong to what is read from.
func (w *wire) bytes() []byte {
	if w.kind != protowire.BytesType {
		w.broken("is no bytes")
		return nil
	}
	return w.inner
}

// message reads the field's own fields.
func (w *wire) message() wire {
	inner := wire{rest: w.bytes()}
	inner.err = w.err
	return inner
}

func (w *wire) digest() (d Digest) {
	b := w.bytes()
	if len(b) != len(d) {
		w.broken(fmt.Sprintf("is a digest of %d bytes", len(b)))
		return d
	}
	return Digest(b)
}
