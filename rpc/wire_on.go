//go:build failpoints

package rpc

import (
	"context"
	"net"
	"runtime"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"github.com/concordat-tx/concordat/fsm/failpoint"
)

// hopHeader marks a call that a node has forwarded.
const hopHeader = "concordat-hop"

// watched makes every TCP connection one that passes the points of its messages.
func watched(c credentials.TransportCredentials) credentials.TransportCredentials {
	if c == nil {
		c = insecure.NewCredentials()
	}
	return tapCredentials{c}
}

type tapCredentials struct {
	credentials.TransportCredentials
}

func (c tapCredentials) Clone() credentials.TransportCredentials {
	return tapCredentials{c.TransportCredentials.Clone()}
}

func (c tapCredentials) ClientHandshake(ctx context.Context, authority string, raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, info, err := c.TransportCredentials.ClientHandshake(ctx, authority, raw)
	return tapped(conn, raw, false), info, err
}

func (c tapCredentials) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, info, err := c.TransportCredentials.ServerHandshake(raw)
	return tapped(conn, raw, true), info, err
}

// tapped leaves pipes within a process alone.
func tapped(conn, raw net.Conn, server bool) net.Conn {
	if _, ok := raw.(*net.TCPConn); !ok || conn == nil {
		return conn
	}
	return &tap{Conn: conn, server: server, wire: newWire()}
}

// tap passes a message's points when its bytes pass the socket.
type tap struct {
	net.Conn
	server bool
	wire   *wire
}

func (t *tap) Write(p []byte) (int, error) {
	before, after := failpoint.SendBefore, failpoint.SendAfter
	if t.server {
		before, after = failpoint.AnswerBefore, failpoint.AnswerAfter
	}
	begun, ended := t.wire.feed(p, !t.server)
	for _, c := range begun {
		failpoint.Hit(c.At(before))
	}
	n, err := t.Conn.Write(p)
	for _, c := range ended {
		failpoint.Hit(c.At(after))
	}
	return n, err
}

func (t *tap) Read(p []byte) (int, error) {
	runtime.LockOSThread() // what arrived and that it did stand together in a trace
	defer runtime.UnlockOSThread()
	n, err := t.Conn.Read(p)
	_, ended := t.wire.feed(p[:n], t.server)
	for _, c := range ended {
		if t.server {
			failpoint.Hit(c.At(failpoint.ReceiveBefore))
		} else {
			failpoint.Hit(c.At(failpoint.ReturnBefore))
		}
	}
	return n, err
}

func watchDial() []grpc.UnaryClientInterceptor {
	return []grpc.UnaryClientInterceptor{func(ctx context.Context, method string, req, reply any,
		cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption,
	) error {
		err := invoke(ctx, method, req, reply, cc, opts...)
		if err == nil {
			out, _ := metadata.FromOutgoingContext(ctx)
			failpoint.Hit(mustCall(method, len(out.Get(hopHeader)) > 0).At(failpoint.ReturnAfter))
		}
		return err
	}}
}

// returned is the last point of a call that no interceptor of the caller sees
// (Conn.Begin, Relay).
func returned(method string, hop bool) {
	failpoint.Hit(mustCall(method, hop).At(failpoint.ReturnAfter))
}

// received is the point of a call that no interceptor of the server sees (Relay).
func received(method string) {
	failpoint.Hit(mustCall(method, false).At(failpoint.ReceiveAfter))
}

func watchServer() []grpc.UnaryServerInterceptor {
	return []grpc.UnaryServerInterceptor{func(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
		hop := len(metadata.ValueFromIncomingContext(ctx, hopHeader)) > 0
		failpoint.Hit(mustCall(info.FullMethod, hop).At(failpoint.ReceiveAfter))
		return next(ctx, req)
	}}
}

func mustCall(method string, forwarded bool) *failpoint.Call {
	c := failpoint.CallOf(method, forwarded)
	if c == nil {
		panic(method + " has no points: add it to failpoint.Calls, or to failpoint.Exempt with a reason")
	}
	return c
}
