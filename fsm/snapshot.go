package fsm

import (
	"bufio"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"io"
	"iter"
	"maps"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/concordat-tx/concordat/fsm/fsmpb"
	"github.com/concordat-tx/concordat/fsm/mutant"
)

// A snapshot is the magic, then frames: four bytes of length, four bytes of
// CRC-32C over the frame, the frame. The first frame is the header, then come
// nodes, participants, begun terms (a large one in several records),
// transactions that are not finished, finished ones and alert marks, each
// sorted, the finished ones by their Finish, and a trailer with the number of
// records. The bytes depend on the state alone.
//
// The last byte of the magic is the format version; older ones are read as
// well. Up to version 2 all transactions were sorted by id.
var snapshotMagic = []byte("CCDSNAP\x03")

// versionByFinish is the first version that has finished transactions by their Finish.
const versionByFinish = 3

// maxFrame bounds one record, and so what Restore allocates for it. The limits
// that commands are checked against and maxBegunRanges keep every record far
// below it.
const maxFrame = 4 << 20

// Snapshot is an immutable copy of a Machine's state.
type Snapshot struct {
	header       *fsmpb.SnapshotHeader
	nodes        map[string]NodeAddress
	participants map[string]*Participant
	txns         map[string]*Txn // not finished
	finished     run
	loose        []*Txn // finished, and not in the run, by Finish
	begun        begun
	alerts       map[alertKey]AlertMark
}

// Snapshot copies the state: maps of pointers to immutable records, and blocks
// of bytes that are not written again, so it is quick beside the Applies that
// wait for it, however many finished transactions there are.
func (m *Machine) Snapshot() *Snapshot {
	return &Snapshot{
		header: &fsmpb.SnapshotHeader{
			ClusterId: m.clusterID, Generation: m.generation, Index: m.index, Term: m.term,
			ForgottenFinish: m.forgottenFinish, LeaderId: m.leaderID,
		},
		nodes:        maps.Clone(m.nodes),
		participants: maps.Clone(m.participants),
		txns:         maps.Clone(m.txns),
		finished:     m.finished.packed.view(),
		loose:        slices.Clone(m.finished.loose.order),
		begun:        m.begun.clone(),
		alerts:       maps.Clone(m.alerts),
	}
}

// Index is that of the last entry in the snapshot.
func (s *Snapshot) Index() uint64 { return s.header.GetIndex() }

// Hash is SHA-256 over the snapshot's bytes, in hex: equal states at the same
// index have equal hashes.
func (s *Snapshot) Hash() (index uint64, hash string) {
	h := sha256.New()
	if _, err := s.WriteTo(h); err != nil {
		panic("fsm: a hash took no bytes: " + err.Error()) // hash.Hash never fails
	}
	return s.Index(), hex.EncodeToString(h.Sum(nil))
}

// Len is how many transactions there are.
func (s *Snapshot) Len() int { return len(s.txns) + len(s.loose) + s.finished.count }

// objects are the transactions that are no packed bytes, in no order.
func (s *Snapshot) objects() iter.Seq[*Txn] {
	return func(yield func(*Txn) bool) {
		for _, t := range s.txns { // order does not matter: it is said to be none
			if !yield(t) {
				return
			}
		}
		for _, t := range s.loose {
			if !yield(t) {
				return
			}
		}
	}
}

// writeFinished writes finished transactions by Finish, then by id.
func (s *Snapshot) writeFinished(fw *frameWriter) {
	loose := s.loose
	var equal []packedTxn // of one Finish
	index := uint64(0)
	flush := func() {
		slices.SortFunc(equal, func(a, b packedTxn) int { return compareIDs(a.id(), b.id()) })
		for _, p := range equal {
			for len(loose) > 0 && (loose[0].FinishIndex < index || loose[0].FinishIndex == index && loose[0].ID < string(p.id())) {
				fw.txn(loose[0])
				loose = loose[1:]
			}
			fw.packed(p)
		}
		equal = equal[:0]
	}
	for p := range s.finished.all() {
		if at := p.finishIndex(); at != index {
			flush()
			index = at
		}
		equal = append(equal, p)
	}
	flush()
	for _, t := range loose {
		fw.txn(t)
	}
}

// compareIDs orders as strings are ordered, without making any.
func compareIDs(a, b []byte) int {
	switch {
	case string(a) < string(b):
		return -1
	case string(a) > string(b):
		return 1
	}
	return 0
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
	for _, t := range s.begunTerms() {
		for p := range t.protos() {
			fw.record(&fsmpb.SnapshotRecord{Kind: &fsmpb.SnapshotRecord_Begun{Begun: p}})
		}
	}
	for _, id := range slices.Sorted(maps.Keys(s.txns)) {
		fw.txn(s.txns[id])
	}
	s.writeFinished(fw)
	for _, mark := range sortedMarks(s.alerts) {
		fw.record(&fsmpb.SnapshotRecord{Kind: &fsmpb.SnapshotRecord_Alert{Alert: mark.proto()}})
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

func (f *frameWriter) txn(t *Txn) {
	f.records++
	f.buf = appendTxn(f.buf[:0], t)
	f.body(f.buf)
}

func (f *frameWriter) packed(p packedTxn) {
	f.records++
	f.body(p)
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
	f.body(body)
}

func (f *frameWriter) body(body []byte) {
	if f.err == nil && len(body) > maxFrame { // better no snapshot than one that Restore refuses
		f.err = fmt.Errorf("snapshot record of %d bytes, at most %d can be read back", len(body), maxFrame)
	}
	var head [8]byte
	binary.BigEndian.PutUint32(head[:], uint32(len(body)))
	binary.BigEndian.PutUint32(head[4:], crc32.Checksum(body, castagnoli))
	f.raw(head[:])
	f.raw(body)
}

// begunTerms is which attempts began.
func (s *Snapshot) begunTerms() []begunTerm {
	if mutant.On("snapshot-forgets-attempts") {
		return nil
	}
	return s.begun.terms
}
