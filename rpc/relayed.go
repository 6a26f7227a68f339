package rpc

import (
	"context"
	"sync"
	"time"

	"google.golang.org/grpc/status"
)

// relayed is a call on its way through a Relay. Whoever takes it out of those that
// wait at the stream onward ends it.
type relayed struct {
	from     *carriage
	number   uint64 // there
	method   *method
	relay    *Relay
	deadline time.Time // zero: none

	prev, next *relayed // of the relay, which guards them

	mu      sync.Mutex // guards what follows
	to      *carried   // nil: it has not gone on yet
	onward  uint64     // its number there
	stopped error      // why nobody waits any more
}

// begin has it go on.
func (c *relayed) begin(to *carried, call *carriedCall) {
	c.relay.conn.carrier.underway.Add(1)
	number, err := to.pass(callHead{method: c.method.name, timeoutUs: call.timeoutUs, metadata: c.relay.metadata}, call.request, c)
	if err != nil {
		c.answered(nil, err)
		return
	}
	c.mu.Lock()
	c.to, c.onward = to, number
	err = c.stopped
	c.mu.Unlock()
	if err != nil { // meanwhile
		c.forget(err)
	}
}

// cancel: whoever asked does not wait any more, or who was asked is not the one to ask.
func (c *relayed) cancel() { c.stop(status.FromContextError(context.Canceled).Err()) }

// stop ends it with err, unless it is answered.
func (c *relayed) stop(err error) {
	c.mu.Lock()
	if c.stopped != nil {
		err = c.stopped
	}
	c.stopped = err
	gone := c.to != nil
	c.mu.Unlock()
	if gone {
		c.forget(err)
	}
}

func (c *relayed) forget(err error) {
	if c.to.forget(c.onward) != nil {
		c.answered(nil, err)
	}
}

// answered passes the answer back. To tell is up to whoever has one to pass.
func (c *relayed) answered(a *carriedAnswer, err error) {
	c.relay.leave(c)
	c.relay.conn.carrier.underway.Add(-1)
	switch {
	case err != nil:
	case len(a.status) > 0:
		err = a.failure()
	default:
		returned(c.method.name, true)
	}
	err = c.relay.ended(c.method.name, err)
	c.from.leave(c.number)
	if err != nil {
		c.from.answer(c.number, nil, err)
	} else {
		frame := c.from.out.open(len(a.response))
		*frame = appendAnswerBytes(*frame, c.number, a.response)
		c.from.out.add()
	}
	c.from.underway.Done()
}
