package sim

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// messages loses, delays, repeats and reorders calls: what a network cannot do
// to the bytes of a TCP connection happens to calls by way of retries,
// proxies and lost connections.
type messages struct {
	mu     sync.Mutex // guards what follows
	random *rand.Rand
	share  float64 // of the calls that something happens to
	seen   counts
	late   sync.WaitGroup
	ended  context.Context
}

// mischief is what happens to one call.
type mischief struct {
	before, repeat   time.Duration
	loseIt, loseBack bool
}

func (m *messages) set(share float64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.share = share
}

func (m *messages) draw() (x mischief) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.random.Float64() >= m.share {
		return x
	}
	switch m.random.IntN(4) {
	case 0:
		x.loseIt = true
		m.seen.lost++
	case 1:
		x.loseBack = true
		m.seen.lost++
	case 2:
		x.before = time.Duration(m.random.Int64N(int64(300 * time.Millisecond)))
		m.seen.late++
	case 3:
		x.repeat = 1 + time.Duration(m.random.Int64N(int64(3*time.Second)))
		m.seen.twice++
	}
	return x
}

// intercept is the client's side of every unary call.
func (m *messages) intercept(ctx context.Context, method string, req, reply any, conn *grpc.ClientConn, call grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	x := m.draw()
	if x.before > 0 {
		if err := sleep(ctx, x.before); err != nil {
			return status.FromContextError(err).Err()
		}
	}
	if x.loseIt {
		return status.Error(codes.Unavailable, "the request was lost")
	}
	// What is delivered once more is what was sent: a client makes its next call,
	// under another id, of the same message.
	sent := req
	if x.repeat > 0 {
		sent = proto.Clone(req.(proto.Message))
	}
	err := call(ctx, method, req, reply, conn, opts...)
	// Not a call that was refused: whoever repeats calls for a client does so
	// where no answer came. A Submit that is refused because a participant is
	// being removed, and comes again when it is back, may rightly begin (P10).
	if x.repeat > 0 && err == nil && m.ended.Err() == nil {
		m.late.Go(func() { m.again(method, sent, reply, conn, call, x.repeat) })
	}
	if x.loseBack && err == nil {
		return status.Error(codes.Unavailable, "the answer was lost")
	}
	return err
}

// again delivers a call once more, when nobody waits for it.
func (m *messages) again(method string, req, reply any, conn *grpc.ClientConn, call grpc.UnaryInvoker, after time.Duration) {
	if sleep(m.ended, after) != nil {
		return
	}
	ctx, cancel := context.WithTimeout(m.ended, 5*time.Second)
	defer cancel()
	_ = call(ctx, method, req, fresh(reply), conn)
}
