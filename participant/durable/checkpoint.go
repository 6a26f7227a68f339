package durable

import (
	"errors"
	"os"
	"path/filepath"
	"runtime/debug"

	"go.etcd.io/bbolt"

	"github.com/concordat-tx/concordat/fsm/failpoint"
)

// mark says which log goes with the pages, how long its halves are, and the last
// batch that the pages have.
type mark struct {
	id     [logID]byte
	length int64
	seq    uint64
	// oneHalf: the pages are from before there were two.
	oneHalf bool
}

// checkpoint writes to the pages, in one transaction, what the overlay has and
// then list, which is batch seq and too large for the log. After that the log begins
// anew. The first batch of all goes here, too, with the mark of its log.
func (c *committer) checkpoint(seq uint64, counts []census, list []change) (err error) {
	s := c.file
	if s.log == nil {
		if s.log, err = s.createLog(); err != nil {
			return err
		}
	}
	sum := summary{counts: counts, log: s.log.mark(seq)}
	err = c.writePages(seq, func(w *pageWriter) error {
		return errors.Join(w.putAll(list), w.putMeta(keyCensus, sum.encode()))
	})
	if err != nil {
		return err
	}
	return s.log.clear(&s.log.halves[s.log.now], seq, !s.db.NoSync)
}

// finish makes the pages whole without the log, when all is done.
func (c *committer) finish() {
	s := c.file
	if c.settle() != nil || s.log == nil {
		return
	}
	failpoint.Hit("participant.checkpoint.close.before")
	err := s.options.Sync(func() error {
		return c.writePages(s.over.Load().seq.Load(), func(w *pageWriter) error {
			return w.putMeta(keyCensus, summary{counts: s.counts}.encode())
		})
	})
	failpoint.Hit("participant.checkpoint.close.after")
	if err != nil {
		_ = s.check(s.failedWrite(err))
	}
}

// closeLog closes the log, and removes one that is not needed any more.
func (s *File) closeLog() error {
	if s.log == nil {
		return nil
	}
	err := s.log.close()
	if s.Failure() != nil {
		return err
	}
	failpoint.Hit("participant.log.remove.before")
	err = errors.Join(err, os.Remove(logPath(s.path)), syncDirectory(filepath.Dir(s.path)))
	failpoint.Hit("participant.log.remove.after")
	return err
}

// leave ends the committer's point in time, which would keep pages and their map.
func (c *committer) leave() {
	if c.at != nil {
		_ = c.at.Rollback() // its only error is that it has ended
		c.at = nil
	}
}

// writePages writes the overlay to the pages, then what more writes, and lays
// an empty overlay over them, whose last batch is seq.
func (c *committer) writePages(seq uint64, more func(*pageWriter) error) (err error) {
	s := c.file
	c.leave()
	defer guard(s.path, &err, debug.SetPanicOnFault(true))
	tx, err := s.db.Begin(true)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // its only error is that it was committed
	w := &pageWriter{tx: tx, file: s}
	old := s.over.Load()
	if err := w.putAll(old.newest()); err != nil {
		return err
	}
	if err := more(w); err != nil {
		return err
	}
	// Before the commit: from when bbolt shows it to readers they need the new
	// overlay, and until then the one below.
	next := newOverlay(tx.ID(), seq)
	next.more = true
	next.below.Store(old)
	s.over.Store(next)
	if err := tx.Commit(); err != nil {
		return err
	}
	next.below.Store(nil)
	return nil
}

// pageWriter writes records to the pages as they are.
type pageWriter struct {
	tx   *bbolt.Tx
	file *File
}

func (w *pageWriter) putAll(list []change) error {
	for _, c := range list {
		b := w.tx.Bucket([]byte(c.bucket))
		if b == nil {
			return &CorruptError{File: w.file.path, Bucket: c.bucket, Reason: "the bucket is missing"}
		}
		var err error
		if c.sealed == nil {
			err = b.Delete([]byte(c.key))
		} else {
			err = b.Put([]byte(c.key), c.sealed)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (w *pageWriter) putMeta(key, value []byte) error {
	return w.putAll([]change{{bucket: string(bucketMeta), key: string(key), sealed: seal(bucketMeta, key, value)}})
}

// update changes the pages, before the committer runs.
func (s *File) update(f func(*pageWriter) error) (err error) {
	defer guard(s.path, &err, debug.SetPanicOnFault(true))
	return s.db.Update(func(tx *bbolt.Tx) error { return f(&pageWriter{tx: tx, file: s}) })
}
