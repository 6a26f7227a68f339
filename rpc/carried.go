package rpc

import (
	"context"
	"io"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/concordat-tx/concordat/rpc/pb"
)

// carried is one stream and the calls on it.
type carried struct {
	of    *carrier
	out   outbox
	over  chan struct{} // closed when the stream has ended, after err
	heard atomic.Bool   // an answer, so the server knows Carry

	mu      sync.Mutex // guards what follows
	last    uint64
	waiting map[uint64]waiter // whoever takes one out answers it
	err     error
}

func (c *carrier) newCarried(cc *grpc.ClientConn) *carried {
	s := &carried{of: c, over: make(chan struct{}), waiting: map[uint64]waiter{}}
	s.out.init()
	go s.run(cc)
	return s
}

// run sends and receives until either fails. It ends with the connection.
func (s *carried) run(cc *grpc.ClientConn) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	stream, err := pb.NewCallsClient(cc).Carry(ctx, grpc.ForceCodecV2(frameCodec))
	if err == nil {
		sent := make(chan struct{})
		go func() {
			defer close(sent)
			s.send(stream, s.over)
		}()
		err = s.receive(stream)
		s.end(err)
		cancel()
		<-sent
		return
	}
	s.end(err)
}

func (s *carried) send(stream grpc.ClientStream, over <-chan struct{}) {
	for {
		frame, ok := s.out.take(over)
		if !ok {
			return
		}
		if err := stream.SendMsg(&outFrame{frame}); err != nil {
			return // what it was for, the receiver learns
		}
	}
}

func (s *carried) receive(stream grpc.ClientStream) error {
	var answers []carriedAnswer
	var back telling
	for {
		frame := &inFrame{}
		err := stream.RecvMsg(frame)
		if err == nil {
			answers, err = readAnswers(frame.bytes, answers[:0])
		}
		if err != nil {
			if err == io.EOF {
				err = status.Error(codes.Unavailable, "the server ended the stream of calls")
			}
			return err
		}
		s.heard.Store(true)
		for i := range answers {
			w := s.take(answers[i].number)
			if w == nil {
				continue
			}
			w.answered(&answers[i], nil)
			if r, ok := w.(*relayed); ok {
				back.turn(&r.from.out)
			}
		}
		back.turn(nil)
		frame.free()
	}
}

// ask puts a call on the stream.
func (s *carried) ask(call callHead, req proto.Message, w waiter) (number uint64, err error) {
	size := proto.Size(req)
	if size > MaxRequestBytes-carriedHead {
		return 0, status.Errorf(codes.ResourceExhausted, "the request has %d bytes, at most %d are allowed", size, MaxRequestBytes-carriedHead)
	}
	if call.number, err = s.enlist(w); err != nil {
		return 0, err
	}
	frame := s.out.open(size)
	before := len(*frame)
	*frame, err = appendCall(*frame, &call, req, size)
	if err != nil {
		*frame = (*frame)[:before]
	}
	s.out.close()
	if err != nil && s.take(call.number) != nil {
		return 0, status.Error(codes.Internal, err.Error())
	}
	return call.number, nil
}

// enlist has w wait for an answer.
func (s *carried) enlist(w waiter) (number uint64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return 0, s.err
	}
	s.last++
	s.waiting[s.last] = w
	return s.last, nil
}

// pass adds a call whose request is serialized to the next frame; to tell is up
// to the caller.
func (s *carried) pass(call callHead, request []byte, w waiter) (number uint64, err error) {
	if call.number, err = s.enlist(w); err != nil {
		return 0, err
	}
	frame := s.out.open(call.size(len(request)))
	*frame = appendCallBytes(*frame, &call, request)
	s.out.add()
	return call.number, nil
}

// take is who waits for an answer; nil if nobody does any more.
func (s *carried) take(number uint64) waiter {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := s.waiting[number]
	delete(s.waiting, number)
	return w
}

// forget tells the server that nobody waits any more, and returns who did.
func (s *carried) forget(number uint64) waiter {
	w := s.take(number)
	if w != nil {
		frame := s.out.open(0)
		*frame, _ = appendCall(*frame, &callHead{number: number}, nil, 0)
		s.out.close()
	}
	return w
}

// end answers the calls that are left as when a connection is lost. A server that
// does not know Carry has seen none of them.
func (s *carried) end(err error) {
	s.mu.Lock()
	if status.Code(err) == codes.Unimplemented && !s.heard.Load() {
		err = errNotCarried
		s.of.plain.Store(true)
	} else {
		err = status.Error(codes.Unavailable, status.Convert(err).Message())
	}
	s.err = err
	left := s.waiting
	s.waiting = nil
	s.mu.Unlock()
	close(s.over)
	for _, w := range left {
		w.answered(nil, err)
	}
}

func (s *carried) ended() bool {
	select {
	case <-s.over:
		return true
	default:
		return false
	}
}
