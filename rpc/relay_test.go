package rpc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/concordat-tx/concordat/rpc/pb"
)

// front is a server that asks another one, by what it is asked: as calls that go
// on as they are, or where they can't, by calls of its own.
type front struct {
	pb.UnimplementedParticipantServer
	conn    *Conn
	server  *Server
	address string
	// served counts the calls that did not go on, ended those that did.
	served, ended atomic.Int64

	mu    sync.Mutex // guards what follows
	relay *Relay     // nil: nothing goes on
}

// errMoved is what those are told whose calls an end of the relay ended.
var errMoved = Errorf(ReasonConnectionLost, "moved")

func (f *front) Prepare(ctx context.Context, req *pb.PrepareRequest) (*pb.PrepareResponse, error) {
	f.served.Add(1)
	if who := metadata.ValueFromIncomingContext(ctx, "who"); len(who) > 0 {
		ctx = metadata.AppendToOutgoingContext(ctx, "who", strings.Join(who, "&"))
	}
	return pb.NewParticipantClient(f.conn).Prepare(ctx, req)
}

func (f *front) way() *Relay {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.relay
}

// leads has calls go on. end ends that: calls are served again.
func (f *front) leads() (end func()) {
	over := &atomic.Bool{}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.relay = NewRelay(f.conn, []string{"who", "front"}, func(_ string, err error) error {
		f.ended.Add(1)
		if err != nil && over.Load() {
			return errMoved
		}
		return err
	})
	return func() {
		over.Store(true)
		f.way().End()
	}
}

// idle: nothing is left of any call.
func (f *front) idle() bool {
	r := f.way()
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.ring.next == &r.ring && f.server.carry.all.Load() == 0 && f.conn.carrier.underway.Load() == 0
}

// serveFront serves a front to an echo at address, and dials it.
func serveFront(t testing.TB, address string) (*front, pb.ParticipantClient) {
	t.Helper()
	conn, err := Dial(address, CarryEverything())
	if err != nil {
		t.Fatal(err)
	}
	f := &front{conn: conn}
	f.server = NewServer(ServerOptions{
		Logger: hclog.NewNullLogger(), Relays: map[string]func() *Relay{pb.Participant_Prepare_FullMethodName: f.way},
	})
	pb.RegisterParticipantServer(f.server, f)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() { _ = f.server.Serve(l) })
	f.address = l.Addr().String()
	to, err := Dial(f.address, CarryEverything())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = to.Close()
		f.server.Server.Stop()
		serving.Wait()
		_ = conn.Close()
	})
	return f, pb.NewParticipantClient(to)
}

// relaying is a front by which calls go on.
func relaying(t testing.TB) (*echo, *Server, *front, pb.ParticipantClient) {
	t.Helper()
	e, s, address := serveEcho(t)
	f, c := serveFront(t, address)
	f.leads()
	if _, err := c.Prepare(t.Context(), &pb.PrepareRequest{}); err != nil || f.served.Load() != 1 {
		t.Fatalf("the first call, on a stream that nobody knows yet, is served %d times and comes to %v", f.served.Load(), err)
	}
	return e, s, f, c
}

// Many calls go on, each is answered with what it asked for, and the front reads none.
func TestCallsGoOn(t *testing.T) {
	_, _, f, c := relaying(t)
	var callers sync.WaitGroup
	for n := range 64 {
		callers.Go(func() {
			for i := range 50 {
				payload := fmt.Sprintf("%d/%d/%s", n, i, strings.Repeat("x", i*i*5))
				r, err := c.Prepare(t.Context(), &pb.PrepareRequest{Branch: &pb.BranchRef{Id: payload[:3]}, Payload: []byte(payload)})
				if err != nil || string(r.GetResult()) != payload || r.GetBranch().GetId() != payload[:3] {
					t.Errorf("asked %.20q, was answered %.20q, %v", payload, r.GetResult(), err)
				}
			}
		})
	}
	callers.Wait()
	if served, ended := f.served.Load(), f.ended.Load(); served != 1 || ended != 64*50 {
		t.Errorf("%d calls were served and %d went on", served, ended)
	}
	await(t, f.idle)
}

// What a call that goes on comes to is what it comes to served, and both ends hear of the same.
func TestCallsThatGoOnAreCalls(t *testing.T) {
	for _, on := range []bool{false, true} {
		t.Run(fmt.Sprintf("on=%v", on), func(t *testing.T) {
			e, _, f, c := relaying(t)
			if !on {
				f.relay = nil // nobody asks yet
			}
			ask := func(ctx context.Context, payload string) (string, error) {
				r, err := c.Prepare(ctx, &pb.PrepareRequest{Payload: []byte(payload)})
				return string(r.GetResult()), err
			}
			if r, err := ask(t.Context(), "fine"); r != "fine" || err != nil {
				t.Errorf("%q, %v", r, err)
			}
			_, err := ask(t.Context(), "fail")
			if got := FromError(err); got.Reason != ReasonOverloaded || got.RetryAfter != time.Second || got.Message != "no" {
				t.Errorf("an error came as %v", err)
			}
			if _, err = ask(t.Context(), "panic"); ReasonOf(err) != ReasonInternal {
				t.Errorf("a panic came as %v", err)
			}
			if _, err = ask(t.Context(), "large"); ReasonOf(err) != ReasonInternal {
				t.Errorf("a response larger than allowed came as %v", err)
			}
			if _, err = ask(t.Context(), strings.Repeat("x", MaxRequestBytes-carriedHead)); status.Code(err) != codes.ResourceExhausted {
				t.Errorf("a request larger than allowed came to %v", err)
			}
			if r, err := ask(t.Context(), "metadata"); err != nil || r != map[bool]string{true: "front"}[on] {
				t.Errorf("the metadata came as %q, %v", r, err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			go func() {
				await(t, func() bool { return e.underway.Load() > 0 })
				cancel()
			}()
			if _, err = ask(ctx, "wait"); status.Code(err) != codes.Canceled {
				t.Errorf("a cancelled call comes to %v", err)
			}
			if gone := <-e.gone; !errors.Is(gone, context.Canceled) {
				t.Errorf("who was asked last was told %v", gone)
			}
			if served := f.served.Load(); on != (served == 1) {
				t.Errorf("%d calls were served", served)
			}
			with := metadata.AppendToOutgoingContext(t.Context(), "who", "ann", "who", "bob")
			if r, err := ask(with, "metadata"); r != "ann&bob" || err != nil {
				t.Errorf("what comes with metadata is not served: %q, %v", r, err)
			}
			large := strings.Repeat("x", maxRelayed)
			if r, err := ask(t.Context(), large); r != large || err != nil {
				t.Errorf("what is large comes to %d bytes, %v", len(r), err)
			}
			if on && f.served.Load() != 3 {
				t.Errorf("%d calls were served, not those with metadata and the large one", f.served.Load()-1)
			}
		})
	}
}

// raw is a stream of calls to a front whose caller ends none of them.
type raw struct {
	t      *testing.T
	stream pb.Calls_CarryClient
	cancel context.CancelFunc
}

func openRaw(t *testing.T, f *front) *raw {
	t.Helper()
	conn, err := Dial(f.address)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	stream, err := pb.NewCallsClient(conn).Carry(ctx, grpc.ForceCodecV2(frameCodec))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		_ = conn.Close()
	})
	return &raw{t, stream, cancel}
}

// ask sends calls in one frame; their numbers begin with first.
func (r *raw) ask(first uint64, timeout time.Duration, payloads ...string) {
	r.t.Helper()
	var frame []byte
	for i, payload := range payloads {
		req := &pb.PrepareRequest{Payload: []byte(payload)}
		head := callHead{number: first + uint64(i), method: pb.Participant_Prepare_FullMethodName, timeoutUs: uint64(timeout.Microseconds())}
		frame, _ = appendCall(frame, &head, req, proto.Size(req))
	}
	if err := r.stream.SendMsg(&outFrame{&frame}); err != nil {
		r.t.Fatal(err)
	}
}

// answers reads until it has so many, by number.
func (r *raw) answers(n int) map[uint64]error {
	r.t.Helper()
	got := map[uint64]error{}
	for len(got) < n {
		frame := &inFrame{}
		if err := r.stream.RecvMsg(frame); err != nil {
			r.t.Fatal(err)
		}
		list, err := readAnswers(frame.bytes, nil)
		if err != nil {
			r.t.Fatal(err)
		}
		for i := range list {
			if _, twice := got[list[i].number]; twice {
				r.t.Fatalf("call %d was answered twice", list[i].number)
			}
			got[list[i].number] = settle(&list[i], &pb.PrepareResponse{})
		}
		frame.free()
	}
	return got
}

// A call whose time is over ends, also if neither who asks nor who is asked
// minds; the others go on.
func TestCallsThatGoOnHaveADeadline(t *testing.T) {
	e, _, f, _ := relaying(t)
	r := openRaw(t, f)
	r.ask(1, time.Hour, "deaf", "fine")
	r.ask(3, 40*time.Millisecond, "deaf")
	r.ask(4, 20*time.Millisecond, "deaf", "deaf")
	r.ask(6, 0, "deaf")
	r.ask(7, time.Hour, "deaf")
	got := r.answers(4)
	for number := uint64(2); number <= 5; number++ {
		if err, answered := got[number]; !answered || number == 2 != (err == nil) || err != nil && ReasonOf(err) != ReasonDeadline {
			t.Errorf("call %d came to %v (%v)", number, err, answered)
		}
	}
	close(e.released)
	for number, err := range r.answers(3) {
		if err != nil {
			t.Errorf("call %d came to %v", number, err)
		}
	}
	await(t, f.idle)
	if served := f.served.Load(); served != 1 {
		t.Errorf("%d calls were served", served)
	}
}

// Whose stream ends has its calls ended where they went.
func TestCallsThatGoOnEndWithTheirStream(t *testing.T) {
	e, _, f, _ := relaying(t)
	r := openRaw(t, f)
	r.ask(1, 0, "wait", "wait", "wait")
	await(t, func() bool { return e.underway.Load() == 3 })
	r.cancel()
	for range 3 {
		if gone := <-e.gone; !errors.Is(gone, context.Canceled) {
			t.Errorf("who was asked last was told %v", gone)
		}
	}
	await(t, f.idle)
}

// When another is to be asked, those who wait are told so at once, and the next
// calls are served.
func TestCallsThatGoOnEndWithTheRelay(t *testing.T) {
	e, _, f, c := relaying(t)
	end := f.leads()
	errs := threeWait(t, e, c)
	end()
	for range 3 {
		if err := <-errs; ReasonOf(err) != ReasonConnectionLost || FromError(err).Message != "moved" {
			t.Errorf("a call under way came to %v", err)
		}
		if gone := <-e.gone; !errors.Is(gone, context.Canceled) {
			t.Errorf("who was asked last was told %v", gone)
		}
	}
	if _, err := c.Prepare(t.Context(), &pb.PrepareRequest{}); err != nil || f.served.Load() != 2 {
		t.Errorf("the next call is served %d times and comes to %v", f.served.Load()-1, err)
	}
	await(t, f.idle)
}

// threeWait has three calls under way that wait, and returns what they come to.
func threeWait(t *testing.T, e *echo, c pb.ParticipantClient) chan error {
	t.Helper()
	errs := make(chan error, 3)
	for range 3 {
		go func() {
			_, err := c.Prepare(t.Context(), &pb.PrepareRequest{Payload: []byte("wait")})
			errs <- err
		}()
	}
	await(t, func() bool { return e.underway.Load() == 3 })
	return errs
}

// What is lost on the way is lost to who asked; the next calls are served, until
// there is a stream that is known again.
func TestCallsThatGoOnAreLost(t *testing.T) {
	e, s, f, c := relaying(t)
	errs := threeWait(t, e, c)
	s.Server.Stop()
	for range 3 {
		if err := <-errs; ReasonOf(err) != ReasonConnectionLost {
			t.Errorf("a call under way came to %v", err)
		}
	}
	if _, err := c.Prepare(t.Context(), &pb.PrepareRequest{}); ReasonOf(err) != ReasonConnectionLost || f.served.Load() != 2 {
		t.Errorf("the next call is served %d times and comes to %v", f.served.Load()-1, err)
	}
	await(t, f.idle)
}

// A server that stops in order has what went on answered, and refuses the rest.
func TestStopAnswersWhatWentOn(t *testing.T) {
	e, _, f, c := relaying(t)
	answered := threeWait(t, e, c)
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		Stop(f.server, 10*time.Second)
	}()
	<-f.server.carry.stopping
	close(e.released)
	for range 3 {
		if err := <-answered; err != nil {
			t.Errorf("what was under way came to %v", err)
		}
	}
	<-stopped
	await(t, f.idle)
}

// Whatever ends a call, and if everything does at the same time, it is answered
// once and nothing is left of it.
func TestCallsThatGoOnEndOnce(t *testing.T) {
	e, _, f, c := relaying(t)
	end := f.leads()
	begun := f.ended.Load()
	var callers sync.WaitGroup
	var failed atomic.Int64
	for n := range 32 {
		callers.Go(func() {
			for i := range 60 {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(1+(n*i)%4)*time.Millisecond)
				if n%4 == 0 {
					time.AfterFunc(time.Duration(i%3)*500*time.Microsecond, cancel)
				}
				payload := []string{"fine", "wait", "fail"}[(n+i)%3]
				if _, err := c.Prepare(ctx, &pb.PrepareRequest{Payload: []byte(payload)}); err != nil {
					failed.Add(1)
				}
				cancel()
			}
		})
	}
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		for {
			select {
			case <-e.gone:
			case <-e.released:
				return
			}
		}
	}()
	await(t, func() bool { return f.ended.Load() > begun+200 })
	end()
	end = f.leads()
	callers.Wait()
	await(t, f.idle)
	end()
	close(e.released)
	<-gone
	if failed.Load() == 0 || f.ended.Load() < begun+200 {
		t.Errorf("%d failed of %d", failed.Load(), f.ended.Load())
	}
}

// BenchmarkHop is a call to a server by another one, which has it go on or serves
// it by a call of its own.
func BenchmarkHop(b *testing.B) {
	const callers = 64
	for _, on := range []bool{false, true} {
		b.Run(fmt.Sprintf("on=%v", on), func(b *testing.B) {
			_, _, f, c := relaying(b)
			if !on {
				f.relay = nil // nobody asks yet
			}
			b.ReportAllocs()
			prepareAll(b, c, callers)
		})
	}
}
