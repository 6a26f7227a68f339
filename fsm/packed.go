package fsm

import (
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
	// index finds a record by the hash of its id. A second id of the same hash is
	// refused, and kept elsewhere: of a million about a hundred.
	index map[uint32]spot
	buf   []byte
}

// run is what a snapshot needs of packed.
type run struct {
	blocks []block
	first  uint16 // number of blocks[0]; numbers come again after 65,536
	head   int    // where the oldest record stands in blocks[0]
	count  int
	// holes are records behind the head that have been taken out.
	holes map[spot]struct{}
}

// block is records.
type block []byte

const (
	// blockBytes is how long a block grows; a longer record has one for itself.
	blockBytes = 64 << 10
	// maxBlocks keeps a number from meaning two blocks; there is room for 4 GiB.
	maxBlocks = 1<<16 - 1
)

// spot is where a record begins: the number of the block, 16 bits, and the offset in it.
type spot uint32

func newPacked() packed {
	return packed{run: run{holes: map[spot]struct{}{}}, index: map[uint32]spot{}}
}

func (p *run) spotAt(i, offset int) spot { return spot(uint32(p.first+uint16(i))<<16 | uint32(offset)) }

func (p *run) at(s spot) packedTxn {
	return firstIn(p.blocks[uint16(s>>16)-p.first][s&0xffff:])
}

// packedTxn is the record of one finished transaction, as appendTxn makes it.
type packedTxn []byte

// firstIn is the first of records that stand one behind the other.
func firstIn(b []byte) packedTxn {
	w := wire{rest: b}
	w.next()
	return packedTxn(b[:len(b)-len(w.rest)])
}

// peek reads what stands before the branches.
func (p packedTxn) peek() (state State, beginIndex, finishIndex uint64) {
	for w := insideRecord(p); w.next() && w.field <= fieldTxnFinishIndex; {
		switch w.field {
		case fieldTxnState:
			state = State(w.value)
		case fieldTxnBeginIndex:
			beginIndex = w.value
		case fieldTxnFinishIndex:
			finishIndex = w.value
		}
	}
	return state, beginIndex, finishIndex
}

func (p packedTxn) finishIndex() uint64 {
	_, _, index := p.peek()
	return index
}

func (p packedTxn) id() []byte {
	w := insideRecord(p)
	w.next()
	return w.bytes()
}

// read fills t with the transaction.
func (p packedTxn) read(t *Txn, registry map[string]*Participant) {
	err := readTxn(t, p, registry)
	invariant(err == nil, "a finished record cannot be read") // appendTxn wrote it
}

func (p packedTxn) txn(registry map[string]*Participant) *Txn {
	t := new(Txn)
	p.read(t, registry)
	return t
}

// idHash is FNV-1a of 64 bits, folded. Who makes ids that collide spoils nothing
// but the memory of their own transactions.
func idHash(id string) uint32 {
	h := uint64(14695981039346656037)
	for i := range len(id) {
		h = (h ^ uint64(id[i])) * 1099511628211
	}
	return uint32(h>>32) ^ uint32(h)
}

// push adds a transaction that finished after all that are here; false if
// another id has its hash.
func (p *packed) push(t *Txn) bool {
	hash := idHash(t.ID)
	if _, taken := p.index[hash]; taken || len(p.blocks) == maxBlocks {
		return false
	}
	p.buf = appendTxn(p.buf[:0], t)
	i := p.room(len(p.buf))
	p.index[hash] = p.spotAt(i, len(p.blocks[i]))
	p.blocks[i] = append(p.blocks[i], p.buf...)
	p.count++
	return true
}

// room makes room for n bytes in the last block, and tells which that is.
func (p *run) room(n int) int {
	i := len(p.blocks) - 1
	if i >= 0 {
		last := p.blocks[i]
		switch need := len(last) + n; {
		case need <= cap(last):
			return i
		case need <= blockBytes: // the first block of a small state
			p.blocks[i] = append(make(block, 0, min(2*need, blockBytes)), last...)
			return i
		}
	}
	size := blockBytes
	if i < 0 {
		size = 1 << 10
	}
	p.blocks = append(p.blocks, make(block, 0, max(n, size)))
	return i + 1
}

// find is the transaction of an id, or nil.
func (p *packed) find(id string) packedTxn {
	s, ok := p.index[idHash(id)]
	if !ok {
		return nil
	}
	found := p.at(s)
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
	for {
		if p.head == len(p.blocks[0]) {
			if len(p.blocks) == 1 {
				return
			}
			p.blocks[0] = nil
			p.blocks, p.first, p.head = p.blocks[1:], p.first+1, 0
			continue
		}
		at := p.spotAt(0, p.head)
		if _, hole := p.holes[at]; !hole {
			return
		}
		delete(p.holes, at)
		p.head += len(p.at(at))
	}
}

// from are the transactions that stand, in the order of their Finish, from a
// block on.
func (p *run) from(i int) iter.Seq[packedTxn] {
	return func(yield func(packedTxn) bool) {
		for ; i < len(p.blocks); i++ {
			offset := 0
			if i == 0 {
				offset = p.head
			}
			for offset < len(p.blocks[i]) {
				t := firstIn(p.blocks[i][offset:])
				_, hole := p.holes[p.spotAt(i, offset)]
				offset += len(t)
				if !hole && !yield(t) {
					return
				}
			}
		}
	}
}

func (p *run) all() iter.Seq[packedTxn] { return p.from(0) }

// behind are those that were finished at or behind a log index.
func (p *run) behind(index uint64) iter.Seq[packedTxn] {
	// The block before the first one that begins behind it may end behind it.
	i, _ := slices.BinarySearchFunc(p.blocks, index, func(b block, index uint64) int {
		if firstIn(b).finishIndex() < index {
			return -1
		}
		return 1
	})
	return func(yield func(packedTxn) bool) {
		for t := range p.from(max(i, 1) - 1) {
			if t.finishIndex() >= index && !yield(t) {
				return
			}
		}
	}
}

// last is the Finish index of the newest, 0 if there is none.
func (p *run) last() (index uint64) {
	for i := len(p.blocks) - 1; i >= 0 && index == 0; i-- {
		for t := range p.from(i) {
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
