package cluster

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/fsm/fsmpb"
)

// Replica is one node's part of the replicated log and the state that it
// drives. Its methods may be called concurrently.
type Replica struct {
	cfg     Config
	fail    *failure
	dir     *dataDir
	dog     *watchdog
	disk    logStore
	store   *guardedStore
	logs    *logCache
	snaps   *snapshotStore
	layer   *streamLayer
	trans   *transport
	machine *machine
	// raft is nil until Raft runs; the handshake asks it for the members.
	raft     atomic.Pointer[raft.Raft]
	changes  <-chan bool // Raft's word on leadership: the latest only
	proposer *proposer
	verifier verifier
	restores uint64 // snapshots restored by Open itself

	clusterIDs  chan string   // learned by the machine, to be recorded
	lost        chan string   // peers whose last connection has ended, to be looked at
	closing     chan struct{} // closed first: nothing new begins
	gone        chan struct{} // closed once Raft has ended: no future will answer any more
	tasks       sync.WaitGroup
	handingOver sync.Mutex // held by HandOver

	closeOnce sync.Once
	closeErr  error

	leadership leadershipState
	meters     *meters
}

// Propose has the state machine apply one command and returns its result. A
// command that the machine rejects is a Result with a Rejection. OutcomeOf
// says of an error whether the command may yet be applied. Only a running
// leadership proposes (RunLeadership).
//
// ctx bounds the caller's wait, also while the command is under way, which it
// does not stop.
func (r *Replica) Propose(ctx context.Context, cmd *fsmpb.Command) (fsm.Result, error) {
	return r.proposer.propose(ctx, cmd)
}

// ProposeThen is Propose without the wait. done is called exactly once, perhaps
// before ProposeThen returns; the answers come in the order of the log. It must
// not block. Whoever expects to propose another command that needs this one after
// about next says so: where that is sooner than an entry is written, this one waits
// for the next entry that goes anyway, that long at most. 0: it does not wait.
func (r *Replica) ProposeThen(cmd *fsmpb.Command, next time.Duration, done func(fsm.Result, error)) {
	r.proposer.proposeThen(cmd, next, done)
}

// ProposeLazy adds a command to the next entry that is proposed anyway, or to
// one of its own after Config.LazyDelay. done is called exactly once, with what
// Propose would return, perhaps before ProposeLazy returns; it must not block.
func (r *Replica) ProposeLazy(cmd *fsmpb.Command, done func(fsm.Result, error)) {
	r.proposer.proposeLazily(cmd, done)
}

// View calls f with the state machine under a read lock. f must not block,
// must not keep m, and must not call the Replica. Records it takes out of m
// are immutable and may be kept.
func (r *Replica) View(f func(m *fsm.Machine)) { r.machine.view(f) }

// WaitApplied returns once the entry at index is applied here, or with ctx's error.
func (r *Replica) WaitApplied(ctx context.Context, index uint64) error {
	return r.machine.wait(ctx, index)
}

// StateHash is the hash of the state and the index it belongs to: equal on
// every replica at the same index. It reads the whole state, outside the lock.
func (r *Replica) StateHash() (index uint64, hash string) {
	var s *fsm.Snapshot
	r.machine.view(func(m *fsm.Machine) { s = m.Snapshot() })
	return s.Hash()
}

// Snapshot writes a snapshot now and drops what the log need not keep.
func (r *Replica) Snapshot(ctx context.Context) error {
	err := r.await(ctx, func() error { return r.raft.Load().Snapshot().Error() })
	if err != nil && !errors.Is(err, raft.ErrNothingNewToSnapshot) {
		return fmt.Errorf("snapshot: %w", err)
	}
	return nil
}

// TransferLeadership hands leadership to another node, if this one has it. It
// is for a process that is about to end, whatever comes of it: a transfer that
// fails can leave a leader that refuses every proposal (raft#696).
func (r *Replica) TransferLeadership(ctx context.Context) error {
	if err := r.fail.error(); err != nil {
		return err // Raft may have no loop any more that would answer
	}
	if r.raft.Load().State() != raft.Leader {
		return nil
	}
	err := r.await(ctx, func() error { return r.raft.Load().LeadershipTransfer().Error() })
	if err != nil {
		return fmt.Errorf("transfer leadership: %w", err)
	}
	return nil
}

// submit hands one entry to Raft and waits for the machine's answers. taken is
// called, perhaps never, once Raft has the entry: those that are handed over after
// that come behind it in the log.
func (r *Replica) submit(ctx context.Context, entry []byte, taken func()) ([]fsm.Result, error) {
	// Written before await's goroutine ends, read only if it has ended.
	var response any
	err := r.await(ctx, func() error {
		future := r.raft.Load().Apply(entry, 0)
		taken()
		err := future.Error()
		if err == nil {
			response = future.Response()
		}
		return err //nolint:wrapcheck // OutcomeOf classifies it
	})
	if err != nil {
		return nil, err
	}
	if err, failed := response.(error); failed {
		return nil, fmt.Errorf("%w: %w", ErrAbandoned, err)
	}
	results, _ := response.([]fsm.Result) // none if the machine stopped in this entry
	return results, nil
}

// await waits for a future of Raft's, with a way out: futures have no deadline
// (raft#498), and some are forgotten when Raft shuts down. A goroutine that
// waits for such a one stays behind; it holds nothing.
func (r *Replica) await(ctx context.Context, wait func() error) error {
	done := make(chan error, 1)
	go func() { done <- wait() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err() //nolint:wrapcheck // the callers say what was waited for
	case <-r.fail.dead:
	case <-r.gone:
	}
	return ErrAbandoned
}

// Kill makes the replica dead at once, as a failed write does: it proposes,
// writes and leads no more, and Close only frees what it holds. It is for
// simulated crashes; Config.Fatal hears of it.
func (r *Replica) Kill(err error) { r.fail.report(err) }

// Close ends the replica: what is queued is refused, the entry under way is
// waited for as long as ctx allows, then Raft, its connections and its files
// are closed. End RunLeadership first. Durability does not depend on Close.
func (r *Replica) Close(ctx context.Context) error {
	r.closeOnce.Do(func() { r.closeErr = r.close(ctx) })
	return r.closeErr
}

func (r *Replica) close(ctx context.Context) error {
	close(r.closing)
	r.proposer.close()
	select { // a dead replica's entries are never answered
	case <-r.fail.dead:
	default:
		if err := r.proposer.settled(ctx); err != nil {
			r.cfg.Logger.Warn("closing with an entry under way", "error", err)
		}
	}
	return r.release(ctx)
}

// release frees what Open had acquired, all of it or the part it came to.
func (r *Replica) release(ctx context.Context) error {
	var errs []error
	if running := r.raft.Load(); running != nil {
		errs = append(errs, r.shutdown(ctx, running))
	}
	if r.trans != nil {
		errs = append(errs, r.trans.Close())
	} else if r.layer != nil {
		errs = append(errs, r.layer.Close())
	}
	close(r.gone)
	if r.proposer != nil {
		r.proposer.task.Wait()
	}
	r.tasks.Wait()
	r.meters.unregister(r.cfg.Metrics)
	if r.disk != nil {
		errs = append(errs, r.disk.Close())
	}
	if r.dog != nil {
		r.dog.close()
	}
	errs = append(errs, r.dir.close())
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("close replica: %w", err)
	}
	return nil
}

// shutdown ends Raft. Its connections are cut at the same time, since its
// goroutines may be waiting on them.
func (r *Replica) shutdown(ctx context.Context, running *raft.Raft) error {
	future := running.Shutdown()
	err := r.trans.Close()
	done := make(chan error, 1)
	go func() { done <- future.Error() }()
	select {
	case ended := <-done:
		return errors.Join(err, ended)
	case <-ctx.Done():
		return errors.Join(err, fmt.Errorf("raft did not end in time: %w", ctx.Err()))
	}
}
