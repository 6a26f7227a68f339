package node

import (
	"context"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/node/drive"
	"github.com/concordat-tx/concordat/rpc"
)

// The answer of Decide is in the flight's hands when the leadership ends and
// fails every waiting caller: they are told "unknown", and the flight goes on
// to its end without falling over.
func TestDecideIsAnsweredAsTheLeadershipEnds(t *testing.T) {
	n := &Node{log: hclog.NewNullLogger()}
	n.metrics = newMetrics(n)
	ctx, cancel := context.WithCancel(context.Background())
	l := &leader{
		node: n, log: n.log, ctx: ctx, start: time.Now(), flights: map[string]*flight{}, links: map[string]*link{},
		attempts: drive.NewAttempts(fsm.Attempt{Generation: 1, Term: 2}, nil), closed: true,
	}
	rec := &fsm.Txn{ID: "t", Attempt: l.attempts.Make(), State: fsm.Preparing, TimeoutMS: 1000, Branches: []fsm.Branch{{Participant: "p"}}}
	f := newFlight(l, "t", fsm.Digest{}, 1, 0)
	l.addLocked(f, []string{"p"})
	f.update(rec)
	f.d, _ = drive.New(&drive.Config{Jitter: jitter}, rec, 1)
	f.d.OnVote(2, 0, drive.Answer{Vote: fsm.VotePrepared})
	decided := *rec
	decided.State = fsm.Committing
	decided.Branches = []fsm.Branch{{Participant: "p", Vote: fsm.VotePrepared}}

	cancel()
	l.close()
	told := 0
	for _, e := range f.d.OnApplied(3, &decided) {
		if e.Op == drive.Decided {
			f.do(e)
			told++
		}
	}
	if told != 1 {
		t.Fatalf("decided was told %d times", told)
	}
	if _, _, err := f.state(); rpc.ReasonOf(err) != rpc.ReasonOutcomeUnknown {
		t.Errorf("callers are told %v", err)
	}
}
