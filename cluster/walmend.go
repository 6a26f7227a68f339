package cluster

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft-wal/metadb"
	"github.com/hashicorp/raft-wal/types"

	"github.com/concordat-tx/concordat/fsm/failpoint"
)

// mendWAL reads every segment before raft-wal does, and refuses damage, which
// raft-wal would take for the write that a crash interrupted: it drops
// everything from there on, acknowledged or not. What a crash does leave is
// made such that raft-wal recovers from it:
//
//   - behind the last whole write the file is zeros again; remains of a longer
//     one could otherwise come to stand behind what is written next;
//   - a segment that was filled, and not recorded as full, is; raft-wal would
//     never write to the log again;
//   - the last whole write is written and synced once more: the process may have
//     ended before its sync, or by its failure, and from now on others are told of it.
func mendWAL(dir string, log hclog.Logger) error {
	path := filepath.Join(dir, metadb.FileName)
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open %s: %w", dir, err)
	}
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		for _, e := range entries {
			if e.Name() != metadb.FileName+".tmp" {
				return fmt.Errorf("%s is damaged: it has %s but no %s; %s", dir, e.Name(), metadb.FileName, replaceProcedure)
			}
		}
		return nil
	}
	state, stable, err := readWALMeta(path)
	if err != nil {
		return err
	}
	for i, info := range state.Segments {
		s, err := readSegment(dir, info)
		tail := i == len(state.Segments)-1
		written := !tail || wasWritten(stable, info.ID)
		switch missing := errors.Is(err, fs.ErrNotExist); {
		case missing && !written:
			return nil // recorded and not made yet; raft-wal makes it
		case err == nil && !written && len(s.data) < int(info.SizeLimit) && isZero(s.data):
			log.Warn("a segment of the log was made in part, perhaps for lack of room; nothing was written to it, and it is made again", "file", s.path, "bytes", len(s.data))
			return unmake(s.path)
		case missing || err == nil && written && isZero(s.data):
			err = errSegmentLost
		case err == nil && written && s.good == 0:
			err = fmt.Errorf("%w: %w", errFault, s.broken())
		}
		if err == nil {
			err = s.check()
		}
		if err == nil && tail {
			err = mendTail(s, state, log)
		}
		if err != nil {
			return fmt.Errorf("%s: %w; %s", s.path, err, replaceProcedure)
		}
	}
	return nil
}

// unmake removes a segment that raft-wal did not come to make whole.
func unmake(path string) error {
	failpoint.Hit("node.segment.mend.before")
	err := errors.Join(os.Remove(path), syncDir(filepath.Dir(path)))
	failpoint.Hit("node.segment.mend.after")
	if err != nil {
		return fmt.Errorf("remove a segment that was made in part: %w", err)
	}
	return nil
}

func mendTail(s *segmentFile, state types.PersistentState, log hclog.Logger) error {
	rest := bytes.TrimRight(s.data[s.good:], "\x00")
	if len(rest) > 0 {
		if err := s.interrupted(); err != nil {
			return err
		}
		log.Warn("the last write to the log was interrupted; it was never acknowledged", "file", s.path, "bytes", len(rest))
		failpoint.Hit("node.segment.mend.before")
		err := writeAgain(s.path, make([]byte, len(rest)), s.good)
		failpoint.Hit("node.segment.mend.after")
		if err != nil {
			return fmt.Errorf("clear what an interrupted write left: %w", err)
		}
	}
	if err := writeAgain(s.path, s.data[s.begun:s.good], s.begun); err != nil {
		return fmt.Errorf("write the last entries once more: %w", err)
	}
	if s.index == 0 {
		return nil
	}
	failpoint.Hit("node.segment.mend.before")
	err := recordFull(s, state)
	failpoint.Hit("node.segment.mend.after")
	return err
}

func writeAgain(path string, b []byte, at int) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err //nolint:wrapcheck // the caller does
	}
	_, err = f.WriteAt(b, int64(at))
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close(), syncDir(filepath.Dir(path)))
}

// recordFull does what raft-wal did not come to when it had filled a segment.
func recordFull(s *segmentFile, state types.PersistentState) error {
	full := &state.Segments[len(state.Segments)-1]
	full.SealTime, full.MaxIndex, full.IndexStart = time.Now(), s.last(), uint64(s.index)
	next := *full
	next.ID, next.BaseIndex, next.MinIndex = state.NextSegmentID, s.last()+1, s.last()+1
	next.MaxIndex, next.IndexStart, next.CreateTime, next.SealTime = 0, 0, time.Now(), time.Time{}
	state.NextSegmentID++
	state.Segments = append(state.Segments, next)
	var meta metadb.BoltMetaDB
	if _, err := meta.Load(filepath.Dir(s.path)); err != nil {
		return errors.Join(fmt.Errorf("record a full segment: %w", err), meta.Close())
	}
	if err := errors.Join(meta.CommitState(state), meta.Close()); err != nil {
		return fmt.Errorf("record a full segment: %w", err)
	}
	return nil
}

// sectorSize is what a disk writes whole or not at all.
const sectorSize = 512

// interrupted is nil if what stands behind the last whole write can be the
// remains of one that a crash interrupted. Those lack whole sectors, which are
// zeros as they were, or all from some point on; and nothing was written behind
// them. A bit that flipped in the very last write is told from that, unless the
// entry it is in has 512 zeros in it.
func (s *segmentFile) interrupted() error {
	if s.writtenBehind() {
		return fmt.Errorf("%w: a write to it is broken, and later ones are whole: %w", errFault, s.broken())
	}
	broken := fmt.Errorf("%w: the last write to it is broken, and was not interrupted: %w", errFault, s.broken())
	missing := false // part of the write never came to the disk
	for at := max(s.good, segmentHeader); ; {
		f, whole := s.frame(at)
		switch {
		case at+frameHeader > len(s.data) || isZero(s.data[at:at+frameHeader]):
			return nil
		case f.kind == frameCommit && whole:
			if missing || s.good == 0 && isZero(s.data[:segmentHeader]) {
				return nil
			}
			return broken
		case f.kind == frameEntry:
			lacks, err := s.lacksPart(at, int(f.word))
			if err != nil {
				return broken
			}
			missing = missing || lacks
		case f.kind == frameIndex:
			missing = missing || s.zeroSector(at, at+f.size)
		default:
			return broken
		}
		if !whole {
			return nil // the file ends in it
		}
		at += f.size
	}
}

// lacksPart reports whether part of an entry of length n never came to the
// disk. An entry that is all there, and broken, is an error.
func (s *segmentFile) lacksPart(at, n int) (bool, error) {
	body := s.data[at+frameHeader:]
	if len(body) < walPrefix {
		return true, nil
	}
	switch length := int(binary.LittleEndian.Uint32(body)); {
	case isZero(body[:walPrefix]):
		if (at+frameHeader)%sectorSize != 0 {
			return false, errEntryChecksum // the frame is there, of the same sector
		}
		return true, nil
	case length != n-walPrefix:
		return false, errEntryChecksum // one of the two lengths is wrong
	case n > len(body):
		return true, nil
	case binary.LittleEndian.Uint32(body[4:]) == walChecksum(body[:n]):
		return false, nil
	case s.zeroSector(at, at+frameHeader+n):
		return true, nil
	}
	return false, errEntryChecksum
}

// zeroSector reports whether a sector that the range touches, behind that in
// which it begins, is zeros.
func (s *segmentFile) zeroSector(from, to int) bool {
	to = min(to, len(s.data))
	for at := from/sectorSize*sectorSize + sectorSize; at < to; at += sectorSize {
		if isZero(s.data[at:min(at+sectorSize, len(s.data))]) {
			return true
		}
	}
	return false
}

// writtenBehind looks for a whole write behind a broken one. Where it would
// begin is known only roughly: behind some frame.
func (s *segmentFile) writtenBehind() bool {
	const most = 4096
	var begins []int
	for at := max(s.good, segmentHeader); ; {
		f, ok := s.frame(at)
		begins = append(begins, at+frameHeader)
		if !ok {
			break
		}
		at += f.size
	}
	end := s.good + len(bytes.TrimRight(s.data[s.good:], "\x00"))
	var commits []int
	for at := max(s.good, segmentHeader); at+frameHeader <= len(s.data) && at < end; at += frameHeader {
		if f, _ := s.frame(at); f.kind == frameCommit {
			commits, begins = append(commits, at), append(begins, at+frameHeader)
		}
	}
	for _, begin := range begins[:min(len(begins), most)] {
		sum, from := uint32(0), begin
		for _, at := range commits[:min(len(commits), most)] {
			if at <= begin {
				continue
			}
			sum, from = crc32.Update(sum, castagnoli, s.data[from:at]), at
			if f, _ := s.frame(at); f.word == sum {
				return true
			}
		}
	}
	return false
}

func isZero(b []byte) bool { return len(bytes.TrimLeft(b, "\x00")) == 0 }
