package steps

import (
	"strconv"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/node/drive"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// client runs one transaction after the other, as the SDK does: it makes the
// id, asks for an index (since) and repeats the call by that id, at any node,
// until it is told.
type client struct {
	w    *World
	name string

	job     int    // the transaction under way, counted
	began   uint64 // the index that leaders had applied when it began
	working bool
	gone    bool // it died, or gave up: nobody waits for this one
	fresh   bool // its id is its own
	aborts  bool // it wants to abort
	abortAt time.Duration
	tries   int
	retries int // of other ids, after conflicts
	submit  *pb.SubmitRequest
	content fsm.Digest
	digests []fsm.Digest
	node    *node
}

// idSource makes ids: fresh ones, and those of a pool that are used again,
// often with the same content.
type idSource struct {
	fresh int
	pool  [poolIDs]pooled
}

type pooled struct {
	id   string
	last []*pb.Branch
}

func (w *World) newClients() {
	for i := range w.ids.pool {
		w.ids.pool[i].id = "pool-" + strconv.Itoa(i)
	}
	for i := range clientCount {
		c := &client{w: w, name: "c" + strconv.Itoa(i+1)}
		w.clients = append(w.clients, c)
		c.rest()
	}
}

// rest is the pause before the next transaction.
func (c *client) rest() {
	c.working = false
	c.w.after(c.w.between(0, c.w.odds.rest), ClientActs, c.name, "", func() bool {
		if c.w.healing {
			return false
		}
		c.begin("")
		return true
	})
}

// begin makes a transaction; retryOf names the aborted try of which it is one more.
func (c *client) begin(retryOf string) {
	w := c.w
	c.job++
	c.began, c.working, c.gone, c.aborts, c.tries, c.node = w.truth.led, true, false, false, 0, nil
	if retryOf == "" {
		c.retries = 0
	}
	req := &pb.SubmitRequest{RetryOf: retryOf, Timeout: durationpb.New(w.odds.timeout)}
	if w.odds.hurry && w.rng.IntN(2) == 0 {
		req.Timeout = durationpb.New(300 * time.Millisecond)
	}
	c.fresh = retryOf != "" || w.rng.IntN(10_000) >= w.odds.reuse
	switch {
	case retryOf != "":
		req.Branches = c.submit.GetBranches()
		req.Id = w.freshID()
	case c.fresh:
		req.Branches, req.Id = w.branches(), w.freshID()
	default:
		slot := w.slot()
		if slot.last == nil || w.rng.IntN(8) == 0 {
			slot.last = w.branches()
		}
		req.Id, req.Branches = slot.id, slot.last
		w.happened(IDReused)
	}
	if c.fresh || w.rng.IntN(10_000) >= w.odds.withoutSince {
		since := w.anyIndex()
		req.Since = &since
	}
	c.submit = req
	if c.fresh {
		w.truth.fresh[req.Id] = &own{}
	}
	c.content, c.digests = drive.ContentDigest(req.GetBranches())
	if w.chance(w.odds.abort) {
		w.happened(ClientAborts)
		c.abortAt = w.now + w.between(0, 50*time.Millisecond)
		c.aborts = true
	}
	c.call()
}

// slot is one of the pool. The best is one whose id a participant holds of a
// life that is forgotten: it will be taken over, or be of other content. While
// such a participant cannot be reached, its id waits for that.
func (w *World) slot() (slot *pooled) {
	first := w.rng.IntN(poolIDs)
	for i := range poolIDs {
		s := &w.ids.pool[(first+i)%poolIDs]
		waits := false
		for _, p := range w.parties {
			r := p.disk.journal[s.id]
			if r == nil || r.entry.Held == nil {
				continue
			}
			if l := w.truth.lives[r.entry.Held.Attempt]; l == nil || !l.finished {
				continue
			} else if leader := w.raft.leader; l.forgotten && p.up && leader != nil && w.wire.both(leader.place(), p.place()) {
				return s
			}
			waits = true
		}
		if slot == nil && !waits {
			slot = s
		}
	}
	if slot == nil {
		slot = &w.ids.pool[first]
	}
	return slot
}

func (w *World) freshID() string {
	w.ids.fresh++
	return "t" + strconv.Itoa(w.ids.fresh)
}

// anyIndex is the index that any node hands out.
func (w *World) anyIndex() uint64 {
	if n := w.nodes[w.rng.IntN(nodeCount)]; n.up {
		return n.machine.Index()
	}
	return 0
}

// branches is the work of a transaction: a few keys at one to three participants.
func (w *World) branches() []*pb.Branch {
	first, count := w.rng.IntN(partyCount), 1+w.rng.IntN(partyCount)
	var list []*pb.Branch
	for i := range count {
		payload := []byte{0}
		switch {
		case w.rng.IntN(10_000) < w.odds.no:
			payload[0] = votesNo
		case w.rng.IntN(10_000) < w.odds.readOnly:
			payload[0] = readOnly
		}
		key := w.rng.IntN(w.odds.keysOrOne())
		for range 1 + w.rng.IntN(2) {
			if w.cfg.Profile == Calm { // a key for each transaction: nobody waits for another
				w.ids.fresh++
				key = w.ids.fresh % len(keyNames)
			}
			payload = append(payload, byte(key>>8), byte(key), byte(min(w.rng.IntN(4), 1)))
			key = min(key+1+w.rng.IntN(3), len(keyNames)-1) // ascending, as the KV locks them
		}
		list = append(list, &pb.Branch{Participant: w.parties[(first+i)%partyCount].name, Payload: payload})
	}
	return list
}

func (o odds) keysOrOne() int { return max(o.keys, 1) }

// call makes the next try.
func (c *client) call() {
	w := c.w
	if c.node == nil || !c.node.up || w.rng.IntN(4) == 0 {
		c.node = w.nodes[w.rng.IntN(nodeCount)]
	}
	c.tries++
	r := &request{
		client: c, job: c.job, submit: c.submit, content: c.content, digests: c.digests, open: true,
		completed: w.rng.IntN(4) == 0, abort: c.aborts && w.now >= c.abortAt,
	}
	n, id := c.node, c.submit.GetId()
	wait := w.between(300*time.Millisecond, 2*time.Second)
	if n.up && !w.chance(w.odds.lose) {
		w.after(w.wire.delay(), ClientCall, n.name, id, func() bool {
			if !n.up {
				return false
			}
			n.serve(r)
			return true
		})
	}
	if c.aborts && !r.abort {
		wait = min(wait, c.abortAt-w.now+time.Microsecond)
	}
	if w.chance(w.odds.die) {
		w.happened(ClientDies)
		c.gone = true
		wait = 0
	}
	w.after(wait, ClientEnds, c.name, id, func() bool {
		if !r.open {
			return false
		}
		r.open = false
		c.again(r)
		return true
	})
}

// again goes on after a call that told nothing.
func (c *client) again(r *request) {
	w := c.w
	if r.job != c.job || !c.working {
		return
	}
	if c.gone || c.tries > 30 && !w.healing {
		w.say("gives up")
		c.rest()
		return
	}
	w.after(w.between(time.Millisecond, 30*time.Millisecond), ClientActs, c.name, c.submit.GetId(), func() bool {
		if r.job != c.job || !c.working {
			return false
		}
		c.node = nil
		c.call()
		return true
	})
}

// answered takes an answer, if somebody still waits for it.
func (c *client) answered(r *request, rec *fsm.Txn, err failure, index uint64) bool {
	if r.heard != nil && r.open && rec != nil {
		r.heard(rec)
	}
	if !r.open || r.job != c.job || !c.working {
		return false
	}
	r.open = false
	w := c.w
	switch {
	case err == errExpired, err == errReused, err == errRefused:
		if err == errExpired {
			w.seen[Expired]++
		} else {
			w.seen[Refused]++
		}
		w.say("%s", err)
		c.rest()
		return true
	case err != 0:
		w.say("%s", err)
		c.again(r)
		return true
	}
	w.say("told %s of %s at index %d", rec.State, rec.Attempt, index)
	w.truth.heard(c, rec)
	conflict := rec.Reason != nil && rec.Reason.Code == fsm.ReasonCode(pb.Reason_CONFLICT)
	if conflict && !r.abort && c.retries < 5 && !w.healing {
		c.retries++
		c.begin(c.submit.GetId())
		return true
	}
	c.rest()
	return true
}
