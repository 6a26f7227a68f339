package sqlbranch

import (
	"encoding/binary"
	"errors"

	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/rpc"
)

// formatVersion is the first byte of everything that is written, so that a
// later format can be read row by row.
const formatVersion = 1

// ErrFormat: a row that cannot be read is of a newer version, or was changed by
// somebody else. Nothing may be concluded from it.
var ErrFormat = errors.New("the journal row cannot be read (written by a newer version, or by somebody else?)")

const refBytes = 20 + len(rpc.Digest{})

func appendAttempt(b []byte, a rpc.Attempt) []byte {
	b = binary.BigEndian.AppendUint32(b, a.Generation)
	b = binary.BigEndian.AppendUint64(b, a.Term)
	return binary.BigEndian.AppendUint64(b, a.Sequence)
}

func appendRefs(b []byte, refs []participant.Ref) []byte {
	b = binary.AppendUvarint(b, uint64(len(refs)))
	for _, r := range refs {
		b = appendRef(b, r)
	}
	return b
}

func appendRef(b []byte, r participant.Ref) []byte {
	return append(appendAttempt(b, r.Attempt), r.Digest[:]...)
}

// reader reads a row about one id. The first thing that does not fit makes it
// bad, and everything after that zero.
type reader struct {
	id  string
	b   []byte
	bad bool
}

func newReader(id string, b []byte) *reader {
	r := &reader{id: id, b: b}
	if v := r.take(1); len(v) != 1 || v[0] != formatVersion {
		r.bad = true
	}
	return r
}

func (r *reader) take(n int) []byte {
	if r.bad || n > len(r.b) {
		r.bad, r.b = true, nil
		return nil
	}
	v := r.b[:n]
	r.b = r.b[n:]
	return v
}

func (r *reader) attempt() rpc.Attempt {
	v := r.take(20)
	if v == nil {
		return rpc.Attempt{}
	}
	return rpc.Attempt{
		Generation: binary.BigEndian.Uint32(v), Term: binary.BigEndian.Uint64(v[4:]), Sequence: binary.BigEndian.Uint64(v[12:]),
	}
}

func (r *reader) ref() participant.Ref {
	ref := participant.Ref{ID: r.id, Attempt: r.attempt()}
	copy(ref.Digest[:], r.take(len(ref.Digest)))
	return ref
}

func (r *reader) refs() []participant.Ref {
	n, size := binary.Uvarint(r.b)
	if size <= 0 || n > uint64(len(r.b)/refBytes) || size != len(binary.AppendUvarint(nil, n)) {
		r.bad, r.b = true, nil
		return nil
	}
	r.take(size)
	var refs []participant.Ref
	for range n {
		refs = append(refs, r.ref())
	}
	return refs
}

func (r *reader) flag() bool {
	v := r.take(1)
	if len(v) == 1 && v[0] > 1 {
		r.bad = true
	}
	return len(v) == 1 && v[0] == 1
}

// end is the verdict; what is left over is bad too.
func (r *reader) end() error {
	if r.bad || len(r.b) != 0 {
		return ErrFormat
	}
	return nil
}

// EncodeEntry is the body of an entry's row. The held branch is not in it.
func EncodeEntry(e participant.Entry) []byte {
	b := appendAttempt([]byte{formatVersion}, e.Max)
	return appendRefs(appendRefs(b, e.Committed), e.Refused)
}

// DecodeEntry reads the body of the entry's row of id; an empty one is the zero entry.
func DecodeEntry(id string, body []byte) (participant.Entry, error) {
	if len(body) == 0 {
		return participant.Entry{}, nil
	}
	r := newReader(id, body)
	e := participant.Entry{Max: r.attempt(), Committed: r.refs(), Refused: r.refs()}
	if err := r.end(); err != nil {
		return participant.Entry{}, err
	}
	return e, nil
}
