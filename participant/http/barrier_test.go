package http

import (
	"context"
	"fmt"
	nethttp "net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// agent is a Manager that can be killed and opened again.
type agent struct {
	*Manager
	t       testing.TB
	path    string
	options Options
}

func newAgent(t testing.TB, s *service, change func(*Options)) *agent {
	t.Helper()
	a := &agent{t: t, path: filepath.Join(t.TempDir(), "journal.db"), options: Options{
		Name: "seats", URL: s.server.URL, Secret: testSecret, Fatal: func(error) {},
	}}
	if change != nil {
		change(&a.options)
	}
	a.start()
	t.Cleanup(func() { _ = a.Close() })
	if err := a.Bind(soon(t), participant.Binding{ClusterID: "c1", Generation: 1, Term: 1}); err != nil {
		t.Fatal(err)
	}
	return a
}

func (a *agent) start() {
	a.t.Helper()
	var err error
	if a.Manager, err = Open(a.path, a.options); err != nil {
		a.t.Fatal(err)
	}
}

// crash kills the Manager, in the midst of whatever it does, and opens its journal again.
func (a *agent) crash() {
	a.t.Helper()
	_ = a.kill()
	a.start()
}

func soon(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

func payload(id string, sequence uint64, body string) participant.Work {
	a := rpc.Attempt{Generation: 1, Term: 1, Sequence: sequence}
	return participant.Work{Ref: participant.Ref{ID: id, Attempt: a, Digest: fsm.DigestOf([]byte(body))}, Priority: a, Payload: []byte(body)}
}

func work(id string, sequence uint64) participant.Work {
	return payload(id, sequence, fmt.Sprintf(`{"flight":%q,"seats":1}`, id))
}

func (a *agent) votes(w participant.Work, kind pb.Vote, code pb.Reason_Code) participant.Vote {
	a.t.Helper()
	v, err := a.Prepare(soon(a.t), w)
	if err != nil || v.Kind != kind || v.Code != code {
		a.t.Fatalf("Prepare of %s %s: %+v, %v; want %v (%v)", w.ID, w.Attempt, v, err, kind, code)
	}
	return v
}

func (a *agent) prepared(w participant.Work) participant.Vote {
	a.t.Helper()
	return a.votes(w, pb.Vote_VOTE_PREPARED, 0)
}

// noVote demands an error that may pass.
func (a *agent) noVote(w participant.Work) error {
	a.t.Helper()
	v, err := a.Prepare(soon(a.t), w)
	if !participant.IsTransient(err) {
		a.t.Fatalf("Prepare of %s: %+v, %v; want a transient error", w.ID, v, err)
	}
	return err
}

func (a *agent) settles(w participant.Work, commit bool, want pb.Settled) string {
	a.t.Helper()
	settle := a.Rollback
	if commit {
		settle = a.Commit
	}
	st, err := settle(soon(a.t), w.Ref)
	if err != nil || st.Settled != want {
		a.t.Fatalf("settle %s %s (commit: %t): %+v, %v; want %v", w.ID, w.Attempt, commit, st, err, want)
	}
	return st.Message
}

const done = pb.Settled_SETTLED_DONE

// events are the calls about w that reached the service's ledger.
func (s *service) events(w participant.Work) []string {
	for key, l := range s.ledger() {
		if strings.Contains(key, "/"+w.ID+"/"+w.Attempt.String()+"/") {
			return l.Events
		}
	}
	return nil
}

func (s *service) saw(w participant.Work, want ...string) {
	s.t.Helper()
	if got := s.events(w); !slices.Equal(got, want) {
		s.t.Errorf("the service saw %q of %s %s, want %q", got, w.ID, w.Attempt, want)
	}
}

// losing answers nothing to the first n calls of that name, after they were done or before.
func losing(name string, n int64) func(string, string, nethttp.ResponseWriter) bool {
	var left atomic.Int64
	left.Store(n)
	return func(call, _ string, _ nethttp.ResponseWriter) bool {
		if call != name || left.Add(-1) < 0 {
			return false
		}
		panic(nethttp.ErrAbortHandler)
	}
}

func TestBarrier(t *testing.T) {
	s := newService(t)
	a := newAgent(t, s, nil)

	empty := work("empty", 1) // a rollback before any prepare, and a late prepare
	a.settles(empty, false, done)
	a.crash()
	a.votes(empty, pb.Vote_VOTE_ABORTED, pb.Reason_SUPERSEDED)
	s.saw(empty)

	twice := work("twice", 2) // everything comes twice, also after a crash
	first := a.prepared(twice)
	if string(first.Result) != `{"seats":1}` {
		t.Errorf("result %s", first.Result)
	}
	a.prepared(twice)
	a.crash()
	if again := a.prepared(twice); string(again.Result) != string(first.Result) {
		t.Errorf("result %s, then %s", first.Result, again.Result)
	}
	a.settles(twice, true, done)
	a.settles(twice, true, done)
	a.crash()
	a.settles(twice, true, done)
	a.votes(twice, pb.Vote_VOTE_ABORTED, pb.Reason_SUPERSEDED)
	a.settles(twice, false, pb.Settled_HEURISTIC_COMMIT)
	s.saw(twice, "try 200", "confirm 200")

	back := work("back", 3)
	a.prepared(back)
	a.settles(back, false, done)
	a.settles(back, false, done)
	a.votes(back, pb.Vote_VOTE_ABORTED, pb.Reason_SUPERSEDED)
	s.saw(back, "try 200", "cancel 200")

	full := payload("full", 4, fmt.Sprintf(`{"flight":"full","seats":%d}`, capacity+1))
	v := a.votes(full, pb.Vote_VOTE_ABORTED, pb.Reason_APPLICATION)
	if v.Message != fmt.Sprintf("flight full has no %d seats left", capacity+1) {
		t.Errorf("message %q", v.Message)
	}
	a.settles(full, false, done) // nothing to cancel
	s.saw(full)
	if n := a.open(); n != 0 {
		t.Errorf("%d reservations are open", n)
	}
	s.settled(false)
}

// TestUnansweredTry: a try whose answer is lost is never voted PREPARED, and
// whatever happens after that, it is cancelled.
func TestUnansweredTry(t *testing.T) {
	lost := func(t *testing.T, change func(*Options)) (*service, *agent, participant.Work) {
		s := newService(t)
		a := newAgent(t, s, change)
		w := work("t", 1)
		s.stand(nil, losing(callTry, 1))
		a.noVote(w)
		if held, err := a.Held(soon(t)); err != nil || len(held) != 0 || a.open() != 1 {
			t.Fatalf("held %v, %v; %d open", held, err, a.open())
		}
		s.saw(w, "try 200")
		return s, a, w
	}
	t.Run("rollback", func(t *testing.T) {
		s, a, w := lost(t, nil)
		a.settles(w, false, done)
		s.saw(w, "try 200", "cancel 200")
	})
	t.Run("crash and rollback", func(t *testing.T) {
		s, a, w := lost(t, nil)
		a.crash()
		a.settles(w, true, pb.Settled_HEURISTIC_HAZARD) // no such decision; and no proof
		a.settles(w, false, done)
		a.votes(w, pb.Vote_VOTE_ABORTED, pb.Reason_SUPERSEDED)
		s.saw(w, "try 200", "cancel 200")
	})
	t.Run("nobody says anything", func(t *testing.T) {
		s, a, w := lost(t, func(o *Options) { o.abandonAfter = 50 * time.Millisecond })
		a.crash()
		eventually(t, "it is cancelled", func() bool { return slices.Equal(s.events(w), []string{"try 200", "cancel 200"}) && a.open() == 0 })
		a.votes(w, pb.Vote_VOTE_ABORTED, pb.Reason_SUPERSEDED)
		a.settles(w, false, done) // late
		s.saw(w, "try 200", "cancel 200")
	})
	t.Run("nobody says anything, and the service is away", func(t *testing.T) {
		s, a, w := lost(t, func(o *Options) { o.abandonAfter = 20 * time.Millisecond })
		s.stand(losing(callCancel, 2), nil)
		a.crash()
		eventually(t, "it is cancelled", func() bool { return slices.Equal(s.events(w), []string{"try 200", "cancel 200"}) && a.open() == 0 })
	})
	t.Run("nobody says anything, and a newer attempt is held", func(t *testing.T) {
		s, a, w := lost(t, func(o *Options) { o.abandonAfter = 50 * time.Millisecond })
		newer := payload("t", 2, `{"flight":"other","seats":1}`)
		a.prepared(newer)
		eventually(t, "the older one is cancelled", func() bool { return slices.Equal(s.events(w), []string{"try 200", "cancel 200"}) && a.open() == 0 })
		a.settles(w, false, pb.Settled_SETTLED_UNSPECIFIED) // the newer one is held
		a.votes(w, pb.Vote_VOTE_ABORTED, pb.Reason_SUPERSEDED)
		a.settles(newer, true, done)
		a.settles(w, false, done)
		s.saw(newer, "try 200", "confirm 200")
		s.saw(w, "try 200", "cancel 200")
	})
	t.Run("tried again", func(t *testing.T) {
		s, a, w := lost(t, nil)
		a.prepared(w)
		a.settles(w, true, done)
		s.saw(w, "try 200", "try 200", "confirm 200")
	})
	t.Run("tried again for a newer attempt", func(t *testing.T) {
		s, a, w := lost(t, nil)
		newer := work("t", 2)
		a.prepared(newer)
		a.votes(w, pb.Vote_VOTE_ABORTED, pb.Reason_SUPERSEDED)
		a.settles(newer, true, done)
		a.settles(w, false, done)
		if n := len(s.ledger()); n != 1 || s.confirmed("t") != 1 {
			t.Errorf("%d reservations, %d confirmed", n, s.confirmed("t"))
		}
	})
	t.Run("an older attempt comes late", func(t *testing.T) {
		s, a, _ := lost(t, nil)
		newer := payload("t", 2, `{"flight":"other","seats":1}`)
		s.stand(nil, losing(callTry, 1))
		a.noVote(newer)
		s.stand(nil, nil)
		a.votes(work("t", 1), pb.Vote_VOTE_ABORTED, pb.Reason_SUPERSEDED)
		a.settles(newer, false, done)
		a.settles(work("t", 1), false, done)
		s.settled(true)
	})
}

// TestTryOutlastsItsBudget: the budget ends while the service is at work, and
// the cancel overtakes the try there. The service is asked to refuse it then.
func TestTryOutlastsItsBudget(t *testing.T) {
	s := newService(t)
	a := newAgent(t, s, nil)
	w := work("t", 1)
	reached, goOn := make(chan struct{}), make(chan struct{})
	s.stand(func(call, _ string, _ nethttp.ResponseWriter) bool {
		if call == callTry {
			close(reached)
			<-goOn
		}
		return false
	}, nil)
	ctx, cancel := context.WithCancel(soon(t))
	out := make(chan error, 1)
	go func() { _, err := a.Prepare(ctx, w); out <- err }()
	<-reached
	cancel()
	if err := <-out; err == nil {
		t.Fatal("a vote without an answer")
	}
	a.settles(w, false, done)
	a.votes(w, pb.Vote_VOTE_ABORTED, pb.Reason_SUPERSEDED)
	close(goOn)
	eventually(t, "the try has arrived", func() bool { return len(s.events(w)) == 2 })
	s.saw(w, "cancel 200", "try 409")
	if n := a.open(); n != 0 {
		t.Errorf("%d reservations are open", n)
	}
}

// TestUnreachableServiceNeedsNoCancel: what was never sent leaves nothing behind.
func TestUnreachableServiceNeedsNoCancel(t *testing.T) {
	s := newService(t)
	a := newAgent(t, s, nil)
	s.server.Close()
	w := work("t", 1)
	if err := a.noVote(w); !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("error %v", err)
	}
	if n := a.open(); n != 0 {
		t.Errorf("%d reservations are open", n)
	}
	a.settles(w, false, done)
}

// TestCallsThatAreLost: confirm and cancel are repeated until they are answered.
func TestCallsThatAreLost(t *testing.T) {
	s := newService(t)
	a := newAgent(t, s, nil)
	for _, commit := range []bool{true, false} {
		name := map[bool]string{true: callConfirm, false: callCancel}[commit]
		w := work(name, 1)
		a.prepared(w)
		settle := map[bool]func(context.Context, participant.Ref) (participant.Settlement, error){true: a.Commit, false: a.Rollback}[commit]
		s.stand(losing(name, 1), nil)
		if st, err := settle(soon(t), w.Ref); !participant.IsTransient(err) {
			t.Fatalf("%+v, %v", st, err)
		}
		s.stand(nil, losing(name, 1))
		if st, err := settle(soon(t), w.Ref); !participant.IsTransient(err) {
			t.Fatalf("%+v, %v", st, err)
		}
		a.settles(w, commit, done)
		a.settles(w, commit, done)
		s.saw(w, "try 200", name+" 200", name+" 200")
	}
}

// TestKilledInACall kills the agent while the service has a call, before its
// work and after it; then the decision comes.
func TestKilledInACall(t *testing.T) {
	for _, name := range []string{callTry, callConfirm, callCancel} {
		for _, side := range []string{"before", "after"} {
			t.Run(name+" "+side, func(t *testing.T) {
				s := newService(t)
				a := newAgent(t, s, nil)
				w := work("t", 1)
				if name != callTry {
					a.prepared(w)
				}
				reached, goOn := make(chan struct{}), make(chan struct{})
				stop := func(call, _ string, _ nethttp.ResponseWriter) bool {
					if call == name {
						close(reached)
						<-goOn
						s.stand(nil, nil)
					}
					return false
				}
				if side == "before" {
					s.stand(stop, nil)
				} else {
					s.stand(nil, stop)
				}
				out := make(chan error, 1)
				old := a.Manager
				go func() {
					var err error
					switch name {
					case callTry:
						_, err = old.Prepare(soon(t), w)
					case callConfirm:
						_, err = old.Commit(soon(t), w.Ref)
					default:
						_, err = old.Rollback(soon(t), w.Ref)
					}
					out <- err
				}()
				<-reached
				old.file.Fail(errKilled) // nothing is written any more
				close(goOn)
				if err := <-out; err == nil {
					t.Fatal("a dead agent has answered")
				}
				a.crash()
				commit := name == callConfirm
				a.settles(w, commit, done)
				a.settles(w, commit, done)
				s.settled(true)
				if got := s.confirmed("t"); (got == 1) != commit {
					t.Errorf("%d seats are confirmed", got)
				}
			})
		}
	}
}

// TestHeuristics: the service has settled by itself, against the decision. Its
// words come back, also when the decision comes again.
func TestHeuristics(t *testing.T) {
	s := newService(t)
	a := newAgent(t, s, nil)
	for _, commit := range []bool{true, false} {
		w := work(fmt.Sprintf("commit-%t", commit), 1)
		a.prepared(w)
		// By hand, in the service itself.
		call, want, words := callCancel, pb.Settled_HEURISTIC_ROLLBACK, "it is cancelled here"
		if !commit {
			call, want, words = callConfirm, pb.Settled_HEURISTIC_COMMIT, "it is confirmed here"
		}
		s.do(call, a.key("c1", w.Ref), nil)
		for i := range 3 {
			if said := a.settles(w, commit, want); said != words {
				t.Errorf("said %q, want %q", said, words)
			}
			if i == 1 {
				a.crash()
			}
		}
		a.votes(w, pb.Vote_VOTE_ABORTED, pb.Reason_SUPERSEDED)
		if held, err := a.Held(soon(t)); err != nil || len(held) != 0 || a.open() != 0 {
			t.Errorf("held %v, %v; %d open", held, err, a.open())
		}
		// Forgotten, words and all.
		refs, err := a.Finished(soon(t), 100)
		if err != nil || len(refs) != 1 {
			t.Fatalf("%v, %v", refs, err)
		}
		if err := a.Forget(soon(t), rpc.Attempt{Generation: 1, Term: 1, Sequence: 1}, refs); err != nil {
			t.Fatal(err)
		}
		if err := a.Forget(soon(t), rpc.Attempt{Generation: 1, Term: 2, Sequence: 1}, refs); err != nil {
			t.Fatal(err)
		}
		if n := a.records(); n != 0 {
			t.Errorf("%d records are left", n)
		}
		a = newAgent(t, s, nil) // the floor is above our attempts
	}
}
