package fsm

import (
	"bufio"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/concordat-tx/concordat/fsm/fsmpb"
)

// Restore builds a whole new machine from a snapshot. An error names the
// record and what is wrong with it; nothing half restored is returned. What no
// Machine writes (records out of order, a broken invariant) is refused even
// where the checksums are right.
func Restore(r io.Reader) (*Machine, error) {
	br := &frameReader{r: bufio.NewReaderSize(r, 64<<10)}
	version, err := readMagic(br.r)
	if err != nil {
		return nil, fmt.Errorf("snapshot: %w", err)
	}
	header := new(fsmpb.SnapshotHeader)
	if err := br.message(header); err != nil {
		return nil, fmt.Errorf("snapshot header: %w", err)
	}
	b := builder{Machine: New(), byFinish: version >= versionByFinish}
	m := b.Machine
	m.clusterID, m.generation = header.GetClusterId(), header.GetGeneration()
	m.index, m.term, m.leaderID = header.GetIndex(), header.GetTerm(), header.GetLeaderId()
	m.forgottenFinish = header.GetForgottenFinish()
	var last recordKey
	for n := uint64(0); ; n++ {
		key, err := b.record(br)
		if err == nil && b.trailer != nil {
			if b.trailer.GetRecords() != n {
				return nil, fmt.Errorf("snapshot: %d records, should be %d: %w", n, b.trailer.GetRecords(), ErrCorrupt)
			}
			break
		}
		if err == nil && last.compare(key) >= 0 {
			err = fmt.Errorf("out of order: %w", ErrCorrupt)
		}
		if err != nil {
			return nil, fmt.Errorf("snapshot record %d: %w", n, err)
		}
		last = key
	}
	if _, err := br.r.ReadByte(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("snapshot: bytes behind its end: %w", ErrCorrupt)
	}
	if err := b.finish(); err != nil {
		return nil, fmt.Errorf("snapshot: %w", err)
	}
	for _, p := range m.Participants() {
		drained, n := p.State == ParticipantRemoved, m.unfinished[p.Name]
		if p.State != ParticipantActive && drained != (n == 0) {
			return nil, fmt.Errorf("snapshot: participant %s is %s with %d unfinished branches: %w", p.Name, p.State, n, ErrCorrupt)
		}
	}
	return m, nil
}

// readMagic is the format version.
func readMagic(r io.Reader) (byte, error) {
	magic := make([]byte, len(snapshotMagic))
	if err := readFull(r, magic); err != nil {
		return 0, err
	}
	n := len(magic) - 1
	switch {
	case string(magic[:n]) != string(snapshotMagic[:n]):
		return 0, fmt.Errorf("not one of ours: %w", ErrCorrupt)
	case magic[n] == 0 || magic[n] > snapshotMagic[n]:
		return 0, fmt.Errorf("format version %d, this program knows %d: run the newer program", magic[n], snapshotMagic[n])
	}
	return magic[n], nil
}

// readFull tells a snapshot that ends too early from a reader that failed.
func readFull(r io.Reader, b []byte) error {
	_, err := io.ReadFull(r, b)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("cut short: %w", ErrCorrupt)
	}
	return err
}

// frameReader reads frames, each into the place of the one before.
type frameReader struct {
	r   *bufio.Reader
	buf []byte
}

func (f *frameReader) frame() ([]byte, error) {
	var head [8]byte
	if err := readFull(f.r, head[:]); err != nil {
		return nil, err
	}
	size := binary.BigEndian.Uint32(head[:])
	if size > maxFrame {
		return nil, fmt.Errorf("a length of %d: %w", size, ErrCorrupt)
	}
	f.buf = slices.Grow(f.buf[:0], int(size))[:size]
	if err := readFull(f.r, f.buf); err != nil {
		return nil, err
	}
	want := binary.BigEndian.Uint32(head[4:])
	if got := crc32.Checksum(f.buf, castagnoli); got != want {
		return nil, fmt.Errorf("CRC-32C is %08x, should be %08x: %w", got, want, ErrCorrupt)
	}
	return f.buf, nil
}

func (f *frameReader) message(msg proto.Message) error {
	body, err := f.frame()
	if err != nil {
		return err
	}
	return unmarshal(body, msg)
}

func unmarshal(body []byte, msg proto.Message) error {
	if err := proto.Unmarshal(body, msg); err != nil {
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return nil
}

// recordKey is a record's place in the order of a snapshot.
type recordKey struct {
	kind    int // 1 nodes, 2 participants, 3 begun terms, 4 transactions, 5 finished ones, 6 alerts
	index   uint64
	name    string
	attempt Attempt
}

func (k recordKey) compare(o recordKey) int {
	return cmp.Or(cmp.Compare(k.kind, o.kind), cmp.Compare(k.index, o.index), cmp.Compare(k.name, o.name), k.attempt.Compare(o.attempt))
}

// builder makes a machine of the records of a snapshot.
type builder struct {
	*Machine
	byFinish bool
	scratch  Txn
	// old are the finished transactions of a snapshot that has them by id.
	old     []*Txn
	trailer *fsmpb.SnapshotTrailer
}

// record takes the next record, or the trailer.
func (b *builder) record(r *frameReader) (recordKey, error) {
	body, err := r.frame()
	if err != nil {
		return recordKey{}, err
	}
	if w := (wire{rest: body}); w.next() && w.field == fieldRecordTransaction {
		return b.transaction(body)
	}
	rec := new(fsmpb.SnapshotRecord)
	if err := unmarshal(body, rec); err != nil {
		return recordKey{}, err
	}
	switch k := rec.GetKind().(type) {
	case *fsmpb.SnapshotRecord_Node:
		if k.Node.GetId() == "" {
			return recordKey{}, fmt.Errorf("node without an id: %w", ErrCorrupt)
		}
		b.announce(k.Node)
		return recordKey{kind: 1, name: k.Node.GetId()}, nil
	case *fsmpb.SnapshotRecord_Participant:
		p, err := participantFrom(k.Participant)
		if err != nil {
			return recordKey{}, err
		}
		b.participants[p.Name] = p
		return recordKey{kind: 2, name: p.Name}, nil
	case *fsmpb.SnapshotRecord_Begun:
		first, err := b.begun.restore(k.Begun)
		return recordKey{kind: 3, attempt: first}, err
	case *fsmpb.SnapshotRecord_Alert:
		mark, err := markFrom(k.Alert)
		if err != nil {
			return recordKey{}, err
		}
		b.alerts[mark.key()] = mark
		// A space sorts before every byte of a kind.
		return recordKey{kind: 6, name: mark.Kind + " " + mark.Participant}, nil
	case *fsmpb.SnapshotRecord_Trailer:
		b.trailer = k.Trailer
		return recordKey{}, nil
	}
	return recordKey{}, fmt.Errorf("unknown kind: run the newer program")
}

// transaction takes one. It is read into the same place as the one before: of a
// million, nearly all are packed again at once.
func (b *builder) transaction(body []byte) (recordKey, error) {
	t := &b.scratch
	err := readTxn(t, body, b.participants)
	if err == nil {
		err = b.checkRestored(t)
	}
	key := recordKey{kind: 4, name: t.ID}
	switch {
	case err != nil:
	case !t.State.Finished():
		b.restoreLive(t.clone())
	case !b.byFinish:
		b.old = append(b.old, t.clone())
	default:
		key = recordKey{kind: 5, index: t.FinishIndex, name: t.ID}
		err = b.restoreFinished(t)
	}
	if err != nil {
		return recordKey{}, fmt.Errorf("transaction %q: %w", t.ID, err)
	}
	return key, nil
}

func (m *Machine) restoreLive(t *Txn) {
	m.txns[t.ID], m.live[t.Attempt] = t, t
	if t.State == Preparing {
		m.preparing++
	}
	if t.NeedsOperator() {
		m.operator[t.ID] = struct{}{}
	}
	for i := range t.Branches {
		if t.Branches[i].Settled == Unsettled {
			m.unfinished[t.Branches[i].Participant]++
		}
	}
}

// restoreFinished keeps nothing of t but what it copies. Those that are not
// finished are here before.
func (m *Machine) restoreFinished(t *Txn) error {
	if m.txns[t.ID] != nil || m.finished.loose.byID[t.ID] != nil {
		return errTwice
	}
	if t.NeedsOperator() {
		m.operator[t.ID] = struct{}{}
	}
	if m.finished.pack(t) { // no other has the hash of its id, so no other has the id
		return nil
	}
	if m.finished.packed.find(t.ID) != nil {
		return errTwice
	}
	m.finished.add(t.clone())
	return nil
}

var errTwice = fmt.Errorf("two records of one id: %w", ErrCorrupt)

// finish takes the finished transactions of an older format, in the order of the new.
func (b *builder) finish() error {
	slices.SortFunc(b.old, compareFinish)
	for _, t := range b.old {
		if err := b.restoreFinished(t); err != nil {
			return fmt.Errorf("transaction %q: %w", t.ID, err)
		}
	}
	b.old = nil
	return nil
}

func participantFrom(p *fsmpb.Participant) (*Participant, error) {
	if p.GetState() < uint32(ParticipantActive) || p.GetState() > uint32(ParticipantRemoved) || CheckParticipant("name", p.GetName()) != nil {
		return nil, fmt.Errorf("participant %q in state %d: %w", p.GetName(), p.GetState(), ErrCorrupt)
	}
	return &Participant{
		Name: p.GetName(), Endpoints: p.GetEndpoints(), Kind: p.GetKind(), Incarnation: p.GetIncarnation(),
		State: ParticipantState(p.GetState()), PendingIncarnation: p.GetPendingIncarnation(), OnePhase: p.GetOnePhase(),
	}, nil
}

// restore adds a record of ranges and returns the first attempt in it. Records
// of one term follow on one another; each goes on where the one before ended.
func (b *begun) restore(p *fsmpb.BegunTerm) (first Attempt, err error) {
	n := len(b.terms) - 1
	if n < 0 || b.terms[n].generation != p.GetGeneration() || b.terms[n].term != p.GetTerm() {
		b.terms = append(b.terms, begunTerm{generation: p.GetGeneration(), term: p.GetTerm()})
		n++
	}
	t := &b.terms[n]
	r, last := p.GetRanges(), uint64(0)
	if n := len(t.ranges); n > 0 {
		last = t.ranges[n-1].last
	}
	if len(r) > 0 {
		first = Attempt{Generation: t.generation, Term: t.term, Sequence: r[0]}
	}
	t.ranges = slices.Grow(t.ranges, len(r)/2)
	for ; len(r) >= 2; r = r[2:] {
		// Ascending from 1, with a gap between two.
		if r[0] <= last || (last > 0 && r[0]-last < 2) || r[1] < r[0] {
			break
		}
		last = r[1]
		t.ranges = append(t.ranges, span{r[0], r[1]})
	}
	if len(r) > 0 || len(p.GetRanges()) == 0 {
		return first, fmt.Errorf("begun attempts of %d.%d: %w", t.generation, t.term, ErrCorrupt)
	}
	return first, nil
}

// checkRestored holds a record against what every record in a Machine has.
func (m *Machine) checkRestored(t *Txn) error {
	broken := func(what string) error { return fmt.Errorf("%s: %w", what, ErrCorrupt) }
	switch {
	case CheckID("id", t.ID) != nil || t.State == Unknown:
		return broken("id or state")
	case t.State.Decided() != (t.DecideIndex > 0) || t.State.Finished() != (t.FinishIndex > 0):
		return broken("indexes that do not fit its state")
	case t.Refused && (t.State != Aborted || len(t.Branches) > 0 || !t.Attempt.IsZero() || t.Inherited != nil || t.digest != nil):
		return broken("refused, and yet begun")
	case !t.Refused && len(t.Branches) == 0:
		return broken("no branches")
	case !t.Refused && !m.begun.has(t.Attempt):
		return broken("I2: attempt " + t.Attempt.String() + " never began")
	case t.State.Finished() && t.owesAny():
		return broken("I4: finished, and a branch owes")
	case t.OnePhase && (len(t.Branches) != 1 || t.FinishIndex != t.DecideIndex):
		return broken("one phase, and not one branch or not one end")
	}
	for i := range t.Branches {
		b := &t.Branches[i]
		switch {
		case t.BranchOf(b.Participant) != i:
			return broken("participant " + b.Participant + " twice")
		case t.State.Decided() && !t.allows(t.State.Commit(), b.Vote) && !t.unheard():
			return broken("I3: " + b.Vote.String() + " from " + b.Participant)
		case t.OnePhase && t.State.Decided() && b.Settled != SettledDone && !t.unheard():
			return broken("one phase, and not settled by its decision: " + b.Participant)
		case t.State == Preparing && (b.Settled != Unsettled || b.Vote != VoteNone):
			return broken("voted or settled before the decision: " + b.Participant)
		}
	}
	return nil
}
