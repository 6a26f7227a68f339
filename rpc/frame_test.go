package rpc

import (
	"bytes"
	"slices"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/concordat-tx/concordat/rpc/pb"
)

// anyNumber has the small and the edges of what a varint takes.
var anyNumber = rapid.OneOf(rapid.Uint64(), rapid.SampledFrom([]uint64{0, 1, 127, 128, 1<<63 - 1, 1 << 63, 1<<64 - 1}))

// What is written by hand is what protobuf writes, byte for byte.
func TestCallFrameIsItsMessage(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var byHand, passed []byte
		frame := &pb.CallFrame{}
		for range rapid.IntRange(0, 4).Draw(t, "calls") {
			head := callHead{
				number: anyNumber.Draw(t, "number"), method: rapid.String().Draw(t, "method"),
				timeoutUs: anyNumber.Draw(t, "timeout"), metadata: rapid.SliceOfN(rapid.String(), 0, 4).Draw(t, "metadata"),
			}
			req := &pb.PrepareRequest{Payload: rapid.SliceOf(rapid.Byte()).Draw(t, "payload")}
			body, err := proto.Marshal(req)
			if err != nil {
				t.Fatal(err)
			}
			frame.Calls = append(frame.Calls, &pb.CarriedCall{
				Number: head.number, Method: head.method, Request: body, TimeoutUs: head.timeoutUs, Metadata: head.metadata,
			})
			if byHand, err = appendCall(byHand, &head, req, proto.Size(req)); err != nil {
				t.Fatal(err)
			}
			passed = appendCallBytes(passed, &head, body)
		}
		want, err := proto.MarshalOptions{Deterministic: true}.Marshal(frame)
		if err != nil || !bytes.Equal(byHand, want) || !bytes.Equal(passed, want) {
			t.Fatalf("by hand  %x\npassed on %x\nprotobuf %x, %v", byHand, passed, want, err)
		}
		sameCalls(t, want)
	})
}

func TestAnswerFrameIsItsMessage(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var byHand []byte
		frame := &pb.AnswerFrame{}
		for range rapid.IntRange(0, 4).Draw(t, "answers") {
			number := anyNumber.Draw(t, "number")
			resp := &pb.PrepareResponse{Result: rapid.SliceOf(rapid.Byte()).Draw(t, "result")}
			body, err := proto.Marshal(resp)
			if err != nil {
				t.Fatal(err)
			}
			field, a := answerResponse, &pb.CarriedAnswer{Number: number, Response: body}
			if rapid.Bool().Draw(t, "failed") {
				field, a = answerStatus, &pb.CarriedAnswer{Number: number, Status: body}
			}
			frame.Answers = append(frame.Answers, a)
			if byHand, err = appendAnswer(byHand, number, field, resp, proto.Size(resp)); err != nil {
				t.Fatal(err)
			}
		}
		want, err := proto.MarshalOptions{Deterministic: true}.Marshal(frame)
		if err != nil || !bytes.Equal(byHand, want) {
			t.Fatalf("by hand  %x\nprotobuf %x, %v", byHand, want, err)
		}
		sameAnswers(t, want)
	})
}

// A response that is passed back is the one that came.
func TestAnswerIsPassedBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		number, response := anyNumber.Draw(t, "number"), rapid.SliceOf(rapid.Byte()).Draw(t, "response")
		want, err := proto.MarshalOptions{Deterministic: true}.Marshal(&pb.AnswerFrame{Answers: []*pb.CarriedAnswer{{Number: number, Response: response}}})
		if got := appendAnswerBytes(nil, number, response); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("passed on %x\nprotobuf %x, %v", got, want, err)
		}
	})
}

type failer interface {
	Fatalf(string, ...any)
}

// sameCalls checks that bytes, whatever they are, are read as protobuf reads them.
func sameCalls(t failer, data []byte) {
	frame := &pb.CallFrame{}
	want := proto.Unmarshal(data, frame)
	calls, err := readCalls(data, nil)
	if (want == nil) != (err == nil) {
		t.Fatalf("%x: read with %v, by protobuf with %v", data, err, want)
	}
	if err != nil {
		return
	}
	if len(calls) != len(frame.GetCalls()) {
		t.Fatalf("%x: %d calls, by protobuf %d", data, len(calls), len(frame.GetCalls()))
	}
	for i, w := range frame.GetCalls() {
		c := calls[i]
		if c.number != w.GetNumber() || string(c.method) != w.GetMethod() || !bytes.Equal(c.request, w.GetRequest()) ||
			c.timeoutUs != w.GetTimeoutUs() || !slices.Equal(c.metadata, w.GetMetadata()) {
			t.Fatalf("%x: call %d is %+v, by protobuf %v", data, i, c, w)
		}
	}
}

func sameAnswers(t failer, data []byte) {
	frame := &pb.AnswerFrame{}
	want := proto.Unmarshal(data, frame)
	answers, err := readAnswers(data, nil)
	if (want == nil) != (err == nil) {
		t.Fatalf("%x: read with %v, by protobuf with %v", data, err, want)
	}
	if err != nil {
		return
	}
	if len(answers) != len(frame.GetAnswers()) {
		t.Fatalf("%x: %d answers, by protobuf %d", data, len(answers), len(frame.GetAnswers()))
	}
	for i, w := range frame.GetAnswers() {
		a := answers[i]
		if a.number != w.GetNumber() || !bytes.Equal(a.response, w.GetResponse()) || !bytes.Equal(a.status, w.GetStatus()) {
			t.Fatalf("%x: answer %d is %+v, by protobuf %v", data, i, a, w)
		}
	}
}

// FuzzFrames reads hostile bytes as protobuf does, and nothing worse happens.
func FuzzFrames(f *testing.F) {
	call, err := appendCall(nil, &callHead{number: 7, method: "/a/B", timeoutUs: 9, metadata: []string{"k", "v"}}, &pb.PrepareRequest{Payload: []byte("p")}, 3)
	if err != nil {
		f.Fatal(err)
	}
	answer, err := appendAnswer(nil, 7, answerStatus, &pb.PrepareResponse{Result: []byte("r")}, proto.Size(&pb.PrepareResponse{Result: []byte("r")}))
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range [][]byte{
		call, answer, append(slices.Clone(call), call...), call[:len(call)-1],
		{0x0a}, {0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f}, {0x0a, 0x02, 0x0a, 0x00}, {0x08, 0x01}, {0x0b, 0x0c}, {0x0c},
		{0x0a, 0x03, 0x12, 0x01, 0xff}, {0x0a, 0x02, 0x2a, 0x00},
		protowire.AppendVarint(nil, 1<<32|2), bytes.Repeat([]byte{0x0b}, 20000),
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		sameCalls(t, data)
		sameAnswers(t, data)
	})
}

// A message that changes while it is sent is an error of its own call, and the
// frame stays whole.
func TestFrameAfterAFailure(t *testing.T) {
	_, _, address := serveEcho(t)
	c := dialConn(t, address)
	_, ended, _ := begin(t, c, "fine", 0)
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	failed := make(chan error, 1)
	c.Begin(pb.Participant_Prepare_FullMethodName, &pb.PrepareRequest{Branch: &pb.BranchRef{Id: "\xff"}}, &pb.PrepareResponse{}, 0, func(err error) { failed <- err })
	if err := <-failed; err == nil {
		t.Error("a text that is not UTF-8 was sent")
	}
	_, ended, _ = begin(t, c, "fine", 0)
	if err := <-ended; err != nil {
		t.Errorf("the next call: %v", err)
	}
}

// A stream of hostile bytes ends with an error, and nothing else does.
func TestHostileFrame(t *testing.T) {
	e, _, address := serveEcho(t)
	c := dialConn(t, address)
	_, waits, _ := begin(t, c, "wait", 0)
	await(t, func() bool { return e.underway.Load() == 1 })
	whole, err := appendCall(nil, &callHead{number: 1, method: pb.Participant_Prepare_FullMethodName}, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	before := e.carried.Load()
	stream, err := pb.NewCallsClient(c.ClientConn).Carry(t.Context(), grpc.ForceCodecV2(frameCodec))
	if err != nil {
		t.Fatal(err)
	}
	bytes := append(slices.Clone(whole), whole[:len(whole)-1]...)
	if err := stream.SendMsg(&outFrame{&bytes}); err != nil {
		t.Fatal(err)
	}
	if err := stream.RecvMsg(&inFrame{}); status.Code(err) != codes.InvalidArgument {
		t.Errorf("a frame that is cut off comes to %v", err)
	}
	if n := e.carried.Load() - before; n != 0 {
		t.Errorf("%d calls of a frame that is not whole were served", n)
	}
	close(e.released)
	if err := <-waits; err != nil {
		t.Errorf("a call of another stream: %v", err)
	}
}
