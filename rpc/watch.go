package rpc

import (
	"context"
	"errors"
	"io"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/concordat-tx/concordat/rpc/pb"
)

const (
	// watchSilence is how long a watch may hear nothing before another node is
	// tried: nodes send a bookmark every second.
	watchSilence = 4 * time.Second
	// watchPatience is how long a watch goes on without one event before it
	// tells why; a failover takes far less.
	watchPatience = DefaultDeadline
)

// Watch calls f for each event until ctx ends, f returns an error, or the
// cluster refuses to go on; that error is returned. A stream that breaks goes
// on at another node, behind the last event that f has taken: no event is
// missed and none comes twice. Events of kind EXISTING, which have no token,
// are handed over once all of them are there. Bookmarks are handed over too:
// their token is where a later Watch may go on.
//
// EXPIRED says that what happened behind req.Resume has been forgotten in part.
func (c *Client) Watch(ctx context.Context, req *pb.WatchRequest, f func(*pb.WatchEvent) error) error {
	w := &watch{client: c, req: proto.Clone(req).(*pb.WatchRequest), f: f, heard: time.Now()} //nolint:forcetypeassert // Clone keeps the type
	var b retryBackoff
	for {
		addr := c.route.pick()
		err := w.run(ctx, addr)
		if w.failed != nil {
			return w.failed
		}
		if ctx.Err() != nil {
			return FromError(ctx.Err())
		}
		e := FromError(err)
		if w.fresh {
			w.fresh, b = false, retryBackoff{}
		}
		redirected := c.route.failed(addr, e)
		if !w.goesOn(e) || time.Since(w.heard) > watchPatience {
			return e
		}
		// A node may rightly refuse what others serve: the next one is asked.
		c.route.skip(addr)
		if err := b.pause(ctx, e, redirected); err != nil {
			return e
		}
	}
}

// watch is one Watch over all its streams.
type watch struct {
	client *Client
	req    *pb.WatchRequest
	f      func(*pb.WatchEvent) error
	// existing are the events that wait for the first token.
	existing []*pb.WatchEvent
	heard    time.Time
	fresh    bool  // an event came since the last failure
	failed   error // what f returned
}

// goesOn reports whether another node may serve what this error refused. A
// cancelled stream is one that fell silent: ctx has been looked at before.
func (w *watch) goesOn(e *Error) bool {
	return e == nil || e.Retryable() || e.Reason == ReasonCancelled
}

// run follows one stream to its end.
func (w *watch) run(ctx context.Context, addr string) error {
	conn, err := w.client.pool.ready(ctx, addr)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	silence := time.AfterFunc(watchSilence, cancel)
	defer silence.Stop()
	w.existing = nil
	stream, err := pb.NewCoordinatorClient(conn).Watch(ctx, w.req)
	for err == nil {
		var event *pb.WatchEvent
		if event, err = w.next(stream); err == nil {
			silence.Reset(watchSilence)
			err = w.take(event)
		}
	}
	return err
}

func (w *watch) next(stream grpc.ServerStreamingClient[pb.WatchEvent]) (*pb.WatchEvent, error) {
	event, err := stream.Recv()
	if errors.Is(err, io.EOF) {
		return nil, Errorf(ReasonConnectionLost, "the node ended the watch")
	}
	return event, err
}

// take hands an event over and remembers where to go on.
func (w *watch) take(event *pb.WatchEvent) error {
	w.heard, w.fresh = time.Now(), true
	if event.GetToken() == "" {
		w.existing = append(w.existing, event)
		return nil
	}
	for _, e := range append(w.existing, event) {
		if w.failed = w.f(e); w.failed != nil {
			return w.failed
		}
	}
	w.existing = nil
	w.req.Resume, w.req.Existing = event.GetToken(), false
	return nil
}
