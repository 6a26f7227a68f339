package steps

import (
	"time"

	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/fsm/fsmpb"
	"github.com/concordat-tx/concordat/node/drive"
	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// lead is one leadership of a node, as node.leader is: it begins when its
// Establish is applied, and ends when the node learns that it is over.
type lead struct {
	w        *World
	node     *node
	term     uint64
	start    time.Duration
	ready    bool
	ended    bool
	deposed  bool   // Raft knows of a newer term; this may not know it yet
	reach    uint64 // the index known to be committed when it was deposed
	attempts *drive.Attempts
	config   drive.Config

	flights map[string]*flight
	order   []*flight // the same, as they came
	links   [partyCount]link

	queue    []*proposal
	lazy     []*proposal
	flushing bool
	retained drive.Retention
}

const (
	inFlightLimit = 64
	callTimeout   = 2 * time.Second
	slowCall      = time.Second
)

func newLead(n *node, term uint64) *lead {
	l := &lead{w: n.w, node: n, term: term, start: n.clock(), flights: map[string]*flight{}}
	l.config = drive.Config{RetryMin: 20 * time.Millisecond, RetryMax: 2 * time.Second, Jitter: func(d time.Duration) time.Duration {
		return d/2 + time.Duration(n.w.rng.Int64N(int64(d/2+1)))
	}}
	return l
}

// now is the leadership's clock; never 0, which means "not planned".
func (l *lead) now() time.Duration { return l.node.clock() - l.start + 1 }

func (l *lead) machine() *fsm.Machine { return l.node.machine }

// resume gives every unfinished transaction to a driver (P9).
func (l *lead) resume() {
	l.ready = true
	live := l.machine().Live()
	last := fsm.Attempt{Generation: l.machine().Generation(), Term: l.term}
	if l.node.newest.Generation == last.Generation && l.node.newest.Term == last.Term {
		last = l.node.newest // the same term, continued
	}
	l.attempts = drive.NewAttempts(last, live)
	l.w.seen[Resumed] += len(live)
	l.w.say("past its barrier, resumes %d", len(live))
	for _, t := range live {
		f := l.newFlight(t.ID, t.Digest())
		f.decided, f.rec = t.State.Decided(), t
		f.run(t)
		if l.w.has(ResumeAborts) && t.State == fsm.Preparing {
			f.take(f.driver.OnAbort(l.now(), &fsm.Reason{Message: "failover"}))
		}
	}
	l.housekeep()
}

// end is a leadership that the node knows to be over: what is queued is
// refused, everybody else is told that the outcome is not known (P10).
func (l *lead) end() {
	if l.ended {
		return
	}
	l.ended = true
	if l.attempts != nil {
		l.node.newest = l.attempts.Last()
	}
	for _, f := range l.order {
		l.w.seen[FateUnknown]++
		f.fail(errLost)
	}
}

// die is the end of the process: nobody is told anything.
func (l *lead) die() {
	l.ended = true
	for _, f := range l.order {
		f.waiters = nil
	}
}

// propose queues a command; what is queued together shares an entry.
func (l *lead) propose(c *fsmpb.Command, done func(fsm.Result, fate)) {
	l.queue = append(l.queue, l.proposal(c, done))
	l.planFlush(l.w.between(0, 500*time.Microsecond))
}

// proposeLazily queues a command that rides along with the next entry.
func (l *lead) proposeLazily(c *fsmpb.Command, done func(fsm.Result, fate)) {
	l.lazy = append(l.lazy, l.proposal(c, done))
	if len(l.lazy) > 1 {
		return
	}
	l.w.after(20*time.Millisecond, Lazy, l.node.name, "", func() bool {
		if l.ended || len(l.lazy) == 0 {
			return false
		}
		l.flush()
		return true
	})
}

func (l *lead) proposal(c *fsmpb.Command, done func(fsm.Result, fate)) *proposal {
	data, err := fsm.EncodeCommand(c)
	if err != nil {
		panic(err) // all of it is ASCII
	}
	return &proposal{command: data, what: whatOf(c), done: done, forgets: c.GetForget().GetItems()}
}

// whatOf is a command's word in a schedule.
func whatOf(c *fsmpb.Command) string {
	switch {
	case c.GetBegin() != nil:
		return "begin"
	case c.GetDecide().GetCommit():
		return "commit"
	case c.GetDecide() != nil:
		return "abort"
	case c.GetFinish() != nil:
		return "finish"
	case c.GetForget() != nil:
		return "forget"
	}
	return "other"
}

func (l *lead) planFlush(d time.Duration) {
	if l.flushing {
		return
	}
	l.flushing = true
	l.w.after(d, Flush, l.node.name, "", func() bool {
		l.flushing = false
		if l.ended || len(l.queue) == 0 {
			return false
		}
		l.flush()
		return true
	})
}

func (l *lead) flush() {
	proposals := append(l.queue, l.lazy...)
	l.queue, l.lazy = nil, nil
	l.w.raft.append(l, proposals)
}

// refuse tells those who proposed that no log holds it.
func (l *lead) refuse(proposals []*proposal) {
	if l.ended {
		return
	}
	for _, p := range proposals {
		p.done(fsm.Result{}, notApplied)
	}
}

// verify confirms the leadership with a majority, and then tells (P7).
func (l *lead) verify(then func(ok bool)) {
	l.w.after(l.w.between(200*time.Microsecond, 3*time.Millisecond), Verified, l.node.name, "", func() bool {
		r := &l.w.raft
		if l.node.lead != l && l.node.machine == nil { // the process is gone
			return false
		}
		ok := !l.ended && r.leader == l.node && r.term == l.term && l.node.majority()
		if !l.w.chance(200) {
			then(ok)
			return true
		}
		// Confirmed, and then held up.
		life := l.node.life
		l.w.after(l.w.between(0, 500*time.Millisecond), Verified, l.node.name, "", func() bool {
			if l.node.life == life {
				then(ok && !l.ended)
			}
			return l.node.life == life
		})
		return true
	})
}

// floor is what messages carry (P8).
func (l *lead) floor() fsm.Attempt {
	if l.w.has(FloorTooHigh) {
		next := l.attempts.Last()
		next.Sequence++
		return next
	}
	return l.attempts.Floor()
}

// fence heads a message to a participant (P14).
func (l *lead) fence(p *party) *pb.Fence {
	f := &pb.Fence{
		ClusterId: clusterID, Generation: l.machine().Generation(), Term: l.term, Participant: p.name,
		Floor: rpc.AttemptProto(l.floor()), FinishedBelow: rpc.AttemptProto(l.attempts.FinishedBelow()),
	}
	if r := l.machine().Participant(p.name); r != nil {
		f.Incarnation = r.Incarnation
	}
	return f
}

const (
	houseEvery   = 250 * time.Millisecond
	retentionAge = 1500 * time.Millisecond
	forgetBatch  = 64
)

// housekeep lets finished transactions go by a logged command (P8).
func (l *lead) housekeep() {
	l.w.after(houseEvery, Housekeep, l.node.name, "", func() bool {
		if l.ended {
			return false
		}
		l.forget()
		l.housekeep()
		return true
	})
}

func (l *lead) forget() {
	m := l.machine()
	upTo := l.retained.UpTo(l.now(), m.LastFinish(), retentionAge)
	items := m.Forgettable(upTo, l.w.odds.keep, forgetBatch)
	if len(items) == 0 {
		return
	}
	c := &fsmpb.Command{Kind: &fsmpb.Command_Forget{Forget: &fsmpb.Forget{Items: items}}}
	l.proposeLazily(c, func(fsm.Result, fate) {})
}
