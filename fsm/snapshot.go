package fsm

import (
	"bufio"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/concordat-tx/concordat/fsm/fsmpb"
)

// A snapshot is the magic, then frames: four bytes of length, four bytes of
// CRC-32C over the frame, the frame. The first frame is the header, then come
// nodes, participants, begun terms and transactions, each sorted, and a
// trailer with their number. The bytes depend on the state alone.
var snapshotMagic = []byte("CCDSNAP\x01")

// maxFrame bounds what Restore allocates for one record.
const maxFrame = 4 << 20

// Snapshot is an immutable copy of a Machine's state.
type Snapshot struct {
	header       *fsmpb.SnapshotHeader
	nodes        map[string]NodeAddress
	participants map[string]*Participant
	txns         map[string]*Txn
	begun        begun
}

// Snapshot copies the state: maps of pointers to immutable records, so it is
// quick beside the Applies that wait for it.
func (m *Machine) Snapshot() *Snapshot {
	return &Snapshot{
		header: &fsmpb.SnapshotHeader{
			ClusterId: m.clusterID, Generation: m.generation, Index: m.index, Term: m.term,
			ForgottenFinish: m.forgottenFinish, LeaderId: m.leaderID,
		},
		nodes:        maps.Clone(m.nodes),
		participants: maps.Clone(m.participants),
		txns:         maps.Clone(m.txns),
		begun:        m.begun.clone(),
	}
}

// Index is that of the last entry in the snapshot.
func (s *Snapshot) Index() uint64 { return s.header.GetIndex() }

// List returns up to limit transactions with an id after the given one, in
// order of id, that match; more says whether there are others. It is asked of a
// snapshot because the sort takes long enough to be kept off the state's lock.
func (s *Snapshot) List(after string, limit int, match func(*Txn) bool) (list []*Txn, more bool) {
	for _, id := range slices.Sorted(maps.Keys(s.txns)) {
		if id <= after || !match(s.txns[id]) {
			continue
		}
		if len(list) == limit {
			return list, true
		}
		list = append(list, s.txns[id])
	}
	return list, false
}

// Hash is SHA-256 over the snapshot's bytes, in hex: equal states at the same
// index have equal hashes.
func (s *Snapshot) Hash() (index uint64, hash string) {
	h := sha256.New()
	if _, err := s.WriteTo(h); err != nil {
		panic("fsm: a hash took no bytes: " + err.Error()) // hash.Hash never fails
	}
	return s.Index(), hex.EncodeToString(h.Sum(nil))
}

// WriteTo streams the snapshot.
func (s *Snapshot) WriteTo(w io.Writer) (int64, error) {
	fw := &frameWriter{w: bufio.NewWriterSize(w, 64<<10)}
	fw.raw(snapshotMagic)
	fw.frame(s.header)
	for _, id := range slices.Sorted(maps.Keys(s.nodes)) {
		n := s.nodes[id]
		fw.record(&fsmpb.SnapshotRecord{Kind: &fsmpb.SnapshotRecord_Node{
			Node: &fsmpb.NodeAddress{Id: n.ID, RpcAddress: n.RPCAddress, HttpAddress: n.HTTPAddress},
		}})
	}
	for _, name := range slices.Sorted(maps.Keys(s.participants)) {
		fw.record(&fsmpb.SnapshotRecord{Kind: &fsmpb.SnapshotRecord_Participant{Participant: s.participants[name].proto()}})
	}
	for _, t := range s.begun.terms {
		fw.record(&fsmpb.SnapshotRecord{Kind: &fsmpb.SnapshotRecord_Begun{Begun: t.proto()}})
	}
	for _, id := range slices.Sorted(maps.Keys(s.txns)) {
		fw.record(&fsmpb.SnapshotRecord{Kind: &fsmpb.SnapshotRecord_Transaction{Transaction: s.txns[id].proto()}})
	}
	fw.frame(&fsmpb.SnapshotRecord{Kind: &fsmpb.SnapshotRecord_Trailer{Trailer: &fsmpb.SnapshotTrailer{Records: fw.records}}})
	if fw.err == nil {
		fw.err = fw.w.Flush()
	}
	return fw.n, fw.err
}

type frameWriter struct {
	w       *bufio.Writer
	n       int64
	records uint64
	buf     []byte
	err     error
}

func (f *frameWriter) raw(b []byte) {
	if f.err != nil {
		return
	}
	n, err := f.w.Write(b)
	f.n += int64(n)
	f.err = err
}

func (f *frameWriter) record(r *fsmpb.SnapshotRecord) {
	f.records++
	f.frame(r)
}

func (f *frameWriter) frame(msg proto.Message) {
	if f.err != nil {
		return
	}
	body, err := proto.MarshalOptions{Deterministic: true}.MarshalAppend(f.buf[:0], msg)
	if err != nil {
		f.err = fmt.Errorf("encode snapshot record: %w", err)
		return
	}
	f.buf = body
	var head [8]byte
	binary.BigEndian.PutUint32(head[:], uint32(len(body)))
	binary.BigEndian.PutUint32(head[4:], crc32.Checksum(body, castagnoli))
	f.raw(head[:])
	f.raw(body)
}

// Restore builds a whole new machine from a snapshot. An error names the
// record and what is wrong with it; nothing half restored is returned.
func Restore(r io.Reader) (*Machine, error) {
	br := bufio.NewReaderSize(r, 64<<10)
	magic := make([]byte, len(snapshotMagic))
	if _, err := io.ReadFull(br, magic); err != nil || string(magic) != string(snapshotMagic) {
		return nil, fmt.Errorf("snapshot: not one of this format: %w", ErrCorrupt)
	}
	m := New()
	header := new(fsmpb.SnapshotHeader)
	if err := readFrame(br, header); err != nil {
		return nil, fmt.Errorf("snapshot header: %w", err)
	}
	m.clusterID, m.generation = header.GetClusterId(), header.GetGeneration()
	m.index, m.term, m.leaderID = header.GetIndex(), header.GetTerm(), header.GetLeaderId()
	m.forgottenFinish = header.GetForgottenFinish()
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
		if err := m.restoreRecord(rec); err != nil {
			return nil, fmt.Errorf("snapshot record %d: %w", n, err)
		}
	}
	m.rebuild()
	return m, nil
}

func readFrame(r io.Reader, msg proto.Message) error {
	var head [8]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return fmt.Errorf("cut short: %w", ErrCorrupt)
	}
	size := binary.BigEndian.Uint32(head[:])
	if size > maxFrame {
		return fmt.Errorf("a length of %d: %w", size, ErrCorrupt)
	}
	body := make([]byte, size)
	if _, err := io.ReadFull(r, body); err != nil {
		return fmt.Errorf("cut short: %w", ErrCorrupt)
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

func (m *Machine) restoreRecord(rec *fsmpb.SnapshotRecord) error {
	switch k := rec.GetKind().(type) {
	case *fsmpb.SnapshotRecord_Node:
		m.announce(k.Node)
	case *fsmpb.SnapshotRecord_Participant:
		m.participants[k.Participant.GetName()] = participantFrom(k.Participant)
	case *fsmpb.SnapshotRecord_Begun:
		m.begun.terms = append(m.begun.terms, begunTermFrom(k.Begun))
	case *fsmpb.SnapshotRecord_Transaction:
		t, err := m.txnFrom(k.Transaction)
		if err != nil {
			return err
		}
		m.txns[t.ID] = t
	default:
		return fmt.Errorf("unknown kind: run the newer program")
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
		m.live[id] = struct{}{}
		for i := range t.Branches {
			if t.Branches[i].Settled == Unsettled {
				m.unfinished[t.Branches[i].Participant]++
			}
		}
	}
	slices.SortStableFunc(finished, func(a, b *Txn) int {
		if a.FinishIndex < b.FinishIndex {
			return -1
		}
		if a.FinishIndex > b.FinishIndex {
			return 1
		}
		return 0
	})
	for _, t := range finished {
		m.finished.push(t.FinishIndex, t.ID)
	}
}
