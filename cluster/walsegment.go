package cluster

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"

	"github.com/hashicorp/raft"
	"github.com/hashicorp/raft-wal/segment"
	"github.com/hashicorp/raft-wal/types"

	"github.com/concordat-tx/concordat/fsm"
)

// The format of raft-wal's segments: a header, then frames of entries, each
// write ended by a frame with the checksum of everything since the one before.
// The last write of a full segment has the offsets of all entries, too.
const (
	segmentMagic  = 0x58eb6b0d
	segmentHeader = 32
	frameHeader   = 8

	frameEntry  = 1
	frameIndex  = 2
	frameCommit = 3
)

// segmentFile is one segment as it was read.
type segmentFile struct {
	info types.SegmentInfo
	path string
	data []byte

	entries []int // where the frames of the written entries are
	begun   int   // where the last whole write begins
	good    int   // behind it
	index   int   // where the offsets begin; 0 if the segment is not full
}

// last is the index of the last entry that was written; one before the first if there is none.
func (s *segmentFile) last() uint64 { return s.info.BaseIndex + uint64(len(s.entries)) - 1 }

// readSegment reads a segment as far as its writes are whole.
func readSegment(dir string, info types.SegmentInfo) (*segmentFile, error) {
	s := &segmentFile{info: info, path: filepath.Join(dir, segment.FileName(info))}
	var err error
	if s.data, err = os.ReadFile(s.path); err != nil {
		return s, fmt.Errorf("open the log's segment: %w", err)
	}
	begun, entries, index := 0, []int(nil), 0
	for at := segmentHeader; ; {
		f, ok := s.frame(at)
		if !ok {
			break
		}
		switch f.kind {
		case frameEntry:
			entries = append(entries, at)
		case frameIndex:
			index = at + frameHeader
		case frameCommit:
			if crc32.Checksum(s.data[begun:at], castagnoli) != f.word {
				return s, nil
			}
			s.begun, begun = begun, at+frameHeader
			s.entries, s.good, s.index = entries, begun, index
		}
		at += f.size
	}
	return s, nil
}

type frame struct {
	kind byte
	word uint32 // the length of what follows, or the checksum
	size int    // with all
}

// frame reads the header of a frame, none of a kind that there is not, and
// reports whether all of it lies within the file.
func (s *segmentFile) frame(at int) (f frame, ok bool) {
	if at+frameHeader > len(s.data) {
		return f, false
	}
	h := s.data[at : at+frameHeader]
	f = frame{kind: h[0], word: binary.LittleEndian.Uint32(h[4:]), size: frameHeader}
	if f.kind < frameEntry || f.kind > frameCommit || h[1]|h[2]|h[3] != 0 || f.kind != frameCommit && f.word > segment.MaxEntrySize {
		return frame{}, false
	}
	if f.kind != frameCommit {
		f.size += (int(f.word) + 7) &^ 7
	}
	return f, at+f.size <= len(s.data)
}

// payload is what a frame holds.
func (s *segmentFile) payload(at int) []byte {
	return s.data[at+frameHeader:][:binary.LittleEndian.Uint32(s.data[at+4:])]
}

// check holds what was read against what is kept of the segment, and reads
// every entry from first on.
func (s *segmentFile) check() error {
	if n := len(s.data); n > 0 && n < int(s.info.SizeLimit) { // it was made as long as that
		return fmt.Errorf("%w: it is %d bytes long and should be at least %d: it was cut short", errFault, n, s.info.SizeLimit)
	}
	if s.good > 0 {
		if err := s.checkHeader(); err != nil {
			return err
		}
	}
	if !s.info.SealTime.IsZero() {
		switch {
		case s.index == 0 || uint64(s.index) != s.info.IndexStart || s.last() < s.info.MaxIndex:
			return fmt.Errorf("%w: it should be whole up to entry %d, with an index: %w", errFault, s.info.MaxIndex, s.broken())
		case !s.indexed():
			return fmt.Errorf("%w: its index is not that of its entries", errFault)
		}
	}
	for i, at := range s.entries {
		index := s.info.BaseIndex + uint64(i)
		if index < s.info.MinIndex || s.info.MaxIndex > 0 && index > s.info.MaxIndex {
			continue // dropped from the log
		}
		if err := checkWALEntry(s.payload(at), index); err != nil {
			return fmt.Errorf("log entry %d: %w", index, err)
		}
	}
	return nil
}

func (s *segmentFile) checkHeader() error {
	h := s.data[:segmentHeader]
	for i, want := range []uint64{segmentMagic, s.info.BaseIndex, s.info.ID, s.info.Codec} {
		if got := binary.LittleEndian.Uint64(h[8*i:]); got != want {
			return fmt.Errorf("%w: its header says %#x where %#x should be", errFault, got, want)
		}
	}
	return nil
}

// indexed reports whether the offsets are those of the entries.
func (s *segmentFile) indexed() bool {
	want := make([]byte, 0, 4*len(s.entries))
	for _, at := range s.entries {
		want = binary.LittleEndian.AppendUint32(want, uint32(at))
	}
	return bytes.Equal(s.payload(s.index-frameHeader), want)
}

func checkWALEntry(b []byte, index uint64) error {
	var log raft.Log
	if err := (walCodec{}).Decode(b, &log); err != nil {
		return err
	}
	if log.Index != index {
		return fmt.Errorf("%w: it says that it is entry %d", errFault, log.Index)
	}
	if log.Type == raft.LogCommand {
		return fsm.CheckEntry(log.Data) //nolint:wrapcheck // the caller names the entry
	}
	return nil
}

// decodeState reads what raft-wal keeps of the segments. Nothing is kept of a
// log that was never written to.
func decodeState(b []byte, state *types.PersistentState) error {
	if b == nil {
		return nil
	}
	if err := json.Unmarshal(b, state); err != nil {
		return fmt.Errorf("%w: what it says of the segments: %w", errFault, err)
	}
	for i, info := range state.Segments {
		tail := i == len(state.Segments)-1
		switch {
		case info.Codec != walCodecID:
			return fmt.Errorf("segment %d has encoding %#x, this program knows %#x: run the program that wrote it", info.ID, info.Codec, walCodecID)
		case tail != info.SealTime.IsZero():
			return fmt.Errorf("%w: of its segments the last is written to, and it says otherwise of segment %d", errFault, info.ID)
		case !tail && state.Segments[i+1].BaseIndex != info.MaxIndex+1:
			return fmt.Errorf("%w: segment %d ends with entry %d, the next begins with %d", errFault, info.ID, info.MaxIndex, state.Segments[i+1].BaseIndex)
		}
	}
	return nil
}

// broken names what is wrong behind the last whole write.
func (s *segmentFile) broken() error {
	index := s.last()
	for at := max(s.good, segmentHeader); ; {
		f, ok := s.frame(at)
		if !ok || f.kind == frameCommit {
			return fmt.Errorf("the write of log entry %d and those with it: CRC-32C, or its frame", s.last()+1)
		}
		if f.kind == frameEntry {
			index++
			if err := checkWALEntry(s.payload(at), index); err != nil {
				return fmt.Errorf("log entry %d: %w", index, err)
			}
		}
		at += f.size
	}
}

var errSegmentLost = errors.New("this segment of the log is lost")
