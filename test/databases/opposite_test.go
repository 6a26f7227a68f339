package databases

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// TestOppositeOrder: clients that lock the same two rows of both databases in
// opposite order. Neither database sees the circles that go through the other:
// the bounded wait for a lock ends them. Every transaction ends, soon.
func TestOppositeOrder(t *testing.T) {
	const clients, limit = 32, 3 * time.Second
	w := newWorld(t, newBank(t, accounts), "")
	var commits, aborts, unknown atomic.Int64
	var slowest atomic.Int64
	ctx, stop := context.WithTimeout(context.Background(), *contention)
	defer stop()
	var wg sync.WaitGroup
	for n := range clients {
		wg.Go(func() {
			for ctx.Err() == nil {
				began := time.Now()
				switch outcome, err := w.swap(n); {
				case err != nil:
					unknown.Add(1)
					t.Errorf("a transaction has not ended: %v", err)
				case outcome == pb.Outcome_COMMIT:
					commits.Add(1)
				default:
					aborts.Add(1)
				}
				took := int64(time.Since(began))
				for old := slowest.Load(); took > old && !slowest.CompareAndSwap(old, took); old = slowest.Load() {
				}
			}
		})
	}
	wg.Wait()
	w.nothingPrepared(settles)
	rate := float64(commits.Load()) / contention.Seconds()
	t.Logf("%d clients for %v: %d commits (%.1f/s), %d aborts; the slowest transaction took %v",
		clients, *contention, commits.Load(), rate, aborts.Load(), time.Duration(slowest.Load()).Round(time.Millisecond))
	for kind, v := range w.vaults() {
		first, err1 := v.number(within(t, patience), "SELECT balance FROM acct WHERE id = 0")
		second, err2 := v.number(within(t, patience), "SELECT balance FROM acct WHERE id = 1")
		if err := errors.Join(err1, err2); err != nil || first != commits.Load() || second != -commits.Load() {
			t.Errorf("%s: %d and %d after %d commits, %v", kind, first, second, commits.Load(), err)
		}
	}
	if commits.Load() == 0 {
		t.Error("nobody has committed")
	}
	if *bars && (rate < 10 || time.Duration(slowest.Load()) > limit) {
		t.Errorf("%.1f commits a second, at least 10; the slowest took %v, at most %v", rate, time.Duration(slowest.Load()), limit)
	}
}

// swap moves one between two rows of each database, in an order that depends on
// the client, once: a conflict is an end as well.
func (w *world) swap(client int) (pb.Outcome, error) {
	var branches []*pb.Branch
	for i, kind := range []string{pg, maria} {
		first, second := change(kind, 0, 1), change(kind, 1, -1)
		if (client>>i)%2 == 1 { // the same order in both, or another in each
			first, second = second, first
		}
		branches = append(branches, w.sql(kind, first, second))
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	r, err := w.client.Submit(ctx, &pb.SubmitRequest{
		Branches: branches, Timeout: durationpb.New(time.Second), Wait: pb.Wait_COMPLETED,
	}, rpc.WithConflictRetry(false))
	return r.GetOutcome(), err
}
