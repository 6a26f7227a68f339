package http

import (
	"context"
	"fmt"
	nethttp "net/http"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// fate of one attempt in a cluster that keeps to the protocol.
type fate struct {
	work     participant.Work
	prepared bool // it has voted so
	commit   bool // decided
	abort    bool // decided, or never begun
	settled  bool // acknowledged
}

// play sends messages of one id in any order and any number, loses calls of
// the service and answers to them, and kills the agent.
type play struct {
	*rapid.T
	t       *testing.T
	s       *service
	a       *agent
	fates   []*fate
	pending atomic.Int64 // calls that the service will lose
	lost    int
}

func (p *play) any() *fate { return rapid.SampledFrom(p.fates).Draw(p.T, "attempt") }

// begin is a new attempt. The one before it was settled, or never began.
func (p *play) begin() {
	if n := len(p.fates); n > 0 {
		if last := p.fates[n-1]; last.commit && !last.settled {
			return
		} else if !last.commit {
			last.abort = true
		}
	}
	flight := rapid.SampledFrom([]string{"x", "x", "y"}).Draw(p.T, "flight")
	w := payload("t", uint64(len(p.fates)+1), fmt.Sprintf(`{"flight":%q,"seats":1}`, flight))
	p.fates = append(p.fates, &fate{work: w})
}

func (p *play) prepare(f *fate) {
	v, err := p.a.Prepare(context.Background(), f.work)
	switch {
	case err != nil && !participant.IsTransient(err):
		p.Fatalf("Prepare: %v", err)
	case err == nil && v.Kind == pb.Vote_VOTE_PREPARED:
		if f.settled {
			p.Fatalf("attempt %s was settled, and is prepared again", f.work.Attempt)
		}
		f.prepared = true
	}
}

func (p *play) settle(f *fate) {
	settle := p.a.Rollback
	switch {
	case f.commit:
		settle = p.a.Commit
	case !f.abort:
		return
	}
	st, err := settle(context.Background(), f.work.Ref)
	switch {
	case participant.IsTransient(err):
	case err != nil:
		p.Fatalf("settle: %v", err)
	case st.Settled == done:
		f.settled = true
	case st.Settled != pb.Settled_SETTLED_UNSPECIFIED:
		p.Fatalf("attempt %s (commit: %t) is %v: %s", f.work.Attempt, f.commit, st.Settled, st.Message)
	}
}

// lose makes the service lose the next calls, on the way there or back.
func (p *play) lose() {
	p.pending.Store(int64(rapid.IntRange(1, 3).Draw(p.T, "calls")))
	p.lost++
	hook := func(_, _ string, _ nethttp.ResponseWriter) bool {
		if p.pending.Add(-1) < 0 {
			return false
		}
		panic(nethttp.ErrAbortHandler)
	}
	if rapid.Bool().Draw(p.T, "there") {
		p.s.stand(hook, nil)
	} else {
		p.s.stand(nil, hook)
	}
}

func (p *play) decide(f *fate) {
	if f.commit || f.abort {
		return
	}
	if f.prepared && f == p.fates[len(p.fates)-1] {
		f.commit = true
	} else {
		f.abort = true
	}
}

// finish delivers every decision until it is acknowledged.
func (p *play) finish() {
	p.s.stand(nil, nil)
	for deadline := time.Now().Add(10 * time.Second); ; {
		left := 0
		for _, f := range p.fates {
			if !f.settled {
				f.abort = !f.commit
				p.settle(f)
				left++
			}
		}
		if left == 0 && p.a.open() == 0 {
			break
		}
		if time.Now().After(deadline) {
			p.Fatalf("%d attempts are not settled, %d reservations are open", left, p.a.open())
		}
	}
	committed := map[string]int64{}
	for _, f := range p.fates {
		if f.commit {
			committed[string(f.work.Payload)]++
		}
	}
	for _, flight := range []string{"x", "y"} {
		want := committed[fmt.Sprintf(`{"flight":%q,"seats":1}`, flight)]
		if got := p.s.confirmed(flight); got != want {
			p.Fatalf("%d seats of %s are confirmed, %d were committed: %v", got, flight, want, p.s.ledger())
		}
	}
	for key, l := range p.s.ledger() {
		if l.State == "reserved" {
			p.Fatalf("%s is still reserved: %q", key, l.Events)
		}
	}
}

// TestAnySchedule: whatever comes in whatever order, and whatever is lost, each
// reservation ends as its transaction was decided, once.
func TestAnySchedule(t *testing.T) {
	var committed, aborted, lost int
	dir := t.TempDir()
	n := 0
	rapid.Check(t, func(r *rapid.T) {
		n++
		s := newService(t)
		a := newAgent(t, s, nil)
		p := &play{T: r, t: t, s: s, a: a}
		a.path = filepath.Join(dir, fmt.Sprint(n)) // a journal of its own
		_ = a.kill()
		p.start()
		if err := a.Bind(soon(t), participant.Binding{ClusterID: "c1", Generation: 1, Term: 1}); err != nil {
			r.Fatal(err)
		}
		p.begin()
		r.Repeat(map[string]func(*rapid.T){
			"begin":   func(*rapid.T) { p.begin() },
			"prepare": func(*rapid.T) { p.prepare(p.any()) },
			"again":   func(*rapid.T) { p.prepare(p.fates[len(p.fates)-1]) },
			"decide":  func(*rapid.T) { p.decide(p.fates[len(p.fates)-1]) },
			"settle":  func(*rapid.T) { p.settle(p.any()) },
			"lose":    func(*rapid.T) { p.lose() },
			"crash":   func(*rapid.T) { _ = a.kill(); p.start() },
		})
		p.finish()
		for _, f := range p.fates {
			if f.commit {
				committed++
			} else {
				aborted++
			}
		}
		lost += p.lost
	})
	if committed == 0 || aborted == 0 || lost == 0 {
		t.Errorf("nothing was proven: %d committed, %d aborted, %d losses", committed, aborted, lost)
	}
	t.Logf("%d committed, %d aborted, %d losses", committed, aborted, lost)
}

// start opens the journal, which is not synced: the processes end here, not the machine.
func (p *play) start() {
	p.a.start()
	tx, err := p.a.file.Begin()
	if err != nil {
		p.Fatal(err)
	}
	tx.DB().NoSync = true
	if err := tx.Rollback(); err != nil {
		p.Fatal(err)
	}
}
