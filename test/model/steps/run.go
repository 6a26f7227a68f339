package steps

import (
	"fmt"
	"time"
)

// Report is what a run came to.
type Report struct {
	Config    Config
	Steps     int // all of them
	Healing   int // of them, those after the faults ended
	Virtual   time.Duration
	Hash      uint64
	Begun     int
	Committed int
	Aborted   int
	Submitted int // transactions that clients made
	Told      int // of them, those whose client learned the outcome
	Faults    [faultKinds]int
	Seen      [sights]int
	Violation *Violation // nil: all held
}

// Run runs one world to its end.
func Run(cfg Config) (rep Report) {
	w := newWorld(cfg)
	defer func() {
		if r := recover(); r != nil { // an invariant of fsm, or a defect of the driver
			w.fail("nothing panics", "%v", r)
			panicked(w)
		}
		rep = w.report()
	}()
	w.begin()
	w.newClients()
	w.breakThings()
	w.operate()
	for w.steps < cfg.Steps && w.err == nil {
		w.step()
	}
	if w.err == nil {
		w.settle()
	}
	return rep
}

// panicked writes the line of the event that did not come to its end.
func panicked(w *World) {
	if w.cfg.Trace != nil {
		fmt.Fprintf(w.cfg.Trace, "%7d %12s %v\n", w.steps+1, w.now, w.err)
	}
}

func (w *World) begin() {
	for _, p := range w.parties {
		p.start()
	}
	w.raft.elect(w.nodes[w.rng.IntN(nodeCount)], 0)
	w.register()
}

// settle ends the faults and waits, boundedly, until nothing is left to do.
func (w *World) settle() {
	w.heal()
	began, events := w.steps, 0 // an event that changes nothing is no step, and may come for ever
	for why := w.unsettled(); why != "" && w.err == nil; why = w.unsettled() {
		if events += 200; w.steps-began > maxHealing || events > 10*maxHealing {
			w.fail("everything settles", "not within %d steps after the faults ended: %s", maxHealing, why)
		}
		for range 200 {
			w.step()
		}
	}
	if w.err == nil {
		w.checkEnd()
	}
}

// unsettled says what is left to do, empty if nothing is.
func (w *World) unsettled() string {
	for _, c := range w.clients {
		if c.working {
			return c.name + " waits for an answer about " + c.submit.GetId()
		}
	}
	for _, n := range w.nodes {
		switch {
		case n.machine.Index() != w.raft.last():
			return n.name + " is behind"
		case n.machine.LiveCount() > 0:
			return "unfinished: " + n.machine.Live()[0].ID
		case len(n.machine.NeedsOperator()) > 0:
			return "an operator must see to " + n.machine.NeedsOperator()[0]
		}
	}
	for _, p := range w.parties {
		switch held := p.disk.heldRecords(); {
		case len(held) > 0:
			return fmt.Sprintf("%s holds %s of %s", p.name, held[0].entry.Held.Attempt, held[0].id)
		case p.locks.Held() > 0:
			return p.name + " has locks"
		case len(p.batch) > 0 || len(p.busy) > 0:
			return p.name + " is at work"
		}
	}
	return ""
}

func (w *World) report() Report {
	r := Report{
		Config: w.cfg, Steps: w.steps, Virtual: w.now, Hash: w.hash, Begun: len(w.truth.order),
		Committed: w.truth.commits, Aborted: w.truth.aborts,
		Told: w.truth.heardCommit + w.truth.heardAbort, Faults: w.faults, Seen: w.seen, Violation: w.err,
	}
	r.Healing = max(0, w.steps-w.cfg.Steps)
	for _, c := range w.clients {
		r.Submitted += c.job
	}
	return r
}
