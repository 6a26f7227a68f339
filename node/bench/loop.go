package bench

import (
	"context"
	"errors"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

const (
	// refusedPause is the least time between a refusal and the caller's next
	// operation in a closed loop: without it a refusing node would be hammered.
	refusedPause = 20 * time.Millisecond
	// missingName is the reason of a read that did not find its key.
	missingName = "KEY_MISSING"
	// maxCountedTries bounds the search for the number of a new try; a caller's
	// deadline allows far fewer.
	maxCountedTries = 10_000
)

// load runs the load to its end, or that of ctx, and what is under way then too.
func (r *run) load(ctx context.Context) {
	calls, cancelCalls := context.WithCancel(context.WithoutCancel(ctx))
	defer cancelCalls()
	r.start = time.Now()
	r.from = r.start.Add(r.cfg.Warmup)
	end := r.from.Add(r.cfg.Duration)
	r.to.Store(int64(end.Sub(r.start)))
	loop, stop := context.WithDeadline(ctx, end)
	defer stop()
	if r.cfg.Open() {
		r.backlog = newBacklog(r.cfg.Backlog)
	}
	defer r.watchInterrupt(ctx, cancelCalls)()
	defer r.watch()()
	if r.cfg.Open() {
		r.open(ctx, loop, calls, end)
	} else {
		r.closed(loop, calls)
	}
}

// watchInterrupt ends the window when ctx ends and, a grace later, the calls
// that are under way. It watches until the function it returns is called.
func (r *run) watchInterrupt(ctx context.Context, cancelCalls func()) (done func()) {
	watching, stop := context.WithCancel(context.WithoutCancel(ctx))
	var wg sync.WaitGroup
	wg.Go(func() {
		select {
		case <-watching.Done():
			return
		case <-ctx.Done():
		}
		r.to.Store(min(r.to.Load(), int64(time.Since(r.start))))
		pause(watching, interruptGrace)
		cancelCalls()
	})
	return func() {
		stop()
		wg.Wait()
	}
}

// closed keeps every caller busy until loop ends. Calls end with calls.
func (r *run) closed(loop, calls context.Context) {
	var wg sync.WaitGroup
	for caller := range r.cfg.Concurrency {
		wg.Go(func() {
			for loop.Err() == nil {
				op := operation{number: r.sequence.Add(1) - 1, due: time.Now()}
				if wait := r.perform(calls, caller, op); wait > 0 {
					pause(loop, wait)
				}
			}
		})
	}
	wg.Wait()
}

// open makes operations due until loop ends, whatever becomes of them. What is
// in the backlog at the end is sent after it, for at most a deadline, and not
// at all once ctx has ended.
func (r *run) open(ctx, loop, calls context.Context, end time.Time) {
	var wg sync.WaitGroup
	for caller := range r.cfg.Concurrency {
		wg.Go(func() {
			for op := range r.backlog.queue {
				if ctx.Err() != nil || time.Since(end) > r.cfg.Deadline {
					r.unsend(op)
				} else {
					r.perform(calls, caller, op)
				}
			}
		})
	}
	r.arrive(loop, end)
	r.backlog.close()
	wg.Wait()
}

// arrive offers the operations to the backlog as they are due.
func (r *run) arrive(loop context.Context, end time.Time) {
	a := newArrivals(r.cfg.Arrivals, r.cfg.Rate, r.cfg.Seed)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for number := uint64(0); ; number++ {
		op := operation{number: number, due: r.start.Add(a.next())}
		if !op.due.Before(end) {
			return
		}
		if wait := time.Until(op.due); wait > 0 {
			timer.Reset(wait)
			select {
			case <-timer.C:
			case <-loop.Done():
				return
			}
		}
		r.sequence.Add(1)
		if !r.backlog.offer(op) && r.measured(op.due) {
			r.lost.Add(1)
		}
	}
}

func (r *run) unsend(op operation) {
	if r.measured(op.due) {
		r.unsent.Add(1)
	}
}

// measured reports whether a moment is in the window.
func (r *run) measured(at time.Time) bool {
	return !at.Before(r.from) && int64(at.Sub(r.start)) < r.to.Load()
}

// perform runs one operation. wait is how long its caller should pause then.
func (r *run) perform(calls context.Context, caller int, op operation) (wait time.Duration) {
	r.underWay.Add(1)
	defer r.underWay.Add(-1)
	ctx, cancel := context.WithTimeout(calls, r.cfg.Deadline)
	defer cancel()
	client := r.clients[caller%len(r.clients)]
	c := r.chooser.choose(op.number)
	var e ending
	if c.read {
		e, wait = r.read(ctx, client, c)
	} else {
		e, wait = r.submit(ctx, client, c, op.number)
	}
	now := time.Now()
	e.latency = now.Sub(op.due)
	e.measured, e.inside = r.measured(op.due), r.measured(now)
	r.recorder.count(caller, e)
	return wait
}

func (r *run) read(ctx context.Context, client *rpc.Client, c choice) (ending, time.Duration) {
	items, err := client.ReadKV(ctx, r.data.names[c.participants[0]], r.data.readKey(c.keys[0]))
	switch {
	case err != nil:
		refused := rpc.FromError(err)
		return ending{fate: failed, read: true, reason: refusalName(refused.Reason)}, max(refused.RetryAfter, refusedPause)
	case len(items) != 1 || !items[0].GetExists():
		r.missing.Add(1)
		return ending{fate: failed, read: true, reason: missingName}, 0
	}
	return ending{fate: wasRead, read: true}, 0
}

func (r *run) submit(ctx context.Context, client *rpc.Client, c choice, number uint64) (ending, time.Duration) {
	id, err := rpc.NewID()
	if err != nil {
		return ending{fate: failed, reason: refusalName(rpc.ReasonOf(err))}, refusedPause
	}
	req := &pb.SubmitRequest{Id: id, Wait: r.cfg.Wait, Timeout: durationpb.New(r.cfg.Timeout)}
	for i, p := range c.participants {
		req.Branches = append(req.Branches, &pb.Branch{Participant: r.data.names[p], Payload: r.data.payload(c.keys[i], number)})
	}
	resp, err := client.Submit(ctx, req, rpc.WithConflictRetry(!r.cfg.NoRetry), rpc.WithOverloadRetry(false))
	if unknown, is := errors.AsType[*rpc.UnknownOutcome](err); is {
		r.settler.add(unsettled{id: unknown.ID, since: unknown.Since, number: number})
		return ending{fate: failed, unknown: true, retries: triesAfter(id, unknown.ID)}, refusedPause
	}
	if err != nil {
		refused := rpc.FromError(err)
		return ending{fate: failed, reason: refusalName(refused.Reason)}, max(refused.RetryAfter, refusedPause)
	}
	retries := triesAfter(id, resp.GetId())
	if resp.GetOutcome() == pb.Outcome_COMMIT {
		for _, p := range c.participants {
			r.commits[p].Add(1)
		}
		return ending{fate: committed, retries: retries}, 0
	}
	return ending{fate: aborted, reason: abortName(resp.GetReason().GetCode()), retries: retries}, 0
}

// triesAfter is how many new tries the client made before the one under last.
func triesAfter(first, last string) int {
	if first == last {
		return 0
	}
	for n := 1; n <= maxCountedTries; n++ {
		if rpc.DerivedID(first, n) == last {
			return n
		}
	}
	return 0 // the answer is of another id than was asked; the client does not do that
}
