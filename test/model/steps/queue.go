package steps

import "time"

// event is one thing that will happen. do reports whether it changed anything:
// a timer that nobody waits for any more is no step.
type event struct {
	kind Kind
	who  string
	txn  string
	call *call // of a message, for Replay
	do   func() bool
}

// slot is an event's place: by time, then in the order of their making.
type slot struct {
	at  time.Duration
	seq uint64
	ev  int32
}

func (s slot) before(o slot) bool { return s.at < o.at || s.at == o.at && s.seq < o.seq }

// queue is a binary heap of slots over a slab of events.
type queue struct {
	heap   []slot
	events []event
	free   []int32
	seq    uint64
}

func (q *queue) push(at time.Duration, e event) {
	i := int32(len(q.events))
	if n := len(q.free); n > 0 {
		i, q.free = q.free[n-1], q.free[:n-1]
		q.events[i] = e
	} else {
		q.events = append(q.events, e)
	}
	q.seq++
	q.heap = append(q.heap, slot{at, q.seq, i})
	q.up(len(q.heap) - 1)
}

func (q *queue) pop() (time.Duration, event) { return q.take(0) }

// take removes the slot at place k of the heap.
func (q *queue) take(k int) (time.Duration, event) {
	s, last := q.heap[k], len(q.heap)-1
	q.heap[k] = q.heap[last]
	q.heap = q.heap[:last]
	if k < last {
		q.down(k)
		q.up(k)
	}
	e := q.events[s.ev]
	q.events[s.ev] = event{}
	q.free = append(q.free, s.ev)
	return s.at, e
}

func (q *queue) up(k int) {
	for k > 0 {
		parent := (k - 1) / 2
		if !q.heap[k].before(q.heap[parent]) {
			return
		}
		q.heap[k], q.heap[parent] = q.heap[parent], q.heap[k]
		k = parent
	}
}

func (q *queue) down(k int) {
	for {
		child := 2*k + 1
		if child >= len(q.heap) {
			return
		}
		if child+1 < len(q.heap) && q.heap[child+1].before(q.heap[child]) {
			child++
		}
		if !q.heap[child].before(q.heap[k]) {
			return
		}
		q.heap[k], q.heap[child] = q.heap[child], q.heap[k]
		k = child
	}
}

// find is the place of the earliest event that matches, -1 if none does.
func (q *queue) find(matches func(event) bool) int {
	found := -1
	for k, s := range q.heap {
		if matches(q.events[s.ev]) && (found < 0 || s.before(q.heap[found])) {
			found = k
		}
	}
	return found
}
