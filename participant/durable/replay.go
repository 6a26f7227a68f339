package durable

import (
	"cmp"
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
	file, clearing, err := s.openLog(0)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, s.damagedLog("the file is missing, and %s is not whole without it", s.path)
	} else if err != nil {
		return 0, err
	}
	l := newBatchLog(file, clearing, m.id, m.length)
	s.log = l
	all, err := io.ReadAll(file)
	if err != nil {
		return 0, err
	}
	stale, err := s.staleHalves(all, m)
	if err != nil {
		return 0, err
	}
	batches, err := s.readBatches(all, m.seq)
	if err != nil || len(stale) == 0 {
		return m.seq, err
	}
	if m.oneHalf { // before the pages say that there are two
		if err = errors.Join(l.begin(l.clearing, &l.halves[1], m.seq), syncData(l.clearing)); err != nil {
			return 0, s.failedWrite(err)
		}
		m.oneHalf = false
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
	for _, h := range stale {
		if err == nil {
			err = l.clear(h, m.seq, true)
		}
	}
	failpoint.Hit("participant.checkpoint.open.after")
	if err != nil {
		return 0, s.failedWrite(err)
	}
	return m.seq, nil
}

// staleHalves are those of the log that have to begin anew before they are written:
// anything is in them, or they never began, as the other one of a log that had one
// half. all is the file.
func (s *File) staleHalves(all []byte, m mark) (list []*half, err error) {
	for i := range s.log.halves {
		h, in := &s.log.halves[i], s.log.part(all, i)
		begun := s.log.fits(in, m.seq)
		if !begun && (i == 0 || !m.oneHalf) {
			return nil, s.damagedLog("at byte %d it does not begin as the log of %s, or goes with a later state of it", h.from, s.path)
		}
		h.size = int64(len(in))
		used := int64(usedOf(in))
		if !begun || used > logHeader {
			h.end = h.from + max(used, logHeader)
			list = append(list, h)
		}
	}
	return list, nil
}

// readBatches reads the records that follow batch seq. Those before are in the pages:
// a crash came before that half was cleared.
func (s *File) readBatches(all []byte, seq uint64) (batches []logged, err error) {
	l := s.log
	var found []record
	var ends [len(l.halves)]int // of the records of each half that stand one behind the other
	for i := range l.halves {
		in := l.part(all, i)
		records, end := l.records(in)
		if !l.interrupted(in, end) {
			return nil, s.damagedLog("the record at byte %d is not as it was written", l.halves[i].from+int64(end))
		}
		found, ends[i] = append(found, records...), end
	}
	slices.SortFunc(found, func(a, b record) int { return cmp.Compare(a.seq, b.seq) })
	for _, r := range found {
		switch {
		case r.seq <= seq:
			continue
		case r.seq != seq+1:
			return nil, s.damagedLog("batch %d is not as it was written, and batch %d follows", seq+1, r.seq)
		}
		b, err := decodeLogged(r.body)
		if err != nil {
			return nil, s.damagedLog("batch %d: %v", r.seq, err)
		}
		batches, seq = append(batches, b), r.seq
	}
	// Batches are synced one after the other: one that follows proves that the
	// one which is missing here was whole.
	for i := range l.halves {
		in := l.part(all, i)
		for at, used := ends[i], usedOf(in); at < used; at += recordStep {
			if number, length := l.recordAt(in, at); length > 0 && number > seq {
				return nil, s.damagedLog("batch %d is not as it was written, and batch %d follows, at byte %d", seq+1, number, l.halves[i].from+int64(at))
			}
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
