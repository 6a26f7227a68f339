package cluster

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/fsm/fsmpb"
)

// maxCommandBytes bounds one command: Raft's own bound for what does not delay
// its heartbeats, less the frame. A command above MaxBatchBytes goes alone.
const maxCommandBytes = raft.SuggestedMaxDataSize - entrySlack

// proposal is one command on its way. It is queued, then flying, then done.
type proposal struct {
	command []byte
	done    func(fsm.Result, error) // called once; must not block
	// due is when it calls for an entry; zero: at once. Guarded by proposer.mu, as what follows.
	due    time.Time
	flying bool
}

// newProposal encodes the command here, so that one that cannot be encoded
// fails alone, and not those that would have shared its entry.
func newProposal(command *fsmpb.Command, done func(fsm.Result, error)) (*proposal, error) {
	b, err := fsm.EncodeCommand(command)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnencodable, err)
	}
	return &proposal{command: b, done: done}, nil
}

// proposer packs commands into log entries. One entry is under way at a time;
// what arrives meanwhile makes the next one, so the batches grow with the load
// and a single caller waits for nobody. While the one under way is small, a second
// may follow it: with few callers a decision need not wait for the Begin before it
// to come back, and with many the batches stay large. A patient command calls for
// no entry for as long as one takes, and rides along with the next that goes.
type proposer struct {
	cfg Config
	// submit hands an entry to Raft, says when Raft has taken it, which fixes its
	// place in the log, and waits for its answers.
	submit func(entry []byte, taken func()) ([]fsm.Result, error)

	wake chan struct{} // one slot: something changed for the loop
	// landed are entries whose answers are to be told, in the order of the log,
	// beside the entry that is under way by then.
	landed chan landing
	task   sync.WaitGroup
	last   chan struct{} // closed when the newest entry has landed; of run's goroutine

	mu     sync.Mutex // guards what follows
	term   uint64     // of the leadership that may propose; 0 if none
	closed bool
	queue  []*proposal
	bytes  int // in queue
	urgent int // in queue: those that call for an entry at once
	// entryTime is how long entries took lately, from when they were made until
	// they were applied; 0: none was.
	entryTime time.Duration
	lazy      []*proposal
	waiting   time.Time     // since when the first of lazy waits
	flying    int           // entries under way
	aboard    int           // commands in them
	idle      chan struct{} // closed when no entry is under way and all answers are told; replaced when one is
	stats     ProposerStats
}

// ProposerStats counts since the start.
type ProposerStats struct {
	// Entries and Commands that were applied; their ratio is the batch size.
	Entries, Commands uint64
	// Queued commands now, lazy ones included.
	Queued int
}

func newProposer(cfg Config, submit func([]byte, func()) ([]fsm.Result, error)) *proposer {
	p := &proposer{cfg: cfg, submit: submit, wake: make(chan struct{}, 1), landed: make(chan landing, 1), idle: make(chan struct{}), last: make(chan struct{})}
	close(p.idle)
	close(p.last)
	p.task.Go(p.run)
	p.task.Go(p.tell)
	return p
}

// propose queues a command and waits for its result.
func (p *proposer) propose(ctx context.Context, command *fsmpb.Command) (fsm.Result, error) {
	if err := ctx.Err(); err != nil {
		return fsm.Result{}, fmt.Errorf("%w: %w", ErrWithdrawn, err)
	}
	type answer struct {
		result fsm.Result
		err    error
	}
	answers := make(chan answer, 1)
	q, err := newProposal(command, func(r fsm.Result, err error) { answers <- answer{r, err} })
	if err == nil {
		err = p.enqueue(q, 0)
	}
	if err != nil {
		return fsm.Result{}, err
	}
	select {
	case a := <-answers:
		return a.result, a.err
	case <-ctx.Done():
	}
	if p.withdraw(q) {
		return fsm.Result{}, fmt.Errorf("%w: %w", ErrWithdrawn, ctx.Err())
	}
	select { // the answer may have come at the same moment
	case a := <-answers:
		return a.result, a.err
	default:
		return fsm.Result{}, fmt.Errorf("the command is under way: %w", ctx.Err())
	}
}

// enqueue queues a command that will be followed by another one after that time;
// 0: by none that is worth waiting for.
func (p *proposer) enqueue(q *proposal, next time.Duration) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.open(q); err != nil {
		return err
	}
	if len(p.queue) >= p.cfg.QueueCommands || p.bytes+len(q.command) > p.cfg.QueueBytes {
		return ErrQueueFull
	}
	if next > 0 && next < p.entryTime {
		q.due = time.Now().Add(p.entryTime)
	} else {
		p.urgent++
	}
	p.queue = append(p.queue, q)
	p.bytes += len(q.command)
	p.signal()
	return nil
}

// proposeThen queues a command and returns; done takes its result. Whoever
// proposed it will propose another one after about next: if that is sooner than
// an entry is written, one entry may be made for both.
func (p *proposer) proposeThen(command *fsmpb.Command, next time.Duration, done func(fsm.Result, error)) {
	q, err := newProposal(command, done)
	if err == nil {
		err = p.enqueue(q, next)
	}
	if err != nil {
		done(fsm.Result{}, err)
	}
}

// proposeLazily queues a command for the next entry that goes anyway, or for one
// of its own after a while, or when there are as many as an entry takes.
func (p *proposer) proposeLazily(command *fsmpb.Command, done func(fsm.Result, error)) {
	q, err := newProposal(command, done)
	if err == nil {
		err = p.enqueueLazy(q)
	}
	if err != nil {
		done(fsm.Result{}, err)
	}
}

func (p *proposer) enqueueLazy(q *proposal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.open(q); err != nil {
		return err
	}
	if len(p.lazy) >= p.cfg.LazyCommands {
		return ErrQueueFull
	}
	if len(p.lazy) == 0 {
		p.waiting = time.Now()
	}
	p.lazy = append(p.lazy, q)
	if n := len(p.lazy); n == 1 || n == p.cfg.MaxBatchCommands {
		p.signal()
	}
	return nil
}

// open says whether q may be queued; called with the lock held.
func (p *proposer) open(q *proposal) error {
	switch {
	case p.closed:
		return ErrClosed
	case p.term == 0:
		return ErrNotLeading
	case len(q.command) > maxCommandBytes:
		return fmt.Errorf("%w: %d bytes, at most %d", ErrTooLarge, len(q.command), maxCommandBytes)
	}
	return nil
}

func (p *proposer) signal() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// withdraw takes a queued proposal back; false if it is too late.
func (p *proposer) withdraw(q *proposal) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if q.flying {
		return false
	}
	i := slices.Index(p.queue, q)
	if i < 0 {
		return false // answered already: its leadership ended
	}
	p.queue = slices.Delete(p.queue, i, i+1)
	p.bytes -= len(q.command)
	p.urgent--
	return true
}

// begin opens the proposer for a leadership that has passed its barrier.
func (p *proposer) begin(term uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.term = term
}

// end refuses what is queued and everything further. What is under way is not
// waited for; settled does.
func (p *proposer) end() { p.refuse(ErrNotLeading, false) }

func (p *proposer) close() {
	p.refuse(ErrClosed, true)
	p.signal()
}

func (p *proposer) refuse(err error, closing bool) {
	p.mu.Lock()
	refused := append(p.queue, p.lazy...)
	p.queue, p.lazy, p.bytes, p.urgent, p.term = nil, nil, 0, 0, 0
	p.closed = p.closed || closing
	p.mu.Unlock()
	for _, q := range refused {
		q.done(fsm.Result{}, err)
	}
}

// settled returns when no entry is under way, or with ctx's error.
func (p *proposer) settled(ctx context.Context) error {
	p.mu.Lock()
	idle := p.idle
	p.mu.Unlock()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for the entry under way: %w", ctx.Err())
	}
}

// run is the loop of the proposer's one goroutine.
func (p *proposer) run() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	defer func() {
		<-p.last
		close(p.landed)
	}()
	for {
		term, batch, wait, closed := p.take()
		switch {
		case closed:
			return
		case len(batch) > 0:
			p.fly(term, batch)
			continue
		}
		timer.Reset(wait)
		select {
		case <-p.wake:
		case <-timer.C:
		}
	}
}

// take makes the next entry's commands, or says how long to wait for a reason to.
func (p *proposer) take() (term uint64, batch []*proposal, wait time.Duration, closed bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return 0, nil, 0, true
	}
	if wait = p.rest(); wait > 0 {
		return 0, nil, wait, false
	}
	bytes := 0
	var taken int
	batch, taken = p.fill(nil, p.queue, &bytes)
	for _, q := range batch {
		if q.due.IsZero() {
			p.urgent--
		}
	}
	p.queue = cut(p.queue, taken)
	p.bytes -= bytes
	batch, taken = p.fill(batch, p.lazy, &bytes)
	p.lazy = cut(p.lazy, taken)
	p.waiting = time.Now()
	for _, q := range batch {
		q.flying = true
	}
	p.flying++
	p.aboard += len(batch)
	p.idle = make(chan struct{})
	return p.term, batch, 0, false
}

// rest is how long there is no reason for another entry, unless something
// changes. Called with the lock held.
func (p *proposer) rest() time.Duration {
	const unknown = time.Hour
	if p.flying > 1 || p.flying == 1 && (p.aboard > p.cfg.FollowCommands || len(p.queue) == 0) {
		return unknown
	}
	if p.urgent > 0 {
		return 0
	}
	rest := unknown
	if len(p.queue) > 0 { // all of them are patient, and the first is the one that has waited
		rest = time.Until(p.queue[0].due)
	}
	switch {
	case p.flying > 0:
	case len(p.lazy) >= p.cfg.MaxBatchCommands: // as many as an entry takes
		return 0
	case len(p.lazy) > 0:
		rest = min(rest, p.cfg.LazyDelay-time.Since(p.waiting))
	}
	return rest
}

// fill appends from the front of queue what fits into one entry.
func (p *proposer) fill(batch, queue []*proposal, bytes *int) ([]*proposal, int) {
	taken := 0
	for _, q := range queue {
		full := len(batch) >= p.cfg.MaxBatchCommands || *bytes+len(q.command) > p.cfg.MaxBatchBytes
		if full && len(batch) > 0 {
			break
		}
		batch = append(batch, q)
		*bytes += len(q.command)
		taken++
	}
	return batch, taken
}

// cut drops the first n and lets the array go once it is empty.
func cut(queue []*proposal, n int) []*proposal {
	if n == len(queue) {
		return nil
	}
	clear(queue[:n])
	return queue[n:]
}

// landing is an entry that is not under way any more.
type landing struct {
	batch   []*proposal
	results []fsm.Result
	err     error
	took    time.Duration
	idle    chan struct{}
}

// fly proposes one entry and returns once its place in the log is fixed.
func (p *proposer) fly(term uint64, batch []*proposal) {
	commands := make([][]byte, len(batch))
	for i, q := range batch {
		commands[i] = q.command
	}
	entry := fsm.EncodeEntry(term, p.cfg.Wall().UnixMilli(), commands)
	made, before, done, taken := time.Now(), p.last, make(chan struct{}), make(chan struct{})
	p.last = done
	p.mu.Lock()
	idle := p.idle
	p.mu.Unlock()
	p.task.Go(func() {
		defer close(done)
		took := sync.OnceFunc(func() { close(taken) })
		results, err := p.submit(entry, took)
		took()
		<-before
		p.land(landing{batch, results, err, time.Since(made), idle})
	})
	<-taken
}

// land counts an entry that is not under way any more and has its answers told.
func (p *proposer) land(l landing) {
	if l.err == nil && len(l.results) != len(l.batch) {
		l.err = fmt.Errorf("%w: %d answers to %d commands", ErrAbandoned, len(l.results), len(l.batch))
	}
	p.mu.Lock()
	if l.err == nil {
		p.stats.Entries++
		p.stats.Commands += uint64(len(l.batch))
		p.entryTime = smoothed(p.entryTime, l.took)
	}
	p.flying--
	p.aboard -= len(l.batch)
	p.signal()
	p.mu.Unlock()
	p.landed <- l
}

// smoothed is an average in which the newest value counts for an eighth.
func smoothed(average, value time.Duration) time.Duration {
	if average == 0 {
		return value
	}
	return average + (value-average)/8
}

// tell hands every caller its answer, beside the next entry: what an answer sets
// off is worth a part of that entry's time.
func (p *proposer) tell() {
	for l := range p.landed {
		for i, q := range l.batch {
			if l.err != nil {
				q.done(fsm.Result{}, l.err)
				continue
			}
			q.done(l.results[i], nil)
		}
		close(l.idle)
	}
}

func (p *proposer) snapshotStats() ProposerStats {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.stats
	s.Queued = len(p.queue) + len(p.lazy)
	return s
}
