package rpc

import (
	"errors"
	"fmt"
	"sync/atomic"
	"unicode/utf8"

	"google.golang.org/grpc/encoding"
	grpcproto "google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// The frames of Calls.Carry are written and read by hand, so that what they carry
// is serialized once, straight into the frame, and read out of it in place.
// On the wire they are what calls.proto says. The numbers of its fields:
const (
	frameItems protowire.Number = 1 // CallFrame.calls, AnswerFrame.answers

	callNumber   protowire.Number = 1
	callMethod   protowire.Number = 2
	callRequest  protowire.Number = 3
	callTimeout  protowire.Number = 4
	callMetadata protowire.Number = 5

	answerNumber   protowire.Number = 1
	answerResponse protowire.Number = 2
	answerStatus   protowire.Number = 3
)

// carriedCall is a CarriedCall; its bytes are of the frame that it came in.
type carriedCall struct {
	number    uint64
	method    []byte
	request   []byte
	timeoutUs uint64
	metadata  []string
}

// carriedAnswer is a CarriedAnswer; its bytes are of the frame that it came in.
type carriedAnswer struct {
	number   uint64
	response []byte
	status   []byte
}

// callHead is a call without its request.
type callHead struct {
	number    uint64
	method    string
	timeoutUs uint64
	metadata  []string
}

// size is that of the call within its item; of the request bytes are known.
func (c *callHead) size(request int) int {
	n := sizeVarint(callNumber, c.number) + sizeBytes(callMethod, len(c.method)) + sizeBytes(callRequest, request) + sizeVarint(callTimeout, c.timeoutUs)
	for _, s := range c.metadata {
		n += protowire.SizeTag(callMetadata) + protowire.SizeBytes(len(s))
	}
	return n
}

// appendCall appends a call with a request, whose size has just been taken, as
// an item of a frame. nil is no request.
func appendCall(b []byte, c *callHead, request proto.Message, size int) ([]byte, error) {
	b, err := appendMessage(c.appendBefore(b, size), callRequest, request, size)
	return c.appendAfter(b), err
}

// appendCallBytes appends a call whose request is serialized.
func appendCallBytes(b []byte, c *callHead, request []byte) []byte {
	return c.appendAfter(appendBytes(c.appendBefore(b, len(request)), callRequest, request))
}

// appendBefore appends what stands before the request, which has size bytes.
func (c *callHead) appendBefore(b []byte, size int) []byte {
	b = appendVarint(appendItem(b, c.size(size)), callNumber, c.number)
	if c.method != "" {
		b = protowire.AppendString(protowire.AppendTag(b, callMethod, protowire.BytesType), c.method)
	}
	return b
}

func (c *callHead) appendAfter(b []byte) []byte {
	b = appendVarint(b, callTimeout, c.timeoutUs)
	for _, s := range c.metadata {
		b = protowire.AppendString(protowire.AppendTag(b, callMetadata, protowire.BytesType), s)
	}
	return b
}

// appendAnswer appends an answer, a response or a status, as an item of a frame.
func appendAnswer(b []byte, number uint64, field protowire.Number, message proto.Message, size int) ([]byte, error) {
	return appendMessage(appendAnswerHead(b, number, field, size), field, message, size)
}

// appendAnswerBytes appends an answer whose response is serialized.
func appendAnswerBytes(b []byte, number uint64, response []byte) []byte {
	return appendBytes(appendAnswerHead(b, number, answerResponse, len(response)), answerResponse, response)
}

func appendAnswerHead(b []byte, number uint64, field protowire.Number, size int) []byte {
	b = appendItem(b, sizeVarint(answerNumber, number)+sizeBytes(field, size))
	return appendVarint(b, answerNumber, number)
}

func appendItem(b []byte, size int) []byte {
	return protowire.AppendVarint(protowire.AppendTag(b, frameItems, protowire.BytesType), uint64(size))
}

// appendMessage appends a message that has size bytes: proto.Size of it was just called.
func appendMessage(b []byte, field protowire.Number, message proto.Message, size int) ([]byte, error) {
	if size == 0 {
		return b, nil
	}
	b = protowire.AppendVarint(protowire.AppendTag(b, field, protowire.BytesType), uint64(size))
	start := len(b)
	b, err := proto.MarshalOptions{UseCachedSize: true}.MarshalAppend(b, message)
	if err == nil && len(b)-start != size {
		err = fmt.Errorf("a message of %d bytes came to %d: it was changed meanwhile", size, len(b)-start)
	}
	return b, err
}

func appendBytes(b []byte, field protowire.Number, v []byte) []byte {
	if len(v) == 0 {
		return b
	}
	return protowire.AppendBytes(protowire.AppendTag(b, field, protowire.BytesType), v)
}

func appendVarint(b []byte, field protowire.Number, v uint64) []byte {
	if v == 0 {
		return b
	}
	return protowire.AppendVarint(protowire.AppendTag(b, field, protowire.VarintType), v)
}

func sizeVarint(field protowire.Number, v uint64) int {
	if v == 0 {
		return 0
	}
	return protowire.SizeTag(field) + protowire.SizeVarint(v)
}

func sizeBytes(field protowire.Number, n int) int {
	if n == 0 {
		return 0
	}
	return protowire.SizeTag(field) + protowire.SizeBytes(n)
}

// readCalls appends the calls of a CallFrame to calls.
func readCalls(frame []byte, calls []carriedCall) ([]carriedCall, error) {
	err := readFields(frame, func(field protowire.Number, item []byte, _ uint64) error {
		if field != frameItems || item == nil {
			return nil
		}
		call, err := readCall(item)
		calls = append(calls, call)
		return err
	})
	return calls, err
}

func readCall(item []byte) (c carriedCall, err error) {
	err = readFields(item, func(field protowire.Number, bytes []byte, v uint64) error {
		switch {
		case field == callNumber && bytes == nil:
			c.number = v
		case field == callMethod && bytes != nil:
			c.method = bytes
			return checkText(bytes)
		case field == callRequest && bytes != nil:
			c.request = bytes
		case field == callTimeout && bytes == nil:
			c.timeoutUs = v
		case field == callMetadata && bytes != nil:
			c.metadata = append(c.metadata, string(bytes))
			return checkText(bytes)
		}
		return nil
	})
	return c, err
}

// readAnswers appends the answers of an AnswerFrame to answers.
func readAnswers(frame []byte, answers []carriedAnswer) ([]carriedAnswer, error) {
	err := readFields(frame, func(field protowire.Number, item []byte, _ uint64) error {
		if field != frameItems || item == nil {
			return nil
		}
		a := carriedAnswer{}
		err := readFields(item, func(field protowire.Number, bytes []byte, v uint64) error {
			switch {
			case field == answerNumber && bytes == nil:
				a.number = v
			case field == answerResponse && bytes != nil:
				a.response = bytes
			case field == answerStatus && bytes != nil:
				a.status = bytes
			}
			return nil
		})
		answers = append(answers, a)
		return err
	})
	return answers, err
}

// readFields calls each for the fields of a message that are varints (then bytes
// is nil) or bytes (then it is not); it passes over the others.
func readFields(message []byte, each func(field protowire.Number, bytes []byte, v uint64) error) error {
	for len(message) > 0 {
		field, kind, n := protowire.ConsumeTag(message)
		if n < 0 {
			return protowire.ParseError(n)
		}
		if field > protowire.MaxValidNumber {
			return errFieldNumber
		}
		message = message[n:]
		var bytes []byte
		var v uint64
		switch kind {
		case protowire.VarintType:
			v, n = protowire.ConsumeVarint(message)
		case protowire.BytesType:
			bytes, n = protowire.ConsumeBytes(message)
		default:
			if n = protowire.ConsumeFieldValue(field, kind, message); n >= 0 {
				message = message[n:]
				continue
			}
		}
		if n < 0 {
			return protowire.ParseError(n)
		}
		message = message[n:]
		if err := each(field, bytes, v); err != nil {
			return err
		}
	}
	return nil
}

var (
	errFieldNumber = errors.New("a field's number is out of range")
	errText        = errors.New("a text is not UTF-8")
)

func checkText(b []byte) error {
	if !utf8.Valid(b) {
		return errText
	}
	return nil
}

// outFrame is a frame to send; whoever sends it gives its bytes back to framePool.
type outFrame struct{ bytes *[]byte }

// inFrame is a frame that was received.
type inFrame struct {
	bytes   []byte
	buf     mem.Buffer
	readers atomic.Int64 // who still need its bytes
}

// free is called by each of the readers; the last one gives the bytes back.
func (f *inFrame) free() {
	if f.readers.Add(-1) == 0 {
		f.bytes = nil
		f.buf.Free()
	}
}

// framesCodec is gRPC's codec for messages, and passes frames through as they are.
type framesCodec struct{ encoding.CodecV2 }

var frameCodec = framesCodec{encoding.GetCodecV2(grpcproto.Name)}

func (c framesCodec) Marshal(v any) (mem.BufferSlice, error) {
	if f, ok := v.(*outFrame); ok {
		return mem.BufferSlice{mem.NewBuffer(f.bytes, framePool)}, nil
	}
	return c.CodecV2.Marshal(v)
}

func (c framesCodec) Unmarshal(data mem.BufferSlice, v any) error {
	if f, ok := v.(*inFrame); ok {
		f.buf = data.MaterializeToBuffer(mem.DefaultBufferPool())
		f.bytes = f.buf.ReadOnlyData()
		f.readers.Store(1)
		return nil
	}
	return c.CodecV2.Unmarshal(data, v)
}
