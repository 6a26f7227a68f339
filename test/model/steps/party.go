package steps

import (
	"slices"
	"time"

	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/node/drive"
	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/participant/kv"
	"github.com/concordat-tx/concordat/rpc"
)

// party is one participant: a process as participant.Server is, over data as
// kv.Store keeps them.
type party struct {
	w           *World
	i           int
	name        string
	incarnation string
	disk        disk

	up   bool
	life int // of the process
	skew time.Duration

	// Of the process.
	floor   rpc.Attempt // the highest heard
	told    rpc.Attempt // below which all is finished
	rounds  int         // of forgetting
	locks   *kv.Locks
	held    map[string]kv.Branch // the locks of prepared branches
	waiting []*job               // for a lock
	busy    map[string]*turn     // messages at work, by id
	batch   []write
	syncing bool
	doubts  participant.Doubts
	lookAt  time.Duration // of the inquiry loop's timer
	asking  bool
	leader  *node // that answered last
}

// turn is one id at work: its messages go one after the other.
type turn struct {
	at      *job
	next    []*job
	stopped participant.Ref // its Prepares need not begin any more
}

// job is one message at work.
type job struct {
	p        *party
	c        *call // nil: an answered inquiry
	op       drive.Op
	work     participant.Work
	run      func()
	want     kv.Want
	branch   kv.Branch
	keys     []keyUse
	waits    bool // for a lock
	ended    bool // nobody waits for it any more
	executed bool
}

const (
	inquiryDelay = 500 * time.Millisecond
	forgetEvery  = 400 * time.Millisecond
)

func newParty(w *World, i int) *party {
	p := &party{w: w, i: i, name: name("p", i), incarnation: "data-" + name("p", i)}
	p.disk = disk{journal: map[string]*record{}, data: map[uint16][]fsm.Attempt{}}
	return p
}

func (p *party) now() time.Time { return base.Add(p.w.now + p.skew) }

// start is a new process over the data: it holds the locks of its prepared
// branches before it serves, and asks about them.
func (p *party) start() {
	p.up = true
	p.life++
	p.floor, p.told = p.disk.binding.Floor, rpc.Attempt{}
	p.locks, p.held = kv.NewLocks(), map[string]kv.Branch{}
	p.waiting, p.batch, p.syncing, p.asking, p.lookAt = nil, nil, false, false, 0
	p.busy = map[string]*turn{}
	p.doubts = participant.NewDoubts(inquiryDelay)
	for _, r := range p.disk.heldRecords() {
		b := p.locks.Enter(participant.Work{Ref: r.ref(), Priority: r.entry.Held.Priority})
		for _, k := range r.keys {
			if !p.w.has(LocksForgotten) {
				p.locks.Restore(b, k.name(), k.write)
			}
		}
		p.held[r.id] = b
		p.doubts.Add(r.ref(), p.now(), p.now())
	}
	p.planInquiry()
	p.planForget()
}

// crash loses what is not synced.
func (p *party) crash() {
	p.up = false
	p.life++
	p.w.faults[WritesLost] += len(p.batch)
	p.w.say("loses %d writes", len(p.batch))
	p.batch, p.waiting, p.busy, p.syncing = nil, nil, nil, false
	for _, n := range p.w.nodes {
		if n.lead != nil {
			n.lead.breakCalls(p)
		}
	}
}

// receive takes the request of a call.
func (p *party) receive(c *call) bool {
	if !p.up {
		p.w.after(p.w.wire.broken(), CallEnds, c.l.node.name, c.work.ID, func() bool { return c.end(answer{err: errBroken}) })
		return false
	}
	p.w.say("%s of %s", opNames[c.op], c.work.Attempt)
	p.admit(c, func() {
		j := &job{p: p, c: c, op: c.op, work: c.work}
		if c.op != drive.Prepare {
			p.settle(j)
			return
		}
		j.run = func() { p.prepare(j) }
		life := p.life
		p.w.after(c.budget, Budget, p.name, c.work.ID, func() bool {
			if p.life != life || j.ended {
				return false
			}
			return p.give(j)
		})
		p.enter(j)
	})
	return true
}

// admit checks the fence of a message and makes durable what is new in it.
func (p *party) admit(c *call, then func()) {
	if err := participant.CheckFence(p.name, p.incarnation, c.fence); err != nil {
		c.reply(answer{err: err})
		return
	}
	news, err := p.disk.binding.Admit(c.fence, c.op == drive.Prepare)
	switch {
	case err != nil:
		p.w.seen[StaleTerm]++
		c.reply(answer{err: err})
	case news:
		p.write(write{apply: func() {
			if still, _ := p.disk.binding.Admit(c.fence, false); still {
				p.disk.bind(p.disk.binding.Adopt(c.fence, p.floor))
			}
		}, synced: func() { p.admit(c, then) }})
	default:
		p.raiseFloor(rpc.AttemptFrom(c.fence.GetFloor()))
		if below := participant.FinishedBelow(c.fence); p.told.Less(below) {
			p.told = below
		}
		p.doubts.Heard(p.now())
		p.planInquiry()
		then()
	}
}

func (p *party) raiseFloor(floor rpc.Attempt) {
	if p.floor.Less(floor) {
		p.floor = floor
	}
}

// enter lets a message of an id work, after those before it.
func (p *party) enter(j *job) {
	t := p.busy[j.work.ID]
	if t == nil {
		p.busy[j.work.ID] = &turn{at: j}
		j.run()
		return
	}
	t.next = append(t.next, j)
}

// leave ends a message's turn.
func (p *party) leave(j *job) {
	j.ended = true
	t := p.busy[j.work.ID]
	if t == nil || t.at != j {
		return
	}
	if len(t.next) == 0 {
		delete(p.busy, j.work.ID)
		return
	}
	t.at, t.next = t.next[0], t.next[1:]
	t.at.run()
}

// stop ends the Prepares of a branch that a Rollback overtakes: one may be
// waiting for a lock, others are next in line.
func (p *party) stop(ref participant.Ref) {
	t := p.busy[ref.ID]
	if t == nil {
		return
	}
	t.stopped = ref
	if t.at.waits && t.at.work.Ref == ref {
		p.give(t.at)
	}
}

// give gives up a Prepare that waits: its budget ended, or nobody needs it.
func (p *party) give(j *job) bool {
	if t := p.busy[j.work.ID]; t != nil && t.at != j {
		n := len(t.next)
		t.next = slices.DeleteFunc(t.next, func(o *job) bool { return o == j })
		j.ended = true
		return len(t.next) < n
	}
	if !j.waits {
		return false // it is being made durable
	}
	j.waits = false
	p.waiting = slices.DeleteFunc(p.waiting, func(o *job) bool { return o == j })
	_ = j.want.Abandon()
	p.locks.Release(j.branch)
	p.w.say("gives up a prepare of %s", j.work.Attempt)
	p.leave(j)
	p.poll()
	return true
}

// poll goes on with those whose lock has come, or was refused.
func (p *party) poll() {
	for i := 0; i < len(p.waiting); i++ {
		j := p.waiting[i]
		if done, err := j.want.Outcome(); done {
			p.waiting = slices.Delete(p.waiting, i, i+1)
			j.waits = false
			p.locked(j, err)
			i = -1 // it may have served others
		}
	}
}
