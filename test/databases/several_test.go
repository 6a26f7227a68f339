package databases

import (
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// submission is a Submit under way.
type submission struct {
	r    *pb.TransactionResponse
	err  error
	done chan struct{}
}

func (w *world) submits(req *pb.SubmitRequest) *submission { return w.submitsTo(w.client, req) }

func (w *world) submitsTo(client *rpc.Client, req *pb.SubmitRequest) *submission {
	s := &submission{done: make(chan struct{})}
	ctx := within(w.t, patience)
	go func() {
		defer close(s.done)
		s.r, s.err = client.Submit(ctx, req)
	}()
	return s
}

func (s *submission) answer(t testing.TB) *pb.TransactionResponse {
	t.Helper()
	<-s.done
	if s.err != nil {
		t.Fatal(s.err)
	}
	return s.r
}

// undecided submits a transaction that adds one to an account in each database,
// and returns when both have prepared it and only the KV, which is stopped, has
// not voted yet.
func (w *world) undecided(id string, account int, last *pb.Branch) *submission {
	w.t.Helper()
	return w.undecidedOf(id, func() *submission {
		return w.submits(&pb.SubmitRequest{
			Id: id, Timeout: durationpb.New(patience), Wait: pb.Wait_COMPLETED,
			Branches: []*pb.Branch{w.entry(pg, id, account, 1), w.entry(maria, id, account, 1), last},
		})
	})
}

func (w *world) undecidedOf(id string, submit func() *submission) *submission {
	w.t.Helper()
	if err := w.Participants[w.name(kv)].Pause(); err != nil {
		w.t.Fatal(err)
	}
	s := submit()
	for _, kind := range []string{pg, maria} {
		eventually(w.t, patience, "a branch is prepared in "+kind, func() bool { return len(w.preparedOf(kind, id)) == 1 })
	}
	return s
}

// decide lets the KV vote.
func (w *world) decide() {
	w.t.Helper()
	if err := w.Participants[w.name(kv)].Resume(); err != nil {
		w.t.Fatal(err)
	}
}

// TestSeveralAgents: of two agents over each database, those that have prepared
// a transaction are killed before it is decided. The others finish it.
func TestSeveralAgents(t *testing.T) {
	w := newWorld(t, newBank(t, accounts), "")
	for id, outcome := range map[string]pb.Outcome{"goes-on": pb.Outcome_COMMIT, "gives-up": pb.Outcome_ABORT} {
		last := w.entry(kv, id, 0, -2)
		if outcome == pb.Outcome_ABORT {
			last = w.refused(kv, id, 0, -2)
		}
		s := w.undecided(id, 0, last) // there is only one agent that can have prepared it
		first := map[string]*agent{}
		for kind, a := range w.agents {
			first[kind] = a
			w.agents[kind] = w.newAgent(kind, kind+"-after-"+id)
			w.start(w.agents[kind].Process)
		}
		w.reachable(2)
		for _, a := range first {
			w.kill(a.Process)
		}
		w.decide()
		killed := time.Now()
		if r := s.answer(t); r.GetOutcome() != outcome || len(r.GetPending()) > 0 {
			t.Errorf("%s came to %v", id, r)
		}
		t.Logf("%v, settled by the other agents %v after the kill", outcome, time.Since(killed).Round(time.Millisecond))
		w.nothingPrepared(settles)
		for kind := range w.agents {
			if found := w.contents(kind); found.marks[id] != (outcome == pb.Outcome_COMMIT) {
				t.Errorf("%s: the mark of %s: %v", kind, id, found.marks)
			}
			w.alone(kind)
		}
	}
}

// alone leaves only the present agent in the registry.
func (w *world) alone(kind string) {
	w.t.Helper()
	if _, err := w.client.AddParticipant(within(w.t, patience), &pb.AddParticipantRequest{
		Name: w.name(kind), Endpoints: []string{w.agents[kind].listen},
	}); err != nil {
		w.t.Fatal(err)
	}
}
