//go:build failpoints

package rpc

import (
	"encoding/binary"
	"sync"

	"golang.org/x/net/http2/hpack"

	"github.com/concordat-tx/concordat/fsm/failpoint"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// HTTP/2, as much as it takes to see messages begin and end (RFC 9113).
const (
	frameHead        = 9
	frameData        = 0
	frameHeaders     = 1
	frameReset       = 3
	frameContinue    = 9
	flagEndStream    = 1
	flagEndHeaders   = 4
	flagPadded       = 8
	flagPriority     = 0x20
	clientPreface    = 24 // bytes that a client sends before its first frame
	hpackTableBudget = 4096
)

// wire follows one connection: which calls are under way on it.
type wire struct {
	mu       sync.Mutex
	requests frames
	answers  frames
	calls    map[uint32]*failpoint.Call // by stream
	carried  map[uint32]*carriedWire    // streams of calls
	decoder  *hpack.Decoder
}

// frames cuts one direction into frames.
type frames struct {
	skip    int
	rest    []byte
	block   []byte          // header block, until it is whole
	ends    bool            // the block's HEADERS frame ends its stream
	started map[uint32]bool // messages of which something has passed
}

func newWire() *wire {
	return &wire{
		requests: frames{skip: clientPreface, started: map[uint32]bool{}},
		answers:  frames{started: map[uint32]bool{}},
		calls:    map[uint32]*failpoint.Call{},
		carried:  map[uint32]*carriedWire{},
		decoder:  hpack.NewDecoder(hpackTableBudget, nil),
	}
}

// feed takes the next bytes of a direction and returns the messages that begin
// and those that end in them.
func (w *wire) feed(p []byte, request bool) (begun, ended []*failpoint.Call) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f := &w.answers
	if request {
		f = &w.requests
	}
	k := min(f.skip, len(p))
	f.skip -= k
	f.rest = append(f.rest, p[k:]...)
	for len(f.rest) >= frameHead {
		size := int(f.rest[0])<<16 | int(f.rest[1])<<8 | int(f.rest[2])
		if len(f.rest) < frameHead+size {
			break
		}
		stream := binary.BigEndian.Uint32(f.rest[5:]) &^ (1 << 31)
		kind, flags, payload := f.rest[3], f.rest[4], f.rest[frameHead:frameHead+size]
		end := w.frame(f, request, kind, flags, stream, payload)
		if c := w.carried[stream]; c != nil && kind == frameData {
			whole := c.feed(request, payload)
			begun, ended = append(begun, whole...), append(ended, whole...)
		}
		if c := w.calls[stream]; c != nil && (kind == frameData || kind == frameHeaders || kind == frameContinue) {
			if !f.started[stream] {
				f.started[stream] = true
				begun = append(begun, c)
			}
			if end {
				ended = append(ended, c)
			}
		}
		// A call that its caller gave up may still be answered.
		if !request && (kind == frameReset || end) {
			delete(w.calls, stream)
			delete(w.carried, stream)
			delete(w.requests.started, stream)
			delete(w.answers.started, stream)
		}
		f.rest = f.rest[frameHead+size:]
	}
	return begun, ended
}

// frame reports whether a frame ends its stream in its direction.
func (w *wire) frame(f *frames, request bool, kind, flags byte, stream uint32, payload []byte) (end bool) {
	switch kind {
	case frameData:
		return flags&flagEndStream != 0
	case frameHeaders:
		if flags&flagPadded != 0 {
			payload = payload[1 : len(payload)-int(payload[0])]
		}
		if flags&flagPriority != 0 {
			payload = payload[5:]
		}
		f.block, f.ends = append(f.block[:0], payload...), flags&flagEndStream != 0
	case frameContinue:
		f.block = append(f.block, payload...)
	default:
		return false
	}
	if flags&flagEndHeaders == 0 {
		return false
	}
	if request {
		w.request(stream, f.block)
	}
	return f.ends
}

// request reads which method a stream calls.
func (w *wire) request(stream uint32, block []byte) {
	fields, err := w.decoder.DecodeFull(block)
	if err != nil {
		panic(err) // then nothing on this connection can be told apart any more
	}
	method, hop := "", false
	for _, h := range fields {
		switch h.Name {
		case ":path":
			method = h.Value
		case hopHeader:
			hop = true
		}
	}
	if method == pb.Calls_Carry_FullMethodName {
		w.carried[stream] = &carriedWire{calls: map[uint64]*failpoint.Call{}}
		return
	}
	w.calls[stream] = mustCall(method, hop)
}
