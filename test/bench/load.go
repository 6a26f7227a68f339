package main

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/kvop"
	"github.com/concordat-tx/concordat/rpc/pb"
)

const (
	// distinctKeys is how many keys a load uses in each participant, in turn: more
	// than can be in flight, so that its transactions never wait for each other,
	// and few enough that the data themselves stop growing.
	distinctKeys = 100_000
	// callTimeout is how long a caller waits for its answer, if an experiment
	// does not say otherwise.
	callTimeout = 30 * time.Second
	// maxOutstanding bounds an open loop's calls in progress, for the memory of
	// this process; it is far above what the nodes take on.
	maxOutstanding = 60_000
)

// load makes transactions and counts what comes of them.
type load struct {
	clients []*rpc.Client
	// participants get one branch each.
	participants []string
	// request makes the next transaction.
	request func() *pb.SubmitRequest
	options []rpc.SubmitOption
	// timeout is how long a caller waits for its answer.
	timeout time.Duration
	// observe, if set, sees every operation; it must be safe for concurrent use.
	observe func(operation)

	recorder *recorder
	sequence atomic.Int64
}

func newLoad(clients []*rpc.Client, participants ...string) *load {
	l := &load{clients: clients, participants: participants, timeout: callTimeout, recorder: newRecorder()}
	l.request = l.additions
	return l
}

// additions is a transaction that adds something in each participant.
func (l *load) additions() *pb.SubmitRequest {
	key := fmt.Sprintf("account/%06d", l.sequence.Add(1)%distinctKeys)
	req := &pb.SubmitRequest{}
	for i, name := range l.participants {
		delta := int64(1 - 2*(i%2)) // what one gains the next one loses
		req.Branches = append(req.Branches, &pb.Branch{
			Participant: name, Payload: kvop.Encode([]kvop.Op{{Kind: kvop.Add, Key: key, Delta: delta}}),
		})
	}
	return req
}

// submit runs one transaction that was to begin at begun.
func (l *load) submit(client *rpc.Client, begun time.Time) {
	ctx, cancel := context.WithTimeout(context.Background(), l.timeout)
	defer cancel()
	resp, err := client.Submit(ctx, l.request(), l.options...)
	op := operation{begun: begun, ended: time.Now(), response: resp, err: err}
	l.recorder.count(op)
	if l.observe != nil {
		l.observe(op)
	}
}

// running is a load under way.
type running struct {
	halt func()
	wg   sync.WaitGroup
}

// stop begins no more transactions and waits for those under way.
func (r *running) stop() {
	r.halt()
	r.wg.Wait()
}

// closed starts a closed loop: each of n clients has one transaction under way.
func (l *load) closed(ctx context.Context, n int) *running {
	ctx, cancel := context.WithCancel(ctx)
	r := &running{halt: cancel}
	for i := range n {
		client := l.clients[i%len(l.clients)]
		r.wg.Go(func() {
			for ctx.Err() == nil {
				l.submit(client, time.Now())
			}
		})
	}
	return r
}

// closedFor counts what a closed loop of n clients does within d, after a warm-up.
func (l *load) closedFor(ctx context.Context, n int, warmUp, d time.Duration) *tally {
	r := l.closed(ctx, n)
	defer r.stop()
	sleep(ctx, warmUp)
	l.recorder.cut()
	sleep(ctx, d)
	return l.recorder.cut()
}

// closedCount runs n clients until count transactions have ended.
func (l *load) closedCount(ctx context.Context, n, count int) {
	var left atomic.Int64
	left.Store(int64(count))
	var wg sync.WaitGroup
	for i := range n {
		client := l.clients[i%len(l.clients)]
		wg.Go(func() {
			for ctx.Err() == nil && left.Add(-1) >= 0 {
				l.submit(client, time.Now())
			}
		})
	}
	wg.Wait()
}

// openLoop is an open loop under way.
type openLoop struct {
	*running
	// scheduled are the transactions due so far; skipped those of them that
	// were not sent because maxOutstanding were under way.
	scheduled, skipped atomic.Int64
}

// open starts an open loop: rate transactions a second, whether or not the
// ones before were answered. Each one's latency counts from when it was due,
// so that a stall is seen by all that it delays (no coordinated omission).
func (l *load) open(ctx context.Context, rate float64) *openLoop {
	ctx, cancel := context.WithCancel(ctx)
	o := &openLoop{running: &running{halt: cancel}}
	room := make(chan struct{}, maxOutstanding)
	o.wg.Go(func() {
		start := time.Now()
		for i := 0; ; i++ {
			due := start.Add(time.Duration(float64(i) / rate * float64(time.Second)))
			if wait := time.Until(due); wait > 0 {
				sleep(ctx, wait)
			}
			if ctx.Err() != nil {
				return
			}
			o.scheduled.Add(1)
			select {
			case room <- struct{}{}:
			default:
				o.skipped.Add(1)
				continue
			}
			client := l.clients[i%len(l.clients)]
			o.wg.Go(func() {
				l.submit(client, due)
				<-room
			})
		}
	})
	return o
}

// sleep waits for d or the end of ctx.
func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
