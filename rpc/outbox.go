package rpc

import (
	"runtime"
	"sync"

	"google.golang.org/grpc/mem"
)

const (
	// carriedFrame is about how much one frame of calls or answers holds: enough
	// to share its cost among many, little enough for none to wait long for it.
	carriedFrame = 256 << 10
	// smallFrame is what a frame's buffer begins with, largeFrame is one that is
	// too rare to keep.
	smallFrame = 4 << 10
	largeFrame = carriedFrame + smallFrame
)

// outbox gathers what goes into the next frame while the last one is sent.
type outbox struct {
	ready chan struct{} // 1-slot

	mu     sync.Mutex
	frames []*[]byte     // the last one is being filled
	room   chan struct{} // closed when there are fewer than fullOutbox again; nil: nobody waits
}

// fullOutbox is how many frames wait when nothing more should be asked for.
const fullOutbox = 64

func (o *outbox) init() { o.ready = make(chan struct{}, 1) }

// hasRoom is closed when less than fullOutbox frames wait.
func (o *outbox) hasRoom() <-chan struct{} {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.frames) < fullOutbox {
		return empty
	}
	if o.room == nil {
		o.room = make(chan struct{})
	}
	return o.room
}

// empty is the room of an outbox that has some: a channel that is closed.
var empty = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

// open is the frame to append size bytes to, until close, or add.
func (o *outbox) open(size int) *[]byte {
	o.mu.Lock()
	if n := len(o.frames); n > 0 {
		if last := o.frames[n-1]; len(*last) == 0 || len(*last)+size <= carriedFrame {
			return last
		}
	}
	frame := framePool.Get(smallFrame)
	o.frames = append(o.frames, frame)
	return frame
}

func (o *outbox) close() {
	o.add()
	o.tell()
}

// add ends what open began, where more is added at once: then somebody must tell.
func (o *outbox) add() { o.mu.Unlock() }

// tell has what was added sent.
func (o *outbox) tell() {
	select {
	case o.ready <- struct{}{}:
	default:
	}
}

// take waits for a frame; false is the end, when there is none any more.
func (o *outbox) take(over <-chan struct{}) (frame *[]byte, ok bool) {
	for {
		select {
		case <-o.ready:
		case <-over:
			frame := o.first()
			return frame, frame != nil
		}
		runtime.Gosched() // whoever can run now may have something for the same frame
		if frame := o.first(); frame != nil {
			return frame, true
		}
	}
}

// first takes the first frame; nil if nothing is in any.
func (o *outbox) first() *[]byte {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.frames) == 0 || len(*o.frames[0]) == 0 { // what was to be added failed
		return nil
	}
	frame := o.frames[0]
	o.frames = o.frames[1:]
	if o.room != nil && len(o.frames) < fullOutbox {
		close(o.room)
		o.room = nil
	}
	if len(o.frames) == 0 {
		o.frames = nil
		return frame
	}
	select {
	case o.ready <- struct{}{}:
	default:
	}
	return frame
}

// framePool keeps the buffers of frames.
var framePool mem.BufferPool = &framesPool{}

type framesPool struct{ pool sync.Pool }

// Get is an empty buffer with room for size bytes.
func (p *framesPool) Get(size int) *[]byte {
	if b, ok := p.pool.Get().(*[]byte); ok && cap(*b) >= size {
		*b = (*b)[:0]
		return b
	}
	b := make([]byte, 0, size)
	return &b
}

// Put keeps a buffer unless it is a large one.
func (p *framesPool) Put(b *[]byte) {
	if cap(*b) <= largeFrame {
		p.pool.Put(b)
	}
}
