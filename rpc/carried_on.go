//go:build failpoints

package rpc

import (
	"encoding/binary"
	"os"

	"google.golang.org/protobuf/proto"

	"github.com/concordat-tx/concordat/fsm/failpoint"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// carryVariable is "always" to have every call carried, also one that is alone, and
// "never" to have none, so that each message is by itself on the wire.
const carryVariable = "CONCORDAT_CARRY"

func carriesNothing() bool { return os.Getenv(carryVariable) == "never" }

func carriedFrom() int64 {
	if os.Getenv(carryVariable) == "always" {
		return 0
	}
	return carriedAlone
}

// carriedWire sees the calls within a stream of calls: which messages are whole
// in what has passed of each direction.
type carriedWire struct {
	requests, answers []byte                     // what is not a whole message yet
	calls             map[uint64]*failpoint.Call // by number
}

// messagePrefix leads a message in its stream: a flag and the length (gRPC over HTTP/2).
const messagePrefix = 5

// feed takes the payload of a DATA frame and returns the calls whose request, or
// answer, it makes whole.
func (c *carriedWire) feed(request bool, data []byte) (whole []*failpoint.Call) {
	rest := &c.answers
	if request {
		rest = &c.requests
	}
	*rest = append(*rest, data...)
	for len(*rest) >= messagePrefix {
		size := messagePrefix + int(binary.BigEndian.Uint32((*rest)[1:]))
		if len(*rest) < size {
			break
		}
		if request {
			whole = append(whole, c.asked((*rest)[messagePrefix:size])...)
		} else {
			whole = append(whole, c.answered((*rest)[messagePrefix:size])...)
		}
		*rest = (*rest)[size:]
	}
	return whole
}

func (c *carriedWire) asked(message []byte) (list []*failpoint.Call) {
	frame := &pb.CallFrame{}
	if err := proto.Unmarshal(message, frame); err != nil {
		panic(err) // then nothing on this stream can be told apart any more
	}
	for _, call := range frame.GetCalls() {
		if call.GetMethod() == "" {
			continue
		}
		hop := false
		for i := 0; i < len(call.GetMetadata()); i += 2 {
			hop = hop || call.GetMetadata()[i] == hopHeader
		}
		c.calls[call.GetNumber()] = mustCall(call.GetMethod(), hop)
		list = append(list, c.calls[call.GetNumber()])
	}
	return list
}

func (c *carriedWire) answered(message []byte) (list []*failpoint.Call) {
	frame := &pb.AnswerFrame{}
	if err := proto.Unmarshal(message, frame); err != nil {
		panic(err)
	}
	for _, a := range frame.GetAnswers() {
		if call := c.calls[a.GetNumber()]; call != nil {
			delete(c.calls, a.GetNumber())
			list = append(list, call)
		}
	}
	return list
}
