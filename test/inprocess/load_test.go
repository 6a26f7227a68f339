package inprocess

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

var (
	soak = flag.Duration("soak", 5*time.Second, "how long each test under load runs")
	seed = flag.Uint64("seed", 0, "seed of the random tests; 0 draws one")
)

// seeded is the run's source of chance; its seed is printed with the command
// that repeats it.
func seeded(t *testing.T) *rand.Rand {
	s := *seed
	if s == 0 {
		s = rand.Uint64()
	}
	t.Logf("repeat with: go test -race ./test/inprocess -run '^%s$' -seed %d -soak %s", t.Name(), s, *soak)
	return rand.New(rand.NewPCG(s, 1))
}

const (
	accounts = 20  // at each bank
	funds    = 100 // of each account
)

// load moves money between banks, which are participants, and keeps what it
// was told about every transfer. Each transfer adds 1 to a marker of its own
// at each of its banks, so that the audit sees what ran, and how often.
type load struct {
	w     *world
	banks []string

	mu       sync.Mutex
	told     map[string]transfer // by id
	reasons  map[string]int      // of aborts
	failures []error
}

// transfer is what its client knows of it.
type transfer struct {
	banks   []string
	outcome pb.Outcome
	refused error // it never began
	unknown *rpc.UnknownOutcome
	request *pb.SubmitRequest
}

func newLoad(w *world, banks ...string) *load {
	l := &load{w: w, banks: banks, told: map[string]transfer{}, reasons: map[string]int{}}
	for _, bank := range banks {
		var ops []string
		for a := range accounts {
			ops = append(ops, add(account(a), funds))
		}
		w.commits(request("fund-"+bank, pb.Wait_COMPLETED, branch(bank, ops...)))
	}
	return l
}

func account(a int) string { return fmt.Sprintf("acct/%02d", a) }

// run submits transfers with n clients until ctx ends.
func (l *load) run(ctx context.Context, n int, r *rand.Rand) {
	var all sync.WaitGroup
	for c := range n {
		own := rand.New(rand.NewPCG(r.Uint64(), uint64(c)))
		// Every client begins at another node.
		nodes := l.w.addresses()
		client := l.w.newClient(append(nodes[c%len(nodes):], nodes[:c%len(nodes)]...)...)
		all.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				l.transfer(ctx, client, own, fmt.Sprintf("c%d-%d", c, i))
			}
		})
	}
	all.Wait()
}

// transfer moves a random amount; the account must not fall below zero.
func (l *load) transfer(ctx context.Context, client *rpc.Client, r *rand.Rand, id string) {
	from := l.banks[r.IntN(len(l.banks))]
	to := l.banks[r.IntN(len(l.banks))]
	amount := 1 + r.IntN(40)
	a, b := account(r.IntN(accounts)), account(r.IntN(accounts))
	marker := add("m/"+id, 1)
	req := request(id, pb.Wait(r.IntN(2)))
	t := transfer{banks: []string{from}, request: req}
	if from == to {
		req.Branches = []*pb.Branch{branch(from, marker, addMin(a, -amount, 0), add(b, amount))}
	} else {
		t.banks = append(t.banks, to)
		req.Branches = []*pb.Branch{branch(from, marker, addMin(a, -amount, 0)), branch(to, marker, add(b, amount))}
	}
	call, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	answer, err := client.Submit(call, req)
	l.note(id, t, answer, err)
}

func (l *load) note(id string, t transfer, answer *pb.TransactionResponse, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch u := (*rpc.UnknownOutcome)(nil); {
	case err == nil:
		t.outcome = answer.GetOutcome()
		if t.outcome == pb.Outcome_ABORT {
			l.reasons[answer.GetReason().GetCode().String()]++
		}
	case errors.As(err, &u):
		t.unknown = u
	case rpc.FromError(err).Definite() || rpc.ReasonOf(err) == rpc.ReasonCancelled || rpc.ReasonOf(err) == rpc.ReasonDeadline:
		t.refused = err // the contract of Submit: whatever is not an UnknownOutcome has not begun
	default:
		l.failures = append(l.failures, fmt.Errorf("%s: %w", id, err))
	}
	l.told[id] = t
}

// settle asks for every unknown outcome until it is known: by submitting the
// same again, or by aborting the id.
func (l *load) settle() {
	l.w.t.Helper()
	for i, id := range slices.Sorted(maps.Keys(l.told)) {
		t := l.told[id]
		if t.unknown == nil {
			continue
		}
		u := t.unknown
		var answer *pb.TransactionResponse
		var err error
		if i%2 == 0 {
			again := proto.Clone(t.request).(*pb.SubmitRequest)
			again.Id, again.Since = u.ID, proto.Uint64(u.Since)
			answer, err = l.w.client.Submit(l.w.ctx(), again, rpc.WithConflictRetry(false))
		} else {
			answer, err = l.w.client.Abort(l.w.ctx(), &pb.AbortRequest{Id: u.ID, Since: proto.Uint64(u.Since)})
		}
		if err != nil || answer.GetOutcome() == pb.Outcome_OUTCOME_UNSPECIFIED {
			l.w.t.Errorf("the unknown outcome of %s (of %s) is not settled: %v, %v", u.ID, id, answer, err)
			continue
		}
		t.outcome, t.unknown = answer.GetOutcome(), nil
		l.told[id] = t
	}
}

// audit compares what the clients were told with what the banks hold.
func (l *load) audit() {
	l.w.t.Helper()
	for _, err := range l.failures {
		l.w.t.Errorf("neither an outcome, a refusal nor an unknown: %v", err)
	}
	l.settle()
	l.w.settled()
	sum, commits, aborts, refused := 0, 0, 0, 0
	markers := map[string]map[string]string{}
	for _, bank := range l.banks {
		markers[bank] = l.w.parties[bank].scan("m/")
		for key, value := range l.w.parties[bank].scan("acct/") {
			var v int
			if _, err := fmt.Sscan(value, &v); err != nil || v < 0 {
				l.w.t.Errorf("%s of %s is %s", key, bank, value)
			}
			sum += v
		}
	}
	if want := len(l.banks) * accounts * funds; sum != want {
		l.w.t.Errorf("the banks hold %d, want %d", sum, want)
	}
	for id, t := range l.told {
		want := ""
		switch {
		case t.outcome == pb.Outcome_COMMIT:
			want = "1"
			commits++
		case t.refused != nil:
			refused++
		default:
			aborts++
		}
		for _, bank := range t.banks {
			if got := markers[bank]["m/"+id]; got != want {
				l.w.t.Errorf("%s (%v, %v): the marker at %s is %q, want %q", id, t.outcome, t.refused, bank, got, want)
			}
		}
	}
	for bank, all := range markers {
		for key := range all {
			if _, ok := l.told[strings.TrimPrefix(key, "m/")]; !ok {
				l.w.t.Errorf("%s has %s, which nobody submitted", bank, key)
			}
		}
	}
	l.w.t.Logf("%d commits, %d aborts %v, %d refused", commits, aborts, l.reasons, refused)
	if commits == 0 {
		l.w.t.Error("nothing was committed")
	}
}

// onlyBusiness checks that nothing aborted for another reason than the
// business's own or a conflict.
func (l *load) onlyBusiness() {
	l.w.t.Helper()
	for reason, n := range l.reasons {
		if reason != pb.Reason_CONDITION.String() && reason != pb.Reason_CONFLICT.String() {
			l.w.t.Errorf("%d transactions aborted with %s", n, reason)
		}
	}
}

// scan reads all keys with a prefix, as committed.
func (p *party) scan(prefix string) map[string]string {
	p.w.t.Helper()
	all, after := map[string]string{}, ""
	for {
		r, err := p.data().Scan(p.w.ctx(), &pb.ScanRequest{Prefix: prefix, After: after, Limit: 10000})
		if err != nil {
			p.w.t.Fatalf("scan %s: %v", p.name, err)
		}
		for _, item := range r.GetItems() {
			all[item.GetKey()] = string(item.GetValueJson())
			after = item.GetKey()
		}
		if !r.GetMore() {
			return all
		}
	}
}
