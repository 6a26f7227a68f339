package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/jsonform"
	"github.com/concordat-tx/concordat/rpc/pb"
)

const (
	// lastEventHeader is where a browser that connects again says what it saw last.
	lastEventHeader = "Last-Event-Id"
	// eventWriteTimeout is how long a reader may take to read what was sent
	// before it is cut off. It resumes where it stood.
	eventWriteTimeout = 10 * time.Second
	// acceptWait is how long a refusal may take to come before the stream counts as begun.
	acceptWait = 500 * time.Millisecond
	// reconnectAfter is when a browser connects again, in milliseconds.
	reconnectAfter = 500
)

// received is one answer of the stream behind.
type received struct {
	event *pb.WatchEvent
	err   error
}

// watch serves GET /v1/transactions:watch as server-sent events: id is the
// token of the event, event its kind, data the event as one line of JSON.
func (g *Gateway) watch(w http.ResponseWriter, r *http.Request, _ map[string]string) {
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(g.ending, cancel)()
	req, _ := callOf(ctx).message.(*pb.WatchRequest)
	if last := strings.Join(r.Header.Values(lastEventHeader), ", "); last != "" {
		if _, err := fsm.ParsePosition(last); err != nil {
			g.fail(w, r, rpc.FieldErrorf(lastEventHeader, "the id of one event", "%s", printable(last)))
			return
		}
		req.Resume, req.Existing = last, false
	}
	s := &sse{w: w, control: http.NewResponseController(w)}
	if err := g.stream(ctx, s, req); err != nil && !errors.Is(r.Context().Err(), context.Canceled) {
		if g.ending.Err() != nil { // whichever way that was noticed
			err = rpc.Errorf(rpc.ReasonShuttingDown, "this node shuts down; go on at another one with the id of the last event")
		}
		if s.begun {
			s.end(err)
			return
		}
		g.fail(w, r, err)
	}
}

// stream hands events on until the stream behind ends, or nobody reads any more.
func (g *Gateway) stream(ctx context.Context, s *sse, req *pb.WatchRequest) error {
	ctx, cancel := context.WithCancel(ctx)
	behind, err := pb.NewCoordinatorClient(g.conn).Watch(ctx, req)
	if err != nil {
		cancel()
		return err
	}
	events := make(chan received)
	var pumping sync.WaitGroup
	pumping.Go(func() { pump(ctx, behind, events) })
	defer pumping.Wait()
	defer cancel()
	heartbeat := time.NewTicker(g.cfg.Heartbeat)
	defer heartbeat.Stop()
	accept := time.NewTimer(acceptWait)
	defer accept.Stop()
	for err == nil {
		select {
		case got := <-events:
			if err = got.err; err == nil {
				err = s.event(got.event)
			}
		case <-accept.C:
			err = s.begin()
		case <-heartbeat.C:
			err = s.comment("alive")
		case <-ctx.Done():
			err = ctx.Err()
		}
	}
	return err
}

// pump hands on what the stream receives, its end included.
func pump(ctx context.Context, stream grpc.ServerStreamingClient[pb.WatchEvent], events chan<- received) {
	for {
		event, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			err = rpc.Errorf(rpc.ReasonConnectionLost, "the node ended the watch")
		}
		select {
		case events <- received{event, err}:
		case <-ctx.Done():
			return
		}
		if err != nil {
			return
		}
	}
}

// sse writes server-sent events.
type sse struct {
	w       http.ResponseWriter
	control *http.ResponseController
	begun   bool
}

// begin sends the head, once.
func (s *sse) begin() error {
	if s.begun {
		return nil
	}
	s.begun = true
	s.w.Header().Set("Content-Type", "text/event-stream")
	s.w.Header().Set("X-Accel-Buffering", "no") // for proxies that would hold events back
	s.w.WriteHeader(http.StatusOK)
	return s.send(fmt.Sprintf("retry: %d\n\n", reconnectAfter))
}

func (s *sse) send(text string) error {
	if err := s.control.SetWriteDeadline(time.Now().Add(eventWriteTimeout)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	if _, err := io.WriteString(s.w, text); err != nil {
		return err
	}
	return s.control.Flush()
}

func (s *sse) event(e *pb.WatchEvent) error {
	o, err := jsonform.Of(e)
	if err != nil {
		return err
	}
	line, err := o.Line()
	if err != nil {
		return err
	}
	if err := s.begin(); err != nil {
		return err
	}
	id := ""
	if e.GetToken() != "" { // a stream that breaks before the first token starts over
		id = "id: " + e.GetToken() + "\n"
	}
	return s.send(fmt.Sprintf("%sevent: %s\ndata: %s\n", id, strings.ToLower(e.GetKind().String()), line))
}

func (s *sse) comment(text string) error {
	if err := s.begin(); err != nil {
		return err
	}
	return s.send(": " + text + "\n\n")
}

// end says why there is no more. Whoever left does not read it.
func (s *sse) end(err error) {
	if s.begin() != nil {
		return
	}
	line, encodeErr := jsonform.Object{"error": newWireError(rpc.FromError(err))}.Line()
	if encodeErr == nil {
		_ = s.send(fmt.Sprintf("event: error\ndata: %s\n", line))
	}
}
