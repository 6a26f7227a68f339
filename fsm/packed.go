package fsm

import (
	"encoding/binary"
	"hash/crc32"
	"iter"
	"maps"
	"slices"
)

// packed holds finished transactions as their records in a snapshot, one behind
// the other in the order of their Finish, without a pointer for each: a million
// cost a few large blocks that the garbage collector does not look into, a
// snapshot copies them, and retention takes them from the front. Bytes that were
// written are never changed, so a snapshot shares the blocks.
type packed struct {
	run
	// index finds a record by the hash of its id. A second id of the same hash
	// is refused, and kept elsewhere.
	index map[uint64]spot
	buf   []byte
}

// run is what a snapshot needs of packed.
type run struct {
	blocks []block
	first  uint64 // number of blocks[0]
	head   uint32 // where the oldest record stands in blocks[0]
	count  int
	// holes are records behind the head that have been taken out.
	holes map[spot]struct{}
}

// block is records, each behind its head.
type block []byte

// blockBytes is how long a block grows; a longer record has one for itself.
const blockBytes = 64 << 10

// recordHead stands before each record: Finish index, length and CRC-32C.
const recordHead = 8 + 4 + 4

// spot is where a record's head is: the number of the block and the offset in it.
type spot uint64

func spotAt(number uint64, offset uint32) spot { return spot(number<<32 | uint64(offset)) }

func newPacked() packed {
	return packed{run: run{holes: map[spot]struct{}{}}, index: map[uint64]spot{}}
}

// packedTxn is one finished transaction: its head and its record.
type packedTxn []byte

func (p packedTxn) finishIndex() uint64 { return binary.BigEndian.Uint64(p) }

// sum is the length and the checksum, as they stand in a snapshot.
func (p packedTxn) sum() []byte { return p[8:recordHead] }

func (p packedTxn) record() []byte { return p[recordHead:] }

// peek reads what stands before the branches.
func (p packedTxn) peek() (id []byte, state State, beginIndex uint64) {
	for w := insideRecord(p.record()); w.next() && w.field <= fieldTxnBeginIndex; {
		switch w.field {
		case fieldTxnID:
			id = w.bytes()
		case fieldTxnState:
			state = State(w.value)
		case fieldTxnBeginIndex:
			beginIndex = w.value
		}
	}
	return id, state, beginIndex
}

func (p packedTxn) id() []byte {
	w := insideRecord(p.record())
	w.next()
	return w.bytes()
}

// read fills t with the transaction.
func (p packedTxn) read(t *Txn, registry map[string]*Participant) {
	err := readTxn(t, p.record(), registry)
	invariant(err == nil, "a finished record cannot be read") // appendTxn wrote it
}

func (p packedTxn) txn(registry map[string]*Participant) *Txn {
	t := new(Txn)
	p.read(t, registry)
	return t
}

// idHash is FNV-1a, 64 bits. Who makes ids that collide spoils nothing but the
// memory of their own transactions.
func idHash[T string | []byte](id T) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(id) {
		h = (h ^ uint64(id[i])) * 1099511628211
	}
	return h
}

// push adds a transaction that finished after all that are here; false if
// another id has its hash.
func (p *packed) push(t *Txn) bool {
	hash := idHash(t.ID)
	if _, taken := p.index[hash]; taken {
		return false
	}
	p.buf = appendTxn(append(p.buf[:0], make([]byte, recordHead)...), t)
	record := p.buf[recordHead:]
	binary.BigEndian.PutUint64(p.buf, t.FinishIndex)
	binary.BigEndian.PutUint32(p.buf[8:], uint32(len(record)))
	binary.BigEndian.PutUint32(p.buf[12:], crc32.Checksum(record, castagnoli))
	number, last := p.room(len(p.buf))
	p.index[hash] = spotAt(number, uint32(len(*last)))
	*last = append(*last, p.buf...)
	p.count++
	return true
}

// room is the last block with n bytes free, and its number.
func (p *run) room(n int) (uint64, *block) {
	if i := len(p.blocks) - 1; i >= 0 {
		last := &p.blocks[i]
		switch need := len(*last) + n; {
		case need <= cap(*last):
			return p.first + uint64(i), last
		case need <= blockBytes: // the first block of a small state
			*last = append(make(block, 0, min(2*need, blockBytes)), *last...)
			return p.first + uint64(i), last
		}
	}
	size := max(n, blockBytes)
	if len(p.blocks) == 0 {
		size = max(n, 1<<10)
	}
	p.blocks = append(p.blocks, make(block, 0, size))
	i := len(p.blocks) - 1
	return p.first + uint64(i), &p.blocks[i]
}

func (p *run) at(place spot) packedTxn {
	b := p.blocks[uint64(place>>32)-p.first][uint32(place):]
	return packedTxn(b[:recordHead+int(binary.BigEndian.Uint32(b[8:]))])
}

// find is the transaction of an id, or nil.
func (p *packed) find(id string) packedTxn {
	place, ok := p.index[idHash(id)]
	if !ok {
		return nil
	}
	found := p.at(place)
	if string(found.id()) != id {
		return nil
	}
	return found
}

// take removes a transaction that is here.
func (p *packed) take(id string) {
	hash := idHash(id)
	p.holes[p.index[hash]] = struct{}{}
	delete(p.index, hash)
	p.count--
	p.advance()
}

// advance moves the head behind what was taken, and lets go of blocks of which
// nothing is left, but for the last, which has room for what comes.
func (p *run) advance() {
	for len(p.blocks) > 0 {
		if int(p.head) == len(p.blocks[0]) {
			if len(p.blocks) == 1 {
				return
			}
			p.blocks[0] = nil
			p.blocks, p.first, p.head = p.blocks[1:], p.first+1, 0
			continue
		}
		at := spotAt(p.first, p.head)
		if _, hole := p.holes[at]; !hole {
			return
		}
		delete(p.holes, at)
		p.head += uint32(len(p.at(at)))
	}
}

// from are the transactions that stand, in the order of their Finish, from the
// block on whose number is given.
func (p *run) from(number uint64) iter.Seq[packedTxn] {
	return func(yield func(packedTxn) bool) {
		for ; number < p.first+uint64(len(p.blocks)); number++ {
			offset, end := uint32(0), uint32(len(p.blocks[number-p.first]))
			if number == p.first {
				offset = p.head
			}
			for offset < end {
				at := spotAt(number, offset)
				t := p.at(at)
				offset += uint32(len(t))
				if _, hole := p.holes[at]; !hole && !yield(t) {
					return
				}
			}
		}
	}
}

func (p *run) all() iter.Seq[packedTxn] { return p.from(p.first) }

// behind are those that were finished at or behind a log index.
func (p *run) behind(index uint64) iter.Seq[packedTxn] {
	// The block before the first one that begins behind it may end behind it.
	i, _ := slices.BinarySearchFunc(p.blocks, index, func(b block, index uint64) int {
		if packedTxn(b).finishIndex() < index {
			return -1
		}
		return 1
	})
	return func(yield func(packedTxn) bool) {
		for t := range p.from(p.first + uint64(max(i, 1)-1)) {
			if t.finishIndex() >= index && !yield(t) {
				return
			}
		}
	}
}

// last is the Finish index of the newest, 0 if there is none.
func (p *run) last() (index uint64) {
	for i := len(p.blocks) - 1; i >= 0 && index == 0; i-- {
		for t := range p.from(p.first + uint64(i)) {
			index = t.finishIndex()
		}
	}
	return index
}

// view is what a snapshot keeps.
func (p *run) view() run {
	v := *p
	v.blocks, v.holes = slices.Clone(p.blocks), maps.Clone(p.holes)
	return v
}
