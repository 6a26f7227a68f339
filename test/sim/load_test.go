package sim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/kvop"
	"github.com/concordat-tx/concordat/rpc/pb"
)

const (
	accounts = 4   // of each participant
	opening  = 100 // of each account
	lists    = 4   // of each participant
	// epoch is how many transactions share one generation of lists, so that none grows long.
	epoch = 40
	// patience is how long a client stays with one transaction.
	patience = 20 * time.Second
)

// told is one transaction as its client knows it.
type told struct {
	n            int
	participants []string
	id           string // of the try that counts
	since        uint64
	outcome      pb.Outcome // OUTCOME_UNSPECIFIED: not known
	reason       *pb.Reason
	refused      bool // definitely never begun
	once         bool // committed in one phase (P17)
	err          error
	began, ended time.Time
	appended     []cell         // list elements, of this transaction's number
	read         map[cell][]int // lists as seen
}

// cell is a key of a participant.
type cell struct{ participant, key string }

// load is what the clients do, and what they were told.
type load struct {
	world *world
	all   sync.WaitGroup

	mu   sync.Mutex // guards what follows
	next int
	told []*told
	// looks are plain reads, which are transactions of their own.
	looks []*told
	open  int // transactions under way
}

// now is how many transactions are under way, and how many were begun so far.
func (l *load) now() (open, begun int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.open, l.next
}

func account(k int) string { return fmt.Sprintf("acct/%d", k) }

// prepare opens the accounts.
func (l *load) prepare(ctx context.Context) error {
	req := &pb.SubmitRequest{Id: "opening", Wait: pb.Wait_COMPLETED}
	for _, host := range l.world.partHosts {
		var ops []string
		for k := range accounts {
			ops = append(ops, fmt.Sprintf(`{"op":"put","key":%q,"value":%d}`, account(k), opening))
		}
		req.Branches = append(req.Branches, branch(host, ops))
	}
	r, err := l.world.client.Submit(ctx, req)
	if err == nil && r.GetOutcome() != pb.Outcome_COMMIT {
		err = fmt.Errorf("opening aborted: %v", r.GetReason())
	}
	return err
}

func branch(participant string, ops []string) *pb.Branch {
	return &pb.Branch{Participant: participant, Payload: []byte(`{"ops":[` + strings.Join(ops, ",") + `]}`)}
}

// client submits until ctx ends. Now and then it dies in the middle.
func (l *load) client(ctx context.Context, host string, random *rand.Rand) {
	c := l.world.newClient(host)
	defer func() { _ = c.Close() }()
	for ctx.Err() == nil {
		if sleep(ctx, time.Duration(random.Int64N(int64(l.world.profile.pause)))) != nil {
			return
		}
		if random.IntN(5) == 0 {
			l.look(c, random)
			continue
		}
		l.one(c, random)
	}
}

// look is a plain read of some lists of one participant, at one point in time (P13).
func (l *load) look(c *rpc.Client, random *rand.Rand) {
	host := l.world.partHosts[random.IntN(len(l.world.partHosts))]
	l.mu.Lock()
	t := &told{n: -1, id: "read", read: map[cell][]int{}, began: time.Now()}
	now := l.next / epoch
	l.mu.Unlock()
	var keys []string
	for k := range lists {
		keys = append(keys, fmt.Sprintf("list/%d/%d", now, k))
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	items, err := c.ReadKV(ctx, host, keys...)
	if err != nil {
		return // a read may be refused, never wrong
	}
	t.ended, t.outcome = time.Now(), pb.Outcome_COMMIT
	for _, item := range items {
		list := []int{}
		if item.GetExists() {
			if err := json.Unmarshal(item.GetValueJson(), &list); err != nil {
				l.world.fail("%s of %s is %s: %v", item.GetKey(), host, item.GetValueJson(), err)
			}
		}
		t.read[cell{host, item.GetKey()}] = list
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.looks = append(l.looks, t)
}

// noneBegan: no transaction began at a participant after it was closed.
func (l *load) noneBegan(host string, closed time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, t := range l.told {
		if t.began.After(closed) && t.outcome != pb.Outcome_OUTCOME_UNSPECIFIED && slices.Contains(t.participants, host) && t.reason.GetCode() != pb.Reason_REQUESTED {
			l.world.fail("%s began at %s, which was closed", t.id, host)
		}
	}
}

// one makes, submits and books one transaction.
func (l *load) one(c *rpc.Client, random *rand.Rand) {
	l.mu.Lock()
	l.next++
	t := &told{n: l.next, id: fmt.Sprintf("t-%d", l.next), read: map[cell][]int{}, began: time.Now()}
	l.told = append(l.told, t)
	l.open++
	l.mu.Unlock()
	req := l.request(t, random)
	limit := patience
	if random.IntN(20) == 0 {
		limit = time.Duration(1 + random.Int64N(int64(50*time.Millisecond))) // it dies
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	if random.IntN(25) == 0 { // somebody else aborts it, at the moment of the decision or so
		after := time.Duration(random.Int64N(int64(300 * time.Millisecond)))
		l.all.Go(func() {
			if sleep(ctx, after) == nil {
				_, _ = c.Abort(ctx, &pb.AbortRequest{Id: t.id}) // whatever it is told, the audit looks at
			}
		})
	}
	r, err := c.Submit(ctx, req)
	if err != nil {
		r, err = l.resolve(c, t, err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open--
	if l.book(t, r, err); t.outcome != pb.Outcome_OUTCOME_UNSPECIFIED {
		t.ended = time.Now() // it is over for good; what is unknown may yet commit
	}
}

// request is a transfer between two participants, or appends and reads at one to three.
func (l *load) request(t *told, random *rand.Rand) *pb.SubmitRequest {
	hosts := append([]string(nil), l.world.partHosts...)
	random.Shuffle(len(hosts), func(i, j int) { hosts[i], hosts[j] = hosts[j], hosts[i] })
	hosts = hosts[:1+random.IntN(len(hosts))]
	t.participants = hosts
	req := &pb.SubmitRequest{Id: t.id, Wait: pb.Wait(random.IntN(2))}
	amount := 1 + random.IntN(30)
	for i, host := range hosts {
		ops := []string{fmt.Sprintf(`{"op":"add","key":"done/%06d","delta":1}`, t.n)}
		if len(hosts) > 1 && i < 2 {
			ops = append(ops, fmt.Sprintf(`{"op":"add","key":%q,"delta":%d,"min":0}`, account(random.IntN(accounts)), amount*(2*i-1)))
		}
		key := fmt.Sprintf("list/%d/%d", t.n/epoch, random.IntN(lists))
		if random.IntN(3) > 0 {
			ops = append(ops, fmt.Sprintf(`{"op":"append","key":%q,"value":%d}`, key, t.n))
			t.appended = append(t.appended, cell{host, key})
		}
		ops = append(ops, fmt.Sprintf(`{"op":"get","key":%q}`, key))
		req.Branches = append(req.Branches, branch(host, ops))
	}
	return req
}

// resolve learns what became of a transaction whose outcome was not known: by
// its id, as the protocol says (P10).
func (l *load) resolve(c *rpc.Client, t *told, err error) (*pb.TransactionResponse, error) {
	unknown, ok := errors.AsType[*rpc.UnknownOutcome](err)
	if !ok {
		return nil, err
	}
	t.id, t.since = unknown.ID, unknown.Since
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	r, err := c.Abort(ctx, &pb.AbortRequest{Id: unknown.ID, Since: &unknown.Since})
	if err != nil {
		return nil, &rpc.UnknownOutcome{ID: unknown.ID, Since: unknown.Since, Err: err}
	}
	return r, nil
}

// book notes what a client was told; the caller holds the lock.
func (l *load) book(t *told, r *pb.TransactionResponse, err error) {
	if err != nil {
		t.err = err
		_, unknown := errors.AsType[*rpc.UnknownOutcome](err)
		t.refused = !unknown && rpc.ReasonOf(err) != rpc.ReasonExpired
		if e := (*rpc.UnknownOutcome)(nil); errors.As(err, &e) {
			t.id, t.since = e.ID, e.Since
		}
		return
	}
	t.id, t.outcome, t.reason = r.GetId(), r.GetOutcome(), r.GetReason()
	if t.outcome != pb.Outcome_COMMIT {
		return
	}
	for _, b := range r.GetBranches() {
		t.once = b.GetVote() == pb.Vote_VOTE_COMMITTED
		results, err := kvop.ParseResults(b.GetResult())
		if err != nil {
			l.world.fail("%s: result of %s: %v", t.id, b.GetParticipant(), err)
			continue
		}
		for _, one := range results {
			if strings.HasPrefix(one.Key, "list/") {
				t.read[cell{b.GetParticipant(), one.Key}] = numbers(one.Value)
			}
		}
	}
}

// numbers are the integers of a list value.
func numbers(v kvop.Value) []int {
	list := []int{}
	elements, _ := v.Elements()
	for _, e := range elements {
		n, _ := strconv.Atoi(string(e.AppendJSON(nil)))
		list = append(list, n)
	}
	return list
}
