package rpc

import (
	"context"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/concordat-tx/concordat/rpc/lazy"
)

// carriedIn is a call at the server.
type carriedIn struct {
	*method
	of      *carriage
	number  uint64
	request []byte
	frame   *inFrame // that the request is in; nil once it is read
	ctx     lazy.Context
}

// timeout is how long it may take; 0: without end.
func (c *carriedCall) timeout() time.Duration {
	return time.Duration(min(c.timeoutUs, 1<<50)) * time.Microsecond
}

func (c *carriedIn) cancel() { c.ctx.Cancel(context.Canceled) }

// run serves the call.
func (c *carriedIn) run() {
	defer c.of.underway.Done()
	resp, err := c.handler(c.impl, &c.ctx, c.read, c.of.interceptor)
	c.of.leave(c.number)
	c.ctx.Cancel(context.Canceled)
	c.readDone()
	c.of.answer(c.number, resp, err)
}

// read reads the request.
func (c *carriedIn) read(into any) error {
	defer c.readDone()
	if err := proto.Unmarshal(c.request, into.(proto.Message)); err != nil {
		return Errorf(ReasonInvalidArgument, "the request cannot be read: %w", err)
	}
	return nil
}

func (c *carriedIn) readDone() {
	if c.frame != nil {
		c.frame.free()
		c.frame, c.request = nil, nil
	}
}
