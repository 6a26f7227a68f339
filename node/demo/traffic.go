package demo

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

const (
	// patience is how long most clients wait for an answer.
	patience = 10 * time.Second
	// impatience is how long every fourth client does: less than a failover, so
	// that some outcomes are unknown to them and have to be settled by id.
	impatience = 200 * time.Millisecond
	// settleTimeout is how long bookings may take to settle after the load.
	settleTimeout = 30 * time.Second
	// backlog bounds the bookings that are due and wait for a client, in seconds of the rate.
	backlog = 10
)

// traffic is the load.
type traffic struct {
	airline *airline
	keepers keepers
	ledger  *ledger
	clients []*rpc.Client
	rate    int
	number  atomic.Int64
	// due are the times at which bookings are to be made, with a rate; skipped
	// counts those that found the backlog full.
	due     chan time.Time
	skipped atomic.Int64
	wg      sync.WaitGroup
	stop    chan struct{}
	giveUp  context.CancelFunc
}

// newTraffic makes the clients; each starts at another node.
func newTraffic(a *airline, k keepers, nodes []string, clients, rate int) (*traffic, error) {
	t := &traffic{airline: a, keepers: k, ledger: &ledger{}, rate: rate, due: make(chan time.Time, backlog*rate), stop: make(chan struct{})}
	for i := range clients {
		first := i % len(nodes)
		c, err := rpc.NewClient(slices.Concat(nodes[first:], nodes[:first]))
		if err != nil {
			return nil, errors.Join(err, t.close())
		}
		t.clients = append(t.clients, c)
	}
	return t, nil
}

// start lets the clients book until end is called or ctx ends.
func (t *traffic) start(ctx context.Context) {
	ctx, t.giveUp = context.WithCancel(ctx)
	if t.rate > 0 {
		t.wg.Go(func() { t.pace(ctx) })
	}
	for i, c := range t.clients {
		wait := patience
		if i%4 == 3 {
			wait = impatience
		}
		t.wg.Go(func() {
			for {
				due, ok := t.next(ctx)
				if !ok {
					return
				}
				t.ledger.add(book(ctx, c, t.keepers, t.airline.draw(t.number.Add(1)), due, wait))
			}
		})
	}
}

// next waits until a booking is due; false if there are no more.
func (t *traffic) next(ctx context.Context) (due time.Time, ok bool) {
	select {
	case <-t.stop:
		return due, false
	case <-ctx.Done():
		return due, false
	default:
	}
	if t.rate == 0 {
		return time.Now(), true
	}
	select {
	case <-t.stop:
		return due, false
	case <-ctx.Done():
		return due, false
	case due = <-t.due:
		return due, true
	}
}

// pace says when bookings are due.
func (t *traffic) pace(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	began := time.Now()
	for n := range int64(maxRate) * int64(maxDuration/time.Second) {
		due := began.Add(time.Duration(n) * time.Second / time.Duration(t.rate))
		timer.Reset(time.Until(due))
		select {
		case <-timer.C:
		case <-t.stop:
			return
		case <-ctx.Done():
			return
		}
		select {
		case t.due <- due:
		default:
			t.skipped.Add(1)
		}
	}
}

// end makes no more bookings and waits until all are answered or given up.
func (t *traffic) end() {
	close(t.stop)
	late := time.AfterFunc(settleTimeout, t.giveUp)
	t.wg.Wait()
	late.Stop()
	t.giveUp()
	t.skipped.Add(int64(len(t.due))) // due, and no client was free in time
}

func (t *traffic) close() error {
	var errs []error
	for _, c := range t.clients {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

// book brings one booking, due at a time, to a definite outcome. What had begun
// nothing is submitted again; what is unknown is settled by the same id, since
// and content (P10), with all patience.
func book(ctx context.Context, c *rpc.Client, k keepers, b booking, due time.Time, wait time.Duration) entry {
	e := entry{booking: b, began: due}
	req := b.request(k)
	for {
		resp, err := submit(ctx, c, req, wait)
		e.ended, e.err = time.Now(), err
		if err == nil {
			e.outcome, e.reason, e.node = resp.GetOutcome(), resp.GetReason(), resp.GetNode()
			return e
		}
		if u, ok := errors.AsType[*rpc.UnknownOutcome](err); ok {
			e.unknown = true
			req.Id, req.Since, wait = u.ID, proto.Uint64(u.Since), patience
		} else {
			e.refusals++
			if !rpc.FromError(err).Retryable() {
				return e
			}
		}
		if ctx.Err() != nil {
			return e
		}
	}
}

func submit(ctx context.Context, c *rpc.Client, req *pb.SubmitRequest, wait time.Duration) (*pb.TransactionResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	return c.Submit(ctx, req)
}
