package durable

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"

	"github.com/concordat-tx/concordat/fsm/failpoint"
)

// replay brings what the log has beyond the pages to them, before anything is
// read or written. A crash may have cut the last record short: nobody was
// answered for that one. Any other record that is not whole is damage.
func (s *File) replay() error {
	sum, err := s.readSummary()
	if err != nil {
		return err
	}
	s.counts = sum.counts
	var seq uint64
	if sum.log != nil {
		if seq, err = s.replayLog(*sum.log); err != nil {
			return err
		}
	}
	tx, err := s.db.Begin(false)
	if err != nil {
		return err
	}
	s.over.Store(newOverlay(tx.ID(), seq))
	return tx.Rollback()
}

// readSummary is what the pages say of themselves, before there is an overlay.
func (s *File) readSummary() (sum summary, err error) {
	tx, err := s.db.Begin(false)
	if err != nil {
		return sum, err
	}
	err = s.ViewIn(&Point{Tx: tx}, func(p *Pages) error {
		sum, err = p.summary()
		return err
	})
	return sum, err
}

func (s *File) damagedLog(format string, args ...any) error {
	return &CorruptError{File: logPath(s.path), Reason: fmt.Sprintf(format, args...)}
}

// replayLog opens the log that the pages name and brings them up to its end.
func (s *File) replayLog(m mark) (seq uint64, err error) {
	file, err := s.openLog(0)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, s.damagedLog("the file is missing, and %s is not whole without it", s.path)
	} else if err != nil {
		return 0, err
	}
	l := &batchLog{file: file, id: m.id, end: logHeader}
	s.log = l
	all, err := io.ReadAll(file)
	if err != nil {
		return 0, err
	}
	l.size = int64(len(all))
	if !l.fits(all, m.seq) {
		return 0, s.damagedLog("it does not begin as the log of %s, or goes with a later state of it", s.path)
	}
	batches, err := s.readBatches(l, all, m.seq)
	used := int64(len(bytes.TrimRight(all, "\x00")))
	if err != nil || used <= logHeader {
		return m.seq, err
	}
	m.seq += uint64(len(batches))
	failpoint.Hit("participant.checkpoint.open.before")
	err = s.update(func(w *pageWriter) error {
		for _, b := range batches {
			if err := s.bring(w, b); err != nil {
				return err
			}
		}
		return w.putMeta(keyCensus, summary{counts: s.counts, log: &m}.encode())
	})
	if err == nil {
		err = l.clear(used, m.seq, true)
	}
	failpoint.Hit("participant.checkpoint.open.after")
	if err != nil {
		return 0, s.failedWrite(err)
	}
	return m.seq, nil
}

// readBatches reads the records that follow batch seq.
func (s *File) readBatches(l *batchLog, all []byte, seq uint64) (batches []logged, err error) {
	offset := logHeader
	for {
		number, length := l.recordAt(all, offset)
		if length == 0 || number > seq+1 {
			break
		}
		if number == seq+1 { // those before are in the pages: a crash came before the log was cleared
			b, err := decodeLogged(all[offset+recordHead : offset+length])
			if err != nil {
				return nil, s.damagedLog("batch %d: %v", number, err)
			}
			batches, seq = append(batches, b), number
		}
		offset += length
	}
	if !l.interrupted(all, offset) {
		return nil, s.damagedLog("batch %d is not as it was written, at byte %d", seq+1, offset)
	}
	// Batches are synced one after the other: one that follows proves that the
	// one which is missing here was whole.
	for at := offset; at+recordHead <= len(all); at += recordStep {
		if number, length := l.recordAt(all, at); length > 0 && number > seq {
			return nil, s.damagedLog("batch %d is not as it was written, at byte %d, and batch %d follows", seq+1, offset, number)
		}
	}
	return batches, nil
}

// bring applies a batch to the pages, and checks that it was made for them.
func (s *File) bring(w *pageWriter, b logged) error {
	counts := slices.Clone(s.counts)
	for _, c := range b.list {
		if count := s.censusOf(counts, []byte(c.bucket)); count != nil {
			if in := w.tx.Bucket([]byte(c.bucket)); in != nil {
				count.remove(in.Get([]byte(c.key)))
			}
			count.add(c.sealed)
		}
	}
	if err := w.putAll(b.list); err != nil {
		return err
	}
	if !slices.Equal(counts, b.counts) {
		return s.damagedLog("a batch does not follow on what is in %s", s.path)
	}
	s.counts = counts
	return nil
}
