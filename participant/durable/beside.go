package durable

import (
	"runtime/debug"

	"go.etcd.io/bbolt"

	"github.com/concordat-tx/concordat/fsm/failpoint"
)

// turn begins a checkpoint of the half of the log that is full, and has the other
// half written. Batches go on beside it: they wait here only if they fill that half,
// too, before the checkpoint is over.
func (c *committer) turn() error {
	if err := c.settle(); err != nil {
		return err
	}
	s := c.file
	tx, err := s.db.Begin(true)
	if err != nil {
		return err
	}
	// What is written from now on lies over old, and over the pages once they have old.
	old := s.over.Load()
	next := newOverlay(tx.ID(), old.seq.Load())
	next.below.Store(old)
	s.over.Store(next)
	done := make(chan struct{})
	full, counts := s.log.turn(), s.counts
	c.beside = done
	go func() {
		defer close(done)
		failpoint.Hit("participant.checkpoint.beside.before")
		err := s.moveToPages(tx, next, counts, full)
		failpoint.Hit("participant.checkpoint.beside.after")
		if err != nil {
			_ = s.check(s.failedWrite(err))
		}
	}()
	return nil
}

// checkpointing reports whether a checkpoint is under way.
func (c *committer) checkpointing() bool {
	select {
	case <-c.beside: // never, if there is none
		c.beside = nil
	default:
	}
	return c.beside != nil
}

// settle waits until no checkpoint is under way, and fails if the last one did.
func (c *committer) settle() error {
	c.leave() // which a checkpoint may have to wait for
	if c.beside != nil {
		<-c.beside
		c.beside = nil
	}
	return c.file.Failure()
}

// moveToPages writes to the pages, in tx, what is below next, and then clears the half
// of the log that has it. counts is the census with all of it.
func (s *File) moveToPages(tx *bbolt.Tx, next *overlay, counts []census, full *half) error {
	defer func() { _ = tx.Rollback() }() // its only error is that it was committed
	old := next.below.Load()
	seq := old.seq.Load()
	err := s.options.Sync(func() (err error) {
		defer guard(s.path, &err, debug.SetPanicOnFault(true))
		w := &pageWriter{tx: tx, file: s}
		if err := w.putAll(old.newest()); err != nil {
			return err
		}
		if err := w.putMeta(keyCensus, summary{counts: counts, log: s.log.mark(seq)}.encode()); err != nil {
			return err
		}
		return tx.Commit()
	})
	if err != nil {
		return err
	}
	next.below.Store(nil)
	return s.options.Sync(func() error { return s.log.clear(full, seq, !s.db.NoSync) })
}
