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
	// settleTimeout bounds one booking, its settling included.
	settleTimeout = 30 * time.Second
)

// traffic is the load.
type traffic struct {
	airline *airline
	ledger  *ledger
	clients []*rpc.Client
	number  atomic.Int64
	wg      sync.WaitGroup
	stop    chan struct{}
}

// newTraffic makes the clients; each starts at another node.
func newTraffic(a *airline, nodes []string, clients int) (*traffic, error) {
	t := &traffic{airline: a, ledger: &ledger{}, stop: make(chan struct{})}
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
	for i, c := range t.clients {
		wait := patience
		if i%4 == 3 {
			wait = impatience
		}
		t.wg.Go(func() {
			for {
				select {
				case <-t.stop:
					return
				case <-ctx.Done():
					return
				default:
					t.ledger.add(book(ctx, c, t.airline.draw(t.number.Add(1)), wait))
				}
			}
		})
	}
}

// end makes no more bookings and waits until all are answered or given up.
func (t *traffic) end() {
	close(t.stop)
	t.wg.Wait()
}

func (t *traffic) close() error {
	var errs []error
	for _, c := range t.clients {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

// book brings one booking to a definite outcome. What had begun nothing is
// submitted again; what is unknown is settled by the same id, since and
// content (P10), with all patience.
func book(ctx context.Context, c *rpc.Client, b booking, wait time.Duration) entry {
	e := entry{booking: b, began: time.Now()}
	req := b.request()
	ctx, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
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
