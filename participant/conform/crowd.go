package conform

import (
	"fmt"
	"sync"

	"github.com/concordat-tx/concordat/rpc/pb"
)

func crowdChecks() []check {
	return []check{
		one("concurrent/side by side", "P6", 0,
			"the leader drives many transactions at once, and repeats what it got no answer to", sideBySide),
		one("concurrent/one key", "P5", effects,
			"two branches that both read before either wrote lose an update", oneKey),
		one("concurrent/messages of one branch", "P6", 0,
			"a Rollback may arrive while the Prepare is at work: after its acknowledgement nothing may be prepared", oneBranch),
	}
}

// problems collects what goroutines of a check saw.
type problems struct {
	mu    sync.Mutex
	first *failure
}

func (p *problems) note(sent, expected string, got fmt.Stringer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.first == nil {
		p.first = &failure{sent, expected, got.String()}
	}
}

func (p *problems) raise() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.first != nil {
		panic(p.first)
	}
}

func sideBySide(t *trial) {
	const n = 24
	var branches [n]branch
	var wg sync.WaitGroup
	var seen problems
	for i := range n {
		branches[i] = t.fresh()
		wg.Go(func() { t.life(branches[i], i%4 != 0, &seen) })
	}
	wg.Wait()
	seen.raise()
	for i, b := range branches {
		if i%5 == 0 { // each would cost a transaction more
			t.effect(b.key, min(1, int64(i%4)))
		}
	}
}

// life prepares and settles b, each message twice at once.
func (t *trial) life(b branch, commit bool, seen *problems) {
	var twice sync.WaitGroup
	for range 2 {
		twice.Go(func() {
			if v := t.vote(b); v.err != nil || v.kind != pb.Vote_VOTE_PREPARED {
				seen.note("Prepare of "+b.String()+", twice at once, beside others", "VOTE_PREPARED", v)
			}
		})
	}
	twice.Wait()
	for range 2 {
		twice.Go(func() {
			if a := t.trySettle(t.fence(), b, commit); a.settled != done {
				seen.note(verb(commit)+" of "+b.String()+", twice at once, beside others", "SETTLED_DONE", a)
			}
		})
	}
	twice.Wait()
}

func oneKey(t *trial) {
	const n = 12
	key := t.unique("k")
	var mu sync.Mutex
	committed := int64(0)
	var wg sync.WaitGroup
	var seen problems
	for range n {
		wg.Go(func() {
			b := t.on(key)
			v := t.vote(b)
			if v.err != nil || v.kind != pb.Vote_VOTE_PREPARED {
				if v.err != nil || v.code != pb.Reason_CONFLICT {
					seen.note("Prepare of "+b.String()+" beside others on that key", "VOTE_PREPARED or VOTE_ABORTED(CONFLICT)", v)
				}
				return
			}
			if a := t.trySettle(t.fence(), b, true); a.settled != done {
				seen.note("Commit of "+b.String(), "SETTLED_DONE", a)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			committed++
		})
	}
	wg.Wait()
	seen.raise()
	if committed == 0 {
		t.fail(fmt.Sprintf("Prepare of %d branches on one key at once", n), "at least one VOTE_PREPARED", "only aborts")
	}
	t.effect(key, committed)
}

func oneBranch(t *trial) {
	for range 8 {
		b := t.fresh()
		var wg sync.WaitGroup
		var seen problems
		for range 3 {
			wg.Go(func() { _ = t.vote(b) }) // any answer will do
		}
		wg.Go(func() {
			if a := t.trySettle(t.fence(), b, false); a.settled != done {
				seen.note("Rollback of "+b.String()+" beside its Prepare", "SETTLED_DONE", a)
			}
		})
		wg.Wait()
		seen.raise()
		t.superseded(b)
		t.rollback(b, done)
		t.effect(b.key, 0)
	}
}
