package durable

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"slices"
	"sync/atomic"
	"time"

	"github.com/concordat-tx/concordat/fsm/failpoint"
	"github.com/concordat-tx/concordat/fsm/mutant"
)

// queueLength bounds the writes that wait for the next sync, and with it the
// size of one batch. Callers beyond it wait for room.
const queueLength = 1024

// ErrNotQueued: the caller's context ended before its write was queued, so
// the write does not happen.
var ErrNotQueued = errors.New("the write queue is full")

// write is one durable change, made in a batch with others.
type write struct {
	// apply decides, then writes (I2): an error that is not fatal means that
	// it has written nothing. It may run once only.
	apply func(*Pages) error
	// synced runs after the batch is durable and before the caller is
	// answered, in the order of the batch, in the committer. nil is nothing.
	synced func()
	// fate is the end of it, sent once.
	fate chan error
	told bool
	err  error
}

// committer is the one writer: whatever arrives while a batch is synced makes
// up the next one. So there is no timer, a lone caller never waits for company,
// and under load one sync carries many votes and acknowledgements.
type committer struct {
	file    *File
	queue   chan *write
	closing chan struct{}
	done    chan struct{}
	// at is the point in time that batches are applied to; nil after a checkpoint
	// has begun, and between batches until it is over.
	at *Point
	// beside is closed when the checkpoint that runs beside the batches is over; nil: none does.
	beside chan struct{}

	writes atomic.Uint64
	syncs  atomic.Uint64
}

func newCommitter(s *File) *committer {
	return &committer{file: s, queue: make(chan *write, queueLength), closing: make(chan struct{}), done: make(chan struct{})}
}

// submit queues a write and waits for its real fate: once it is queued, ctx
// has no say any more. ErrNotQueued says that it was not.
func (c *committer) submit(ctx context.Context, apply func(*Pages) error, synced func()) error {
	w := &write{apply: apply, synced: synced, fate: make(chan error, 1)}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%w: %w", ErrNotQueued, err)
	}
	if err := c.enter(ctx, w); err != nil {
		return err
	}
	select {
	case err := <-w.fate:
		return err
	case <-c.done:
	}
	select {
	case err := <-w.fate:
		return err
	default:
		return ErrClosed // queued behind the last batch
	}
}

// enter queues w. A queue that has room costs nothing of ctx, which need not be
// made fit to wait for.
func (c *committer) enter(ctx context.Context, w *write) error {
	select {
	case <-c.closing:
		return ErrClosed
	default:
	}
	select {
	case c.queue <- w:
		return nil
	default:
	}
	select {
	case c.queue <- w:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", ErrNotQueued, ctx.Err())
	case <-c.closing:
		return ErrClosed
	}
}

// run is the committer's goroutine. It ends when closing is closed and the
// queue is empty.
func (c *committer) run() {
	defer close(c.done)
	defer c.finish()
	for {
		select {
		case w := <-c.queue:
			c.commit(c.batch(w))
			continue
		default:
		}
		select {
		case w := <-c.queue:
			c.commit(c.batch(w))
		case <-c.closing:
			if len(c.queue) == 0 {
				return
			}
		}
	}
}

func (c *committer) batch(first *write) []*write {
	// Whoever can run goes first: it may be about to join, and where the processor
	// is scarce a sync for each costs more of it than the wait.
	runtime.Gosched()
	batch := []*write{first}
	for len(batch) < queueLength {
		select {
		case w := <-c.queue:
			batch = append(batch, w)
		default:
			return batch
		}
	}
	return batch
}

// commit makes a batch durable and answers everyone in it.
func (c *committer) commit(batch []*write) {
	err := c.file.Failure()
	if err == nil {
		err = c.file.check(c.transact(batch))
	}
	c.answer(batch, err)
}

// answer tells everyone in a batch its fate; err is that of the whole batch.
func (c *committer) answer(batch []*write, err error) {
	for _, w := range batch {
		switch {
		case w.told:
			continue
		case err != nil:
			w.err = err
		case w.err == nil && w.synced != nil:
			w.synced()
		}
		w.told = true
		w.fate <- w.err
	}
}

// transact applies a batch and makes it durable. An error is final (P15).
func (c *committer) transact(batch []*write) (err error) {
	s := c.file
	if c.at == nil {
		if c.at, err = s.Begin(); err != nil {
			return &WriteError{File: s.path, Err: err}
		}
	}
	c.at.seq = c.at.over.seq.Load()
	p := &Pages{at: c.at, file: s, changes: &changes{}, counts: slices.Clone(s.counts)}
	err = applyAll(p, batch)
	if c.checkpointing() {
		c.leave() // bbolt may have to wait for all readers, and new ones for it
	}
	if err != nil {
		return err
	}
	if len(p.changes.list) == 0 {
		return nil
	}
	if mutant.On("vote-before-sync") {
		c.answer(batch, nil)
	}
	if err := c.sync(p); err != nil {
		return err
	}
	s.counts = p.counts
	c.writes.Add(uint64(len(batch)))
	c.syncs.Add(1)
	return nil
}

func applyAll(p *Pages, batch []*write) (err error) {
	defer guard(p.file.path, &err, debug.SetPanicOnFault(true))
	for _, w := range batch {
		if w.err = w.apply(p); IsFatal(w.err) {
			return w.err
		}
	}
	return nil
}

// sync makes the batch in p durable: in the log, or with all that is there in the pages.
func (c *committer) sync(p *Pages) (err error) {
	s, seq := c.file, p.at.seq+1
	began := time.Now()
	failpoint.Hit("participant.store.commit.before")
	logged := s.log != nil && s.log.encode(seq, p.counts, p.changes.list)
	if logged {
		err = c.append()
	} else if err = c.settle(); err == nil {
		err = s.options.Sync(func() error { return c.checkpoint(seq, p.counts, p.changes.list) })
	}
	failpoint.Hit("participant.store.commit.after")
	if err != nil {
		return s.failedWrite(err)
	}
	if logged { // a checkpoint shows its batch itself
		s.over.Load().add(p.changes.list, seq)
	}
	if o := s.options.SyncSeconds; o != nil {
		o.Observe(time.Since(began).Seconds())
	}
	return nil
}

// append writes what was encoded to the log, to its other half if this one is full.
func (c *committer) append() error {
	s := c.file
	if !s.log.room() {
		if err := c.turn(); err != nil {
			return err
		}
	}
	return s.options.Sync(func() error { return s.log.write(!s.db.NoSync) })
}
