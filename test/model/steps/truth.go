package steps

import (
	"bytes"

	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// truth knows what really happened, and checks that nothing contradicts it.
type truth struct {
	w      *World
	index  uint64 // of the last entry that any node has applied
	led    uint64 // of the last one that a leader has
	lives  map[fsm.Attempt]*life
	order  []*life
	never  map[fsm.Attempt]bool // said never to begin
	ended  map[ended]bool       // where that ended a branch
	ids    map[fsm.Attempt]string
	fresh  map[string]*own   // ids that only one client uses, with since
	hashes map[uint64]string // of the state, at sampled indexes
	byHand int
	reads  []readOf

	commits, aborts, heardCommit, heardAbort int
}

// decision is what an attempt came to.
type decision uint8

const (
	undecided decision = iota
	committed
	aborted
)

func (d decision) String() string { return [...]string{"undecided", "COMMIT", "ABORT"}[d] }

// life is one attempt that began.
type life struct {
	id        string
	attempt   fsm.Attempt
	digest    fsm.Digest
	decision  decision
	finished  bool
	forgotten bool
	gone      uint64 // the index it was forgotten at
	branches  []branch
}

type branch struct {
	party      *party
	digest     fsm.Digest
	vote       fsm.Vote
	committed  int
	rolledBack bool
	byHand     bool // an operator settled it in the database
	gaveUp     bool // an operator gave it up
}

// excused: what becomes of it is the operator's business.
func (b *branch) excused() bool { return b.byHand || b.gaveUp }

// ended is a branch, or a tombstone, of an attempt that never began.
type ended struct {
	attempt fsm.Attempt
	at      *party
}

// own is what is known of an id that one client uses once.
type own struct {
	commits              int
	heardCommit, refused bool
	heardAbort           bool
}

// readOf is a committed read of a list of a length.
type readOf struct {
	party   *party
	attempt fsm.Attempt
	key     uint16
	seen    int
}

func newTruth() *truth {
	return &truth{
		lives: map[fsm.Attempt]*life{}, never: map[fsm.Attempt]bool{}, ended: map[ended]bool{}, ids: map[fsm.Attempt]string{},
		fresh: map[string]*own{}, hashes: map[uint64]string{},
	}
}

const (
	hashEvery    = 128
	restoreEvery = 512
)

// applied watches an entry that a node has applied.
func (t *truth) applied(n *node, index uint64, e *entry, results []fsm.Result) {
	first := index > t.index
	if first {
		t.index = index
	}
	if t.w.raft.leader == n {
		t.led = max(t.led, index)
	}
	for i := range results {
		if rec := results[i].Txn; rec != nil && !rec.Refused {
			t.record(rec, first)
		} else if rec != nil && first && results[i].Rejection == nil {
			t.refused(rec.ID)
		}
		if first && len(e.proposals[i].forgets) > 0 {
			for _, item := range e.proposals[i].forgets {
				if n.machine.Txn(item.GetId()) == nil {
					t.forgotten(item.GetId())
				}
			}
		}
	}
	if index%hashEvery == 0 {
		t.compare(n, index)
	}
}

// compare holds the state against the one that another node had at this index,
// and now and then against its own snapshot, read back.
func (t *truth) compare(n *node, index uint64) {
	var b bytes.Buffer
	if _, err := n.machine.Snapshot().WriteTo(&b); err != nil {
		t.w.fail("a snapshot can be written", "%v", err)
		return
	}
	state := b.String()
	if other, ok := t.hashes[index]; ok && other != state {
		t.w.fail("equal states at equal index", "%s differs at index %d", n.name, index)
	}
	t.hashes[index] = state
	delete(t.hashes, index-32*hashEvery)
	if index%restoreEvery != 0 {
		return
	}
	m, err := fsm.Restore(&b)
	if err != nil {
		t.w.fail("a snapshot can be restored", "index %d: %v", index, err)
		return
	}
	var again bytes.Buffer
	if _, err := m.Snapshot().WriteTo(&again); err != nil || again.String() != state {
		t.w.fail("a restored state is the same", "index %d, error %v", index, err)
	}
}

// record watches a transaction's record.
func (t *truth) record(rec *fsm.Txn, first bool) {
	l := t.lives[rec.Attempt]
	if l == nil {
		l = &life{id: rec.ID, attempt: rec.Attempt, digest: rec.Digest(), branches: make([]branch, len(rec.Branches))}
		for i := range rec.Branches {
			l.branches[i] = branch{party: t.w.party(rec.Branches[i].Participant), digest: rec.Branches[i].Digest}
		}
		t.lives[rec.Attempt] = l
		t.order = append(t.order, l)
		if t.never[rec.Attempt] {
			t.w.fail("P7 inquiry", "attempt %s of %s was said never to begin, and began", rec.Attempt, rec.ID)
		}
	}
	if !rec.State.Decided() {
		return
	}
	d := aborted
	if rec.State.Commit() {
		d = committed
	}
	switch {
	case l.decision == undecided:
		t.decided(l, rec, d)
	case l.decision != d:
		t.w.fail("P4 one decision", "%s of %s was decided %s, and is %s", rec.Attempt, rec.ID, l.decision, d)
	}
	if first && rec.State.Finished() && !l.finished {
		l.finished = true
		t.finish(l, rec)
	}
}

func (t *truth) decided(l *life, rec *fsm.Txn, d decision) {
	l.decision = d
	for i := range l.branches {
		l.branches[i].vote = rec.Branches[i].Vote
	}
	if d == committed {
		t.commits++
	} else {
		t.aborts++
		if t.w.cfg.Profile == Calm && !t.w.manual {
			t.w.fail("P9 failover aborts nothing", "%s of %s aborted: %+v", l.attempt, l.id, rec.Reason)
		}
	}
	o := t.fresh[l.id]
	if o == nil || d != committed {
		return
	}
	if o.commits++; o.commits > 1 {
		t.w.fail("P10 an id runs once", "%s committed %d times", l.id, o.commits)
	}
	if o.heardAbort || o.refused {
		t.w.fail("P10 the client is told the truth", "%s was told ABORT, and committed as %s", l.id, l.attempt)
	}
}

// finish watches a Finish: what is logged as done must be done.
func (t *truth) finish(l *life, rec *fsm.Txn) {
	for i := range l.branches {
		b, s := &l.branches[i], rec.Branches[i].Settled
		switch {
		case b.byHand && !b.gaveUp && (l.decision == committed) != (b.committed > 0) && !s.NeedsOperator():
			t.w.fail("P6 no heuristic is hidden", "%s of %s was settled by hand at %s, and is logged as %s", l.attempt, l.id, b.party.name, pb.Settled(s))
		case b.excused(), b.vote == fsm.VoteReadOnly:
		case s != fsm.SettledDone:
			t.w.fail("P6 no heuristic without an operator", "%s of %s: %s at %s", l.attempt, l.id, pb.Settled(s), b.party.name)
		case l.decision == committed && b.committed == 0:
			t.w.fail("P8 finished means acknowledged", "%s of %s is not committed at %s", l.attempt, l.id, b.party.name)
		case b.party.disk.holds(participant.Ref{ID: l.id, Attempt: l.attempt, Digest: b.digest}):
			t.w.fail("P8 finished means acknowledged", "%s of %s is still prepared at %s", l.attempt, l.id, b.party.name)
		}
	}
}

func (t *truth) refused(id string) {
	if o := t.fresh[id]; o != nil {
		o.refused = true
		if o.commits > 0 {
			t.w.fail("P10 the client is told the truth", "%s was refused after it committed", id)
		}
	}
}

func (t *truth) forgotten(id string) {
	for i := len(t.order) - 1; i >= 0; i-- {
		if l := t.order[i]; l.id == id && l.finished {
			if !l.forgotten {
				t.w.seen[Forgotten]++
				l.forgotten, l.gone = true, t.index
			}
			return
		}
	}
}

// branch is an attempt's branch at p, or nil.
func (t *truth) branch(a fsm.Attempt, p *party) *branch {
	l := t.lives[a]
	if l == nil {
		return nil
	}
	for i := range l.branches {
		if l.branches[i].party == p {
			return &l.branches[i]
		}
	}
	return nil
}
