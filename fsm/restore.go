package fsm

import (
	"bufio"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/concordat-tx/concordat/fsm/fsmpb"
)

// Restore builds a whole new machine from a snapshot. An error names the
// record and what is wrong with it; nothing half restored is returned. What no
// Machine writes (records out of order, a broken invariant) is refused even
// where the checksums are right.
func Restore(r io.Reader) (*Machine, error) {
	br := bufio.NewReaderSize(r, 64<<10)
	if err := readMagic(br); err != nil {
		return nil, fmt.Errorf("snapshot: %w", err)
	}
	header := new(fsmpb.SnapshotHeader)
	if err := readFrame(br, header); err != nil {
		return nil, fmt.Errorf("snapshot header: %w", err)
	}
	m := New()
	m.clusterID, m.generation = header.GetClusterId(), header.GetGeneration()
	m.index, m.term, m.leaderID = header.GetIndex(), header.GetTerm(), header.GetLeaderId()
	m.forgottenFinish = header.GetForgottenFinish()
	var last recordKey
	for n := uint64(0); ; n++ {
		rec := new(fsmpb.SnapshotRecord)
		if err := readFrame(br, rec); err != nil {
			return nil, fmt.Errorf("snapshot record %d: %w", n, err)
		}
		if t := rec.GetTrailer(); t != nil {
			if t.GetRecords() != n {
				return nil, fmt.Errorf("snapshot: %d records, should be %d: %w", n, t.GetRecords(), ErrCorrupt)
			}
			break
		}
		key, err := m.restoreRecord(rec)
		if err == nil && last.compare(key) >= 0 {
			err = fmt.Errorf("out of order: %w", ErrCorrupt)
		}
		if err != nil {
			return nil, fmt.Errorf("snapshot record %d: %w", n, err)
		}
		last = key
	}
	if _, err := br.ReadByte(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("snapshot: bytes behind its end: %w", ErrCorrupt)
	}
	m.rebuild()
	for _, p := range m.Participants() {
		drained, n := p.State == ParticipantRemoved, m.unfinished[p.Name]
		if p.State != ParticipantActive && drained != (n == 0) {
			return nil, fmt.Errorf("snapshot: participant %s is %s with %d unfinished branches: %w", p.Name, p.State, n, ErrCorrupt)
		}
	}
	return m, nil
}

func readMagic(r io.Reader) error {
	magic := make([]byte, len(snapshotMagic))
	if err := readFull(r, magic); err != nil {
		return err
	}
	n := len(magic) - 1
	switch {
	case string(magic[:n]) != string(snapshotMagic[:n]):
		return fmt.Errorf("not one of ours: %w", ErrCorrupt)
	case magic[n] == 0 || magic[n] > snapshotMagic[n]:
		return fmt.Errorf("format version %d, this program knows %d: run the newer program", magic[n], snapshotMagic[n])
	}
	return nil
}

// readFull tells a snapshot that ends too early from a reader that failed.
func readFull(r io.Reader, b []byte) error {
	_, err := io.ReadFull(r, b)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("cut short: %w", ErrCorrupt)
	}
	return err
}

func readFrame(r io.Reader, msg proto.Message) error {
	var head [8]byte
	if err := readFull(r, head[:]); err != nil {
		return err
	}
	size := binary.BigEndian.Uint32(head[:])
	if size > maxFrame {
		return fmt.Errorf("a length of %d: %w", size, ErrCorrupt)
	}
	body := make([]byte, size)
	if err := readFull(r, body); err != nil {
		return err
	}
	want := binary.BigEndian.Uint32(head[4:])
	if got := crc32.Checksum(body, castagnoli); got != want {
		return fmt.Errorf("CRC-32C is %08x, should be %08x: %w", got, want, ErrCorrupt)
	}
	if err := proto.Unmarshal(body, msg); err != nil {
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return nil
}

// recordKey is a record's place in the order of a snapshot.
type recordKey struct {
	kind    int // 1 nodes, 2 participants, 3 begun terms, 4 transactions, 5 alerts
	name    string
	attempt Attempt
}

func (k recordKey) compare(o recordKey) int {
	return cmp.Or(cmp.Compare(k.kind, o.kind), cmp.Compare(k.name, o.name), k.attempt.Compare(o.attempt))
}

func (m *Machine) restoreRecord(rec *fsmpb.SnapshotRecord) (recordKey, error) {
	switch k := rec.GetKind().(type) {
	case *fsmpb.SnapshotRecord_Node:
		if k.Node.GetId() == "" {
			return recordKey{}, fmt.Errorf("node without an id: %w", ErrCorrupt)
		}
		m.announce(k.Node)
		return recordKey{kind: 1, name: k.Node.GetId()}, nil
	case *fsmpb.SnapshotRecord_Participant:
		p, err := participantFrom(k.Participant)
		if err != nil {
			return recordKey{}, err
		}
		m.participants[p.Name] = p
		return recordKey{kind: 2, name: p.Name}, nil
	case *fsmpb.SnapshotRecord_Begun:
		first, err := m.begun.restore(k.Begun)
		return recordKey{kind: 3, attempt: first}, err
	case *fsmpb.SnapshotRecord_Transaction:
		t, err := m.txnFrom(k.Transaction)
		if err != nil {
			return recordKey{}, fmt.Errorf("transaction %q: %w", k.Transaction.GetId(), err)
		}
		m.txns[t.ID] = t
		return recordKey{kind: 4, name: t.ID}, nil
	case *fsmpb.SnapshotRecord_Alert:
		mark, err := markFrom(k.Alert)
		if err != nil {
			return recordKey{}, err
		}
		m.alerts[mark.key()] = mark
		// A space sorts before every byte of a kind.
		return recordKey{kind: 5, name: mark.Kind + " " + mark.Participant}, nil
	}
	return recordKey{}, fmt.Errorf("unknown kind: run the newer program")
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

// txnFrom is the record again; participants' names are the registry's strings.
func (m *Machine) txnFrom(p *fsmpb.Transaction) (*Txn, error) {
	digest, ok := DigestFrom(p.GetDigest())
	if !ok || p.GetState() > uint32(Aborted) {
		return nil, fmt.Errorf("state %d, digest of %d bytes: %w", p.GetState(), len(p.GetDigest()), ErrCorrupt)
	}
	t := &Txn{
		ID: p.GetId(), Attempt: attemptFrom(p.GetAttempt()), Priority: attemptFrom(p.GetPriority()),
		Digest: digest, State: State(p.GetState()), Reason: reasonFrom(p.GetReason()),
		BeginIndex: p.GetBeginIndex(), DecideIndex: p.GetDecideIndex(), FinishIndex: p.GetFinishIndex(),
		TimeoutMS: p.GetTimeoutMs(), Refused: p.GetRefused(), Acknowledged: p.GetAcknowledged(), OnePhase: p.GetOnePhase(),
		BegunMS: p.GetBegunMs(), DecidedAfterMS: p.GetDecidedAfterMs(), FinishedAfterMS: p.GetFinishedAfterMs(),
		Branches: make([]Branch, len(p.GetBranches())),
	}
	for i, b := range p.GetBranches() {
		bd, ok := DigestFrom(b.GetDigest())
		known := m.participants[b.GetParticipant()]
		if !ok || known == nil || b.GetVote() > uint32(VoteCommitted) || b.GetSettled() > uint32(GivenUp) {
			return nil, fmt.Errorf("branch %d of %q: %w", i, b.GetParticipant(), ErrCorrupt)
		}
		t.Branches[i] = Branch{
			Participant: known.Name, Digest: bd, Vote: Vote(b.GetVote()), Settled: Settled(b.GetSettled()), Truncated: b.GetTruncated(),
		}
		content, none := b.GetPayload(), b.GetResult()
		if t.State.Decided() {
			content, none = none, content
		}
		if len(none) > 0 {
			return nil, fmt.Errorf("branch %d of %q has what its state excludes: %w", i, b.GetParticipant(), ErrCorrupt)
		}
		reason := reasonFrom(b.GetReason())
		if len(content) > 0 || reason != nil || t.State == Preparing {
			t.Branches[i].Detail = &Detail{Content: content, Reason: reason}
		}
	}
	return t, m.checkRestored(t)
}

// checkRestored holds a record against what every record in a Machine has.
func (m *Machine) checkRestored(t *Txn) error {
	broken := func(what string) error { return fmt.Errorf("%s: %w", what, ErrCorrupt) }
	switch {
	case CheckID("id", t.ID) != nil || t.State == Unknown:
		return broken("id or state")
	case t.State.Decided() != (t.DecideIndex > 0) || t.State.Finished() != (t.FinishIndex > 0):
		return broken("indexes that do not fit its state")
	case t.Refused && (t.State != Aborted || len(t.Branches) > 0 || !t.Attempt.IsZero()):
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

// rebuild makes what is derived from the records.
func (m *Machine) rebuild() {
	var finished []*Txn
	for _, id := range slices.Sorted(maps.Keys(m.txns)) {
		t := m.txns[id]
		if t.NeedsOperator() {
			m.operator[id] = struct{}{}
		}
		if t.State.Finished() {
			finished = append(finished, t)
			continue
		}
		m.live[t.Attempt] = t
		if t.State == Preparing {
			m.preparing++
		}
		for i := range t.Branches {
			if t.Branches[i].Settled == Unsettled {
				m.unfinished[t.Branches[i].Participant]++
			}
		}
	}
	slices.SortStableFunc(finished, func(a, b *Txn) int { return cmp.Compare(a.FinishIndex, b.FinishIndex) })
	for _, t := range finished {
		m.finished.push(t)
	}
}
