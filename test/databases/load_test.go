package databases

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

const (
	accounts = 16 // of each participant, all with 0 at first
	// poison is what only transactions that abort write: who reads anything near
	// it has read what was never committed.
	poison = 1_000_000_000_000
)

// posting is one branch's part of a transfer.
type posting struct {
	kind           string
	account, delta int
}

// load are clients that move money between the three participants, and remember
// every answer, so that audit can hold the data against them.
type load struct {
	w       *world
	next    atomic.Int64
	commits atomic.Int64
	audits  atomic.Int64 // sums read by transactions
	reads   atomic.Int64 // plain reads beside them
	bumps   atomic.Int64 // of the counter

	mu       sync.Mutex // guards all below
	postings map[string][]posting
	outcomes map[string]pb.Outcome          // by mark; UNSPECIFIED: unknown
	unknown  map[string]*rpc.UnknownOutcome // by mark
	aborts   map[pb.Reason_Code]int
}

func newLoad(w *world) *load {
	return &load{
		w: w, postings: map[string][]posting{}, outcomes: map[string]pb.Outcome{},
		unknown: map[string]*rpc.UnknownOutcome{}, aborts: map[pb.Reason_Code]int{},
	}
}

// run keeps all of them busy until ctx ends.
func (l *load) run(ctx context.Context, clients int) {
	var wg sync.WaitGroup
	loop := func(do func(*rpc.Client)) {
		wg.Go(func() {
			c, err := l.w.Client()
			if err != nil {
				l.w.t.Error(err)
				return
			}
			defer c.Close()
			for ctx.Err() == nil {
				do(c)
			}
		})
	}
	for range clients {
		loop(l.transfer)
	}
	for range 2 {
		loop(every(ctx, 20*time.Millisecond, l.bump))
	}
	// Whoever locks all accounts stands in everybody's way, and reading is cheap: neither is done all the time.
	loop(every(ctx, time.Second, l.sum))
	for _, v := range l.w.vaults() {
		loop(every(ctx, 10*time.Millisecond, func(*rpc.Client) { l.peek(ctx, v) }))
	}
	wg.Wait()
}

// every paces what is done in a loop.
func every(ctx context.Context, pace time.Duration, do func(*rpc.Client)) func(*rpc.Client) {
	tick := time.NewTicker(pace)
	context.AfterFunc(ctx, tick.Stop)
	return func(c *rpc.Client) {
		select {
		case <-tick.C:
			do(c)
		case <-ctx.Done():
		}
	}
}

// transfer moves money between two or three participants. Every eighth writes
// poison, and aborts by one participant's vote.
func (l *load) transfer(c *rpc.Client) {
	n := l.next.Add(1)
	mark := fmt.Sprintf("t-%d", n)
	kinds := []string{pg, maria, kv}
	rand.Shuffle(len(kinds), func(i, j int) { kinds[i], kinds[j] = kinds[j], kinds[i] })
	poisoned := n%8 == 0
	if n%3 == 0 && !poisoned {
		kinds = kinds[:2]
	}
	amount := 1 + rand.IntN(100)
	if poisoned {
		amount = poison
	}
	var postings []posting
	var branches []*pb.Branch
	for i, kind := range kinds {
		p := posting{kind, rand.IntN(accounts), amount}
		if i == 0 {
			p.delta = -amount * (len(kinds) - 1)
		}
		postings = append(postings, p)
		if poisoned && i == 0 {
			branches = append(branches, l.w.refused(kind, mark, p.account, p.delta))
			continue
		}
		branches = append(branches, l.w.entry(kind, mark, p.account, p.delta))
	}
	r, err := submit(c, &pb.SubmitRequest{Id: mark, Branches: branches})
	if err == nil && poisoned && r.GetOutcome() != pb.Outcome_ABORT {
		l.w.t.Errorf("%s: one participant has refused it, and it came to %v", mark, r)
	}
	l.note(mark, postings, r, err)
}

// budget bounds how long the databases wait for a lock: a quarter of it.
// Between them nobody sees who waits for whom.
const budget = 2 * time.Second

// sumBudget: who wants every account at once stands in a circle with somebody
// nearly always. Its patience is longer than that of all others, so that they
// give way.
const sumBudget = 4 * budget

// submit gives a transaction a few budgets, with new tries after conflicts.
func submit(c *rpc.Client, req *pb.SubmitRequest) (*pb.TransactionResponse, error) {
	if req.Timeout == nil {
		req.Timeout = durationpb.New(budget)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*req.GetTimeout().AsDuration())
	defer cancel()
	return c.Submit(ctx, req)
}

func (l *load) note(mark string, postings []posting, r *pb.TransactionResponse, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.postings[mark] = postings
	var unknown *rpc.UnknownOutcome
	switch {
	case errors.As(err, &unknown):
		l.unknown[mark] = unknown
	case err != nil:
		l.outcomes[mark] = pb.Outcome_ABORT // refused: nothing has begun
	default:
		l.outcomes[mark] = r.GetOutcome()
		if r.GetOutcome() == pb.Outcome_COMMIT {
			l.commits.Add(1)
		} else {
			l.aborts[r.GetReason().GetCode()]++
		}
	}
}

// bump reads the counters of both databases past the agents, and sets each to
// one more on the condition that it has not changed.
func (l *load) bump(c *rpc.Client) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	var branches []*pb.Branch
	for kind, v := range l.w.vaults() {
		n, err := v.number(ctx, "SELECT n FROM counter")
		if err != nil {
			return // the server is down
		}
		branches = append(branches, l.w.sql(kind, one(dialect(kind, "UPDATE counter SET n = %s WHERE n = %s"), n+1, n)))
	}
	r, err := submit(c, &pb.SubmitRequest{Branches: branches})
	var unknown *rpc.UnknownOutcome
	if errors.As(err, &unknown) {
		r, err = l.learn(unknown)
		if err != nil {
			l.w.t.Error(err)
		}
	}
	if err == nil && r.GetOutcome() == pb.Outcome_COMMIT {
		l.bumps.Add(1)
	}
}

// sum reads all accounts of all participants in one transaction, with locks:
// money in transit would show.
func (l *load) sum(c *rpc.Client) {
	all := statement{SQL: "SELECT balance FROM acct ORDER BY id FOR UPDATE"}
	var gets []operation
	for a := range accounts {
		gets = append(gets, operation{"op": "get", "key": fmt.Sprintf("acct/%d", a)})
	}
	r, err := submit(c, &pb.SubmitRequest{Timeout: durationpb.New(sumBudget), Branches: []*pb.Branch{
		l.w.sql(pg, all), l.w.sql(maria, all), l.w.ops(gets...),
	}})
	if err != nil || r.GetOutcome() != pb.Outcome_COMMIT || r.GetResults() != pb.Results_RESULTS_COMPLETE {
		return
	}
	total := 0
	for _, b := range r.GetBranches() {
		n, err := addUp(b.GetResult())
		if err != nil {
			l.w.t.Errorf("the result of %s: %v: %s", b.GetParticipant(), err, b.GetResult())
		}
		total += n
	}
	if total != 0 {
		l.w.t.Errorf("a transaction that reads all accounts finds %d more than there is: %v", total, r)
	}
	l.audits.Add(1)
}

// addUp is the sum of all numbers that a branch has read.
func addUp(result []byte) (sum int, err error) {
	var found struct {
		Results []json.RawMessage `json:"results"`
	}
	if err := json.Unmarshal(result, &found); err != nil {
		return 0, err
	}
	for _, r := range found.Results {
		var rows struct {
			Rows  [][]json.Number `json:"rows"`
			Value json.Number     `json:"value"`
		}
		if err := json.Unmarshal(r, &rows); err != nil {
			return 0, err
		}
		cells := []json.Number{rows.Value}
		for _, row := range rows.Rows {
			cells = append(cells, row...)
		}
		for _, cell := range cells {
			if cell == "" {
				continue // a key that is not there yet
			}
			n, err := strconv.Atoi(cell.String())
			if err != nil {
				return 0, err
			}
			sum += n
		}
	}
	return sum, nil
}

// peek reads past the agents, as any other program may.
func (l *load) peek(ctx context.Context, v vault) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	most, err := v.number(ctx, "SELECT MAX(ABS(balance)) FROM acct")
	if err != nil {
		return // the server is down
	}
	if most > poison/2 {
		l.w.t.Errorf("an account with %d was read, which nobody has committed", most)
	}
	l.reads.Add(1)
}

// learn settles an unknown outcome by its id.
func (l *load) learn(u *rpc.UnknownOutcome) (*pb.TransactionResponse, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	return l.w.client.Abort(ctx, &pb.AbortRequest{Id: u.ID, Since: &u.Since})
}
