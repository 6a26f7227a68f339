package inprocess

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/kvop"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// 64 clients add to and read the same few keys over two participants: sums are
// exact, no read sees a value that was never committed, everybody progresses,
// and no lock wait ends in a time-out.
func TestManyClientsOnFewKeys(t *testing.T) {
	w := newWorld(t, options{nodes: 3, participants: []string{"p", "q"}})
	const clients = 64
	r := seeded(t)
	ctx, cancel := context.WithTimeout(context.Background(), max(*soak, 20*time.Second))
	defer cancel()
	var all sync.WaitGroup
	counters := make([]*adder, clients)
	for c := range counters {
		a := &adder{w: w, client: w.client, name: fmt.Sprintf("c%d", c), random: rand.New(rand.NewPCG(r.Uint64(), uint64(c)))}
		counters[c] = a
		all.Go(func() { a.run(ctx) })
	}
	all.Wait()
	var sums [keys]int
	commits := 0
	for _, a := range counters {
		for _, err := range a.wrong {
			t.Error(err)
		}
		own := 0
		for k, n := range a.added {
			sums[k] += n
			own += n
		}
		if own == 0 {
			t.Errorf("client %s never committed: it starved", a.name)
		}
		commits += own
	}
	w.settled()
	for k, want := range sums {
		for _, cell := range []struct{ p, key string }{{"p", key(k)}, {"p", key(k) + "-twin"}, {"q", key(k)}} {
			if got := w.parties[cell.p].value(cell.key); got != fmt.Sprint(want) {
				t.Errorf("%s of %s is %s, want %d", cell.key, cell.p, got, want)
			}
		}
	}
	leader := w.leader()
	t.Logf("%d commits by %d clients; all transactions: %g committed, %g aborted with CONFLICT, %g with CONDITION", commits, clients,
		w.metric(leader, "concordat_transactions_total", "COMMIT"), w.metric(leader, "concordat_transactions_total", "CONFLICT"),
		w.metric(leader, "concordat_transactions_total", "CONDITION"))
}

func key(k int) string { return fmt.Sprintf("k%d", k) }

// keys is how many cells of each kind there are.
const keys = 3

// poison is added only by transactions that must abort.
const poison = 1_000_000

// adder is one client of TestManyClientsOnFewKeys.
type adder struct {
	w      *world
	client *rpc.Client
	name   string
	random *rand.Rand
	added  [keys]int
	wrong  []error
}

func (a *adder) run(ctx context.Context) {
	// At least one round, however slow the machine is: nobody may starve.
	for i := 0; ctx.Err() == nil || i == 0; i++ {
		k := a.random.IntN(keys)
		a.add(fmt.Sprintf("%s-%d", a.name, i), k)
		switch a.random.IntN(4) {
		case 0:
			a.readPlain(k)
		case 1:
			a.readInTransaction(fmt.Sprintf("%s-%d-get", a.name, i), k)
		case 2:
			a.poison(fmt.Sprintf("%s-%d-bad", a.name, i), k)
		}
	}
}

func (a *adder) fail(format string, args ...any) {
	a.wrong = append(a.wrong, fmt.Errorf(a.name+": "+format, args...))
}

func (a *adder) submit(req *pb.SubmitRequest) *pb.TransactionResponse {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	r, err := a.client.Submit(ctx, budget(req, 30*time.Second))
	if err != nil {
		a.fail("%s: %w", req.GetId(), err)
	}
	return r
}

// add adds 1 to three cells that must therefore always be equal.
func (a *adder) add(id string, k int) {
	r := a.submit(request(id, pb.Wait_DECIDED, branch("p", add(key(k), 1), add(key(k)+"-twin", 1)), branch("q", add(key(k), 1))))
	switch {
	case r == nil:
	case r.GetOutcome() == pb.Outcome_COMMIT:
		a.added[k]++
	default:
		a.fail("%s aborted: %v", id, r.GetReason())
	}
}

// poison adds much and aborts.
func (a *adder) poison(id string, k int) {
	r := a.submit(request(id, pb.Wait_DECIDED, branch("p", add(key(k), poison)), branch("q", `{"op":"check","key":"none","exists":true}`)))
	if r != nil && (r.GetOutcome() != pb.Outcome_ABORT ||
		r.GetReason().GetCode() != pb.Reason_CONDITION && r.GetReason().GetCode() != pb.Reason_CONFLICT) {
		a.fail("%s should have aborted: %v", id, r)
	}
}

// readPlain reads two cells at one point in time; it must see what this client has committed.
func (a *adder) readPlain(k int) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	items, err := a.client.ReadKV(ctx, "p", key(k), key(k)+"-twin")
	if err != nil {
		a.fail("read: %w", err)
		return
	}
	one, two := number(items[0].GetValueJson()), number(items[1].GetValueJson())
	if one != two || one >= poison || one < a.added[k] {
		a.fail("a read of %s saw %d and %d, after %d commits of its own", key(k), one, two, a.added[k])
	}
}

// readInTransaction reads the same cell of both participants.
func (a *adder) readInTransaction(id string, k int) {
	r := a.submit(request(id, pb.Wait_DECIDED, branch("p", get(key(k))), branch("q", get(key(k)))))
	if r == nil {
		return
	}
	if r.GetOutcome() != pb.Outcome_COMMIT {
		a.fail("%s aborted: %v", id, r.GetReason())
		return
	}
	var seen [2]int
	for i, b := range r.GetBranches() {
		results, err := kvop.ParseResults(b.GetResult())
		if err != nil || len(results) != 1 {
			a.fail("%s: result %q: %v", id, b.GetResult(), err)
			return
		}
		seen[i] = number(results[0].Value.AppendJSON(nil))
	}
	if seen[0] != seen[1] || seen[0] >= poison || seen[0] < a.added[k] {
		a.fail("%s saw %v after %d commits of its own", id, seen, a.added[k])
	}
}

// number is an integer in JSON; 0 if there is none.
func number(json []byte) (n int) {
	_, _ = fmt.Sscan(string(json), &n)
	return n
}

// The whole cluster and every participant stop in the middle of load and start
// again: nothing that was acknowledged is lost, every unknown is settled.
func TestWholeClusterRestarts(t *testing.T) {
	w := newWorld(t, options{nodes: 3, participants: []string{"a", "b", "c"}})
	l := newLoad(w, "a", "b", "c")
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	done := make(chan struct{})
	r := seeded(t)
	go func() { defer close(done); l.run(ctx, 12, r) }()
	for round := range 2 {
		before := l.commits()
		w.eventually("load", func() bool { return l.commits() >= before+50 })
		for i := range w.members {
			if round == 0 {
				w.crashNode(i)
			} else {
				w.stopNode(i)
			}
		}
		for _, p := range w.parties {
			p.stop()
			p.start()
		}
		w.startNodes()
	}
	before := l.commits()
	w.eventually("load after the restart", func() bool { return l.commits() >= before+50 })
	cancel()
	<-done
	l.audit()
}

func (l *load) commits() (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, t := range l.told {
		if t.outcome == pb.Outcome_COMMIT {
			n++
		}
	}
	return n
}

// Clients on all nodes while the leader is lost again and again, all
// participants up: no transaction aborts because of it.
func TestLeaderLostUnderLoad(t *testing.T) {
	w := newWorld(t, options{nodes: 3, participants: []string{"a", "b", "c"}})
	l := newLoad(w, "a", "b", "c")
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	done := make(chan struct{})
	r := seeded(t)
	go func() { defer close(done); l.run(ctx, 12, r) }()
	for range 4 {
		before := l.commits()
		w.eventually("load", func() bool { return l.commits() >= before+40 })
		i := w.leader()
		w.crashNode(i)
		w.leader(i)
		w.startNode(i)
	}
	before := l.commits()
	w.eventually("load at the end", func() bool { return l.commits() >= before+40 })
	cancel()
	<-done
	l.audit()
	l.onlyBusiness()
}
