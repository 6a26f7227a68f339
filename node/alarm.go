package node

import (
	"container/heap"
	"sync"
	"time"
)

// alarms wake the flights of a leadership. One timer serves all of them: flights
// that begin together end their budgets together, and with a timer each 100,000 of
// them would hold as many, and take as many goroutines at the same moment.
type alarms struct {
	mu     sync.Mutex // guards what follows, and each flight's alarm
	queue  alarmQueue
	timer  *time.Timer
	next   time.Duration // when timer fires; 0: it does not
	waking bool          // somebody wakes those whose time has come
}

// alarm is when a flight is to be woken.
type alarm struct {
	at    time.Duration
	place int // in the queue, from 1; 0: it is not there
}

// set has f woken at that time, and at no other.
func (a *alarms) set(f *flight, at time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	f.alarm.at = at
	if f.alarm.place == 0 {
		heap.Push(&a.queue, f)
	} else {
		heap.Fix(&a.queue, f.alarm.place-1)
	}
	a.wind(f.l)
}

// stop has f not woken any more.
func (a *alarms) stop(f *flight) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if f.alarm.place != 0 {
		heap.Remove(&a.queue, f.alarm.place-1)
	}
}

// wind has the timer fire for the first one. Firing too early does no harm.
func (a *alarms) wind(l *leader) {
	if len(a.queue) == 0 || a.waking || l.ctx.Err() != nil {
		return
	}
	first := a.queue[0].alarm.at
	if a.next != 0 && a.next <= first {
		return
	}
	a.next = first
	if after := max(first-l.now(), 0); a.timer == nil {
		a.timer = time.AfterFunc(after, func() { a.ring(l) })
	} else {
		a.timer.Reset(after)
	}
}

// ring wakes those whose time has come, one after the other.
func (a *alarms) ring(l *leader) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.next = 0
	if a.waking {
		return
	}
	a.waking = true
	for len(a.queue) > 0 && a.queue[0].alarm.at <= l.now() && l.ctx.Err() == nil {
		f := heap.Pop(&a.queue).(*flight)
		a.mu.Unlock()
		f.tell(event{time: true})
		a.mu.Lock()
	}
	a.waking = false
	a.wind(l)
}

// close has nobody woken any more. The leadership's context has ended.
func (a *alarms) close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.timer != nil {
		a.timer.Stop()
	}
}

// alarmQueue is a heap, for package heap: the first one is the earliest.
type alarmQueue []*flight

func (q alarmQueue) Len() int           { return len(q) }
func (q alarmQueue) Less(i, j int) bool { return q[i].alarm.at < q[j].alarm.at }

func (q alarmQueue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].alarm.place, q[j].alarm.place = i+1, j+1
}

// Push and Pop are for package heap.
func (q *alarmQueue) Push(f any) {
	*q = append(*q, f.(*flight))
	f.(*flight).alarm.place = len(*q)
}

// Pop takes the last one out.
func (q *alarmQueue) Pop() any {
	old := *q
	last := len(old) - 1
	f := old[last]
	f.alarm.place, old[last] = 0, nil
	*q = old[:last]
	return f
}
