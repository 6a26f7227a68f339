package rpc

import (
	"context"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
)

// Conn TEMPORARY stub.
type Conn struct{ *grpc.ClientConn }

func (c *Conn) Begin(method string, req, reply proto.Message, timeout time.Duration, done func(error)) (forget func()) {
	ctx, cancel := context.WithCancel(context.Background())
	if timeout > 0 {
		ctx, cancel = context.WithTimeout(context.Background(), timeout)
	}
	go func() { done(c.Invoke(ctx, method, req, reply)); cancel() }()
	return cancel
}
