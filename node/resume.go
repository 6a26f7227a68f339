package node

import (
	"slices"
	"time"

	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/fsm/mutant"
	"github.com/concordat-tx/concordat/node/drive"
)

const (
	// maxOwed is up to how many Commits and Rollbacks may be owed to one participant
	// for another decided transaction to be taken up there: two rounds of them.
	maxOwed = 2 * maxSettling
	// resumePause is how long the start of the others waits for room.
	resumePause = time.Millisecond
)

// resume enters every unfinished transaction (P9), so that whoever asks finds
// it. Nobody works on those that are decided until startResumed takes them up.
func (l *leader) resume() []*flight {
	var live []*fsm.Txn
	l.node.replica.View(func(m *fsm.Machine) { live = m.Live() })
	preparing := 0
	for _, t := range live {
		if t.State == fsm.Preparing {
			preparing++
		}
	}
	l.attempts = drive.NewAttempts(l.node.lastAttempt(l.generation, l.term), live)
	l.node.metrics.tookOver(len(live))
	if mutant.On("no-resume") {
		return nil
	}
	resumed := make([]*flight, len(live))
	for i, t := range live {
		f := newFlight(l, t.ID, t.Digest(), len(t.Branches), 0)
		f.resumed, f.rec, f.attempt = true, t, t.Attempt
		names := make([]string, len(t.Branches))
		for k := range t.Branches {
			f.bytes += len(t.Payload(k))
			names[k] = t.Branches[k].Participant
		}
		l.mu.Lock()
		l.addLocked(f, names)
		l.mu.Unlock()
		if t.State.Decided() {
			f.decided.done = true
			f.setWaiting(true)
		}
		resumed[i] = f
	}
	if len(live) > 0 {
		l.log.Info("resumed unfinished transactions", "count", len(live), "preparing", preparing, "term", l.term)
	}
	return resumed
}

// startResumed gives what was resumed to its drivers: what is not decided at
// once, since its budget runs and others may wait for its locks; what is decided
// as its participants have room. All at once they would keep the processor from
// Raft for so long that this leadership ended, and the next one after it.
func (l *leader) startResumed(resumed []*flight) {
	decided := slices.DeleteFunc(resumed, func(f *flight) bool {
		if f.rec.State.Decided() {
			return false
		}
		f.resume(f.rec)
		if mutant.On("abort-at-takeover") {
			f.tell(event{abort: &fsm.Reason{Message: "there is a new leader"}})
		}
		return true
	})
	q := queues{}
	for _, f := range decided {
		l.startOrQueue(q, f)
	}
	for len(q) > 0 && l.ctx.Err() == nil {
		pause(l.ctx, resumePause)
		for k := range q {
			// No more than there is room for, though some take none because they wait
			// for another participant as well: two that are full would hand all to each other.
			for range k.room() {
				f := q.next(k)
				if f == nil {
					break
				}
				l.startOrQueue(q, f)
			}
		}
	}
}

// queues are the flights that wait to be started, each at a participant that is
// owed too much to take it. The oldest goes first, also if it waited elsewhere
// before: what is finished below (P8) rises with it.
type queues map[*link]*queue

// queue is flights that have a record: two lists, each the oldest first. What has
// waited elsewhere before is older than the last of rest.
type queue struct{ rest, before []*flight }

func older(a, b *flight) int { return a.rec.Attempt.Compare(b.rec.Attempt) }

func (w *queue) len() int { return len(w.rest) + len(w.before) }

// add has f wait for k.
func (q queues) add(k *link, f *flight) {
	w := q[k]
	if w == nil {
		w = &queue{}
		q[k] = w
	}
	if n := len(w.rest); n == 0 || older(w.rest[n-1], f) < 0 {
		w.rest = append(w.rest, f)
		return
	}
	at, _ := slices.BinarySearchFunc(w.before, f, older) // mostly at the end: they come in their order
	w.before = slices.Insert(w.before, at, f)
}

// next takes the oldest out that waits for k, or nil.
func (q queues) next(k *link) (f *flight) {
	w := q[k]
	switch {
	case w == nil || w.len() == 0:
		delete(q, k)
		return nil
	case len(w.rest) == 0 || len(w.before) > 0 && older(w.before[0], w.rest[0]) < 0:
		f, w.before = w.before[0], w.before[1:]
	default:
		f, w.rest = w.rest[0], w.rest[1:]
	}
	return f
}

// room is how many more may be owed to a participant.
func (k *link) room() int { return max(maxOwed-k.owed(), 0) }

// startOrQueue starts a flight, unless a participant of it has no room.
func (l *leader) startOrQueue(q queues, f *flight) {
	for i := range f.legs {
		if k := f.legs[i].link; k.room() == 0 {
			q.add(k, f)
			return
		}
	}
	f.setWaiting(false)
	f.resume(f.rec)
}
