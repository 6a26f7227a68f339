package node

import (
	"time"

	"github.com/concordat-tx/concordat/fsm"
)

// established notes that a leadership begins to serve.
func (m *metrics) established() {
	m.leaderships.Inc()
	m.establishedAt.Set(float64(time.Now().UnixNano()) / 1e9)
	m.leading.Set(1)
}

// deposed notes its end: what only a leader knows is not known any more.
func (m *metrics) deposed() {
	m.leading.Set(0)
	m.watched(0, 0, 0)
}

// tookOver notes what a leadership resumes, resumedSettled that one of them is finished.
func (m *metrics) tookOver(unfinished int) {
	m.resumed.Set(float64(unfinished))
	m.resumedOpen.Set(float64(unfinished))
	m.resumedSeconds.Set(0)
}

func (m *metrics) resumedSettled(after time.Duration) {
	m.resumedOpen.Dec()
	m.resumedSeconds.Set(after.Seconds())
}

func (m *metrics) watched(preparing, inDoubt int, oldest time.Duration) {
	m.preparing.Set(float64(preparing))
	m.inDoubt.Set(float64(inDoubt))
	m.oldest.Set(oldest.Seconds())
}

func (l *leader) observeDecided(f *flight, rec *fsm.Txn) {
	o := l.node.metrics.byOutcome[outcomeOf(rec.State)]
	if o == nil {
		return // not decided, so there is nothing to count
	}
	code := 0
	if rec.Reason != nil && int(rec.Reason.Code) < len(o.reasons) {
		code = int(rec.Reason.Code)
	}
	o.reasons[code].Inc()
	o.decided.Observe(f.age().Seconds())
	f.phaseEnded(l.node.metrics.phases.decide)
}

func (l *leader) observeCompleted(f *flight, rec *fsm.Txn) {
	if o := l.node.metrics.byOutcome[outcomeOf(rec.State)]; o != nil {
		o.completed.Observe(f.age().Seconds())
		f.phaseEnded(l.node.metrics.phases.complete)
	}
}

// observeVote counts a vote that was heard from one of k's branches.
func (k *link) observeVote(ev event) {
	if vote := int(ev.answer.Vote); ev.err == nil && vote > 0 && vote < len(k.meters.votes) {
		k.meters.votes[vote].Inc()
	}
}

// phaseEnded measures the phase that a flight was in and begins the next.
func (f *flight) phaseEnded(into interface{ Observe(float64) }) {
	after := f.age()
	into.Observe((after - f.phaseAfter).Seconds())
	f.phaseAfter = after
}
