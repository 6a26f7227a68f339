package demo

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/kvop"
	"github.com/concordat-tx/concordat/rpc/pb"
)

const (
	// proofPause is the time between the starts of two checks.
	proofPause = time.Second
	// proofTimeout bounds one check, which waits for locks and for failovers.
	proofTimeout = 8 * time.Second
	// sampleBookings of the last answers and sampleFlights in turn are read by
	// one transaction: shared locks on that many keys, held for moments.
	sampleBookings = 20
	sampleFlights  = 40
	// settleLag keeps to answers whose bookings have probably been applied; the
	// transaction would wait for the others.
	settleLag = 300 * time.Millisecond
)

// Proofs are the checks made while the load ran.
type Proofs struct {
	// Made checks, of so many bookings in all; Failed ones could not be made,
	// since a participant or the leader was out. Sums are how often all money was counted.
	Made     int `json:"made"`
	Bookings int `json:"bookings"`
	Sums     int `json:"sums"`
	Failed   int `json:"not_made"`
	// Wrong is everything that must not be.
	Wrong []string `json:"wrong"`
}

// Proof is one check: what the cluster's own transaction read, under shared
// locks in all participants at once, and what the accounts held at one point in time.
type Proof struct {
	At   time.Time
	Took time.Duration
	// Whole bookings that were answered COMMIT, Absent ones that were answered
	// ABORT, and Flights whose takings are what their seats sold make.
	Whole, Absent, Flights int
	// Money of all accounts and flights; Counted says that it was read.
	Money   int64
	Counted bool
	Wrong   []string
	// Err says why it was not made.
	Err error
}

// prover checks every second, while the load runs, that no booking is half
// done and that no money comes or goes.
type prover struct {
	d     *Demo
	load  *traffic
	money []string // every key that holds some
	total int64

	mu     sync.Mutex // guards what follows
	proofs Proofs
	latest Proof
	good   Proof // the latest that was made
}

func newProver(d *Demo, t *traffic) *prover {
	p := &prover{d: d, load: t, total: sum(t.airline.money), proofs: Proofs{Wrong: []string{}}}
	for _, c := range t.airline.customers {
		p.money = append(p.money, accountKey+c)
	}
	for _, f := range t.airline.flights {
		p.money = append(p.money, revenueKey+f)
	}
	return p
}

// run checks until ctx ends.
func (p *prover) run(ctx context.Context) {
	for n := 0; ; n++ {
		began := time.Now()
		proof := p.prove(ctx, n)
		if ctx.Err() != nil {
			return
		}
		p.note(proof)
		if wait(ctx, proofPause-time.Since(began)) != nil {
			return
		}
	}
}

func (p *prover) note(proof Proof) {
	p.mu.Lock()
	p.latest = proof
	if proof.Err == nil {
		p.good = proof
		p.proofs.Made++
		p.proofs.Bookings += proof.Whole + proof.Absent
	} else {
		p.proofs.Failed++
	}
	if proof.Counted {
		p.proofs.Sums++
	}
	p.proofs.Wrong = append(p.proofs.Wrong, proof.Wrong...)
	p.mu.Unlock()
	for _, w := range proof.Wrong {
		p.d.screen.alarm("WRONG", "%s", w)
	}
}

// found is all that was checked so far.
func (p *prover) found() Proofs {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.proofs
}

// standing is what the checks came to so far, for whoever watches.
type standing struct {
	Proofs
	// Good is the latest check that was made; its At is zero if none was.
	Good Proof
	// Failing says why the latest was not made; empty if it was.
	Failing string
}

func (p *prover) last() standing {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := standing{Proofs: p.proofs, Good: p.good}
	if p.latest.Err != nil {
		s.Failing = p.latest.Err.Error()
	}
	return s
}

// prove makes one check.
func (p *prover) prove(ctx context.Context, n int) Proof {
	ctx, cancel := context.WithTimeout(ctx, proofTimeout)
	defer cancel()
	proof := Proof{At: time.Now()}
	q, b := p.question(ctx, n), newBooks()
	if proof.Err = p.read(ctx, q, b); proof.Err == nil {
		q.judge(b, &proof)
		proof.Err = p.count(ctx, &proof)
	}
	proof.Took = time.Since(proof.At)
	return proof
}

// read takes down what is asked.
func (p *prover) read(ctx context.Context, q *question, b *books) error {
	if req := q.request(); len(req.GetBranches()) > 0 {
		resp, err := p.d.client.Submit(ctx, req)
		switch {
		case err != nil:
			return plainly(err)
		case resp.GetOutcome() != pb.Outcome_COMMIT:
			return fmt.Errorf("%s (%s)", resp.GetReason().GetCode(), resp.GetReason().GetParticipant())
		case resp.GetResults() != pb.Results_RESULTS_COMPLETE:
			return errors.New("what was read was lost with the leader")
		}
		if err := q.enter(req, resp, b); err != nil {
			return err
		}
	}
	if len(p.d.stores) > 0 {
		return p.d.readFlights(ctx, q.flights, b)
	}
	return nil
}

// plainly is an error in as few words as will do.
func plainly(err error) error {
	if _, ok := errors.AsType[*rpc.UnknownOutcome](err); ok {
		return errors.New("no answer in time")
	}
	return errors.New(string(rpc.ReasonOf(err)))
}

// count adds up all money at one point in time.
func (p *prover) count(ctx context.Context, proof *Proof) error {
	money, err := p.allMoney(ctx)
	if err != nil {
		return err
	}
	proof.Money = money
	if proof.Counted = true; proof.Money != p.total {
		proof.Wrong = append(proof.Wrong, fmt.Sprintf("money: all accounts and flights hold %s, and there was %s", grouped(proof.Money), grouped(p.total)))
	}
	return nil
}

// allMoney reads every account and all takings, at one point in time.
func (p *prover) allMoney(ctx context.Context) (total int64, err error) {
	if s := p.d.storeOf(payments); s != nil {
		if total, err = s.money(ctx); err != nil {
			return 0, fmt.Errorf("%s out", s.name)
		}
		return total, nil
	}
	items, err := p.d.client.ReadKV(ctx, payments, p.money...)
	if err != nil {
		return 0, plainly(err)
	}
	for _, item := range items {
		if !item.GetExists() {
			continue // a flight that nobody has booked
		}
		v, err := kvop.ParseValue(item.GetValueJson(), len(item.GetValueJson()))
		if err != nil {
			return 0, err
		}
		amount, _ := v.Number()
		total += amount
	}
	return total, nil
}

// question is what one check reads in one transaction.
type question struct {
	id      string
	keepers keepers
	world   *airline
	told    []entry // bookings and what their clients were told
	flights []string
}

// question picks from the latest answers, and the flights in turn.
func (p *prover) question(ctx context.Context, n int) *question {
	q := &question{id: fmt.Sprintf("proof-%06d", n+1), keepers: p.d.keepers, world: p.load.airline}
	latest := p.load.ledger.from(p.load.ledger.length() - 5*sampleBookings*nodes)
	ripe := time.Now().Add(-settleLag)
	rand.Shuffle(len(latest), func(i, j int) { latest[i], latest[j] = latest[j], latest[i] })
	for _, e := range latest {
		if e.outcome != pb.Outcome_OUTCOME_UNSPECIFIED && e.ended.Before(ripe) && len(q.told) < sampleBookings && p.visible(ctx, &e) {
			q.told = append(q.told, e)
		}
	}
	for i := range sampleFlights {
		q.flights = append(q.flights, q.world.flights[(n*sampleFlights+i)%flights])
	}
	return q
}

// visible reports whether what is there of a booking can be read. In KV a read
// waits for a branch that is prepared; in a database it does not see what that
// will commit, so only bookings are asked for that every participant has committed.
func (p *prover) visible(ctx context.Context, e *entry) bool {
	if len(p.d.stores) == 0 || !e.committed() {
		return true
	}
	t, err := p.d.client.Get(ctx, &pb.GetRequest{Id: e.ID})
	return err == nil && t.GetOutcome() == pb.Outcome_COMMIT && len(t.GetPending()) == 0
}

// request reads the markers in all three, and seats and takings of the flights.
func (q *question) request() *pb.SubmitRequest {
	req := &pb.SubmitRequest{Id: q.id}
	for _, name := range participants {
		if look := q.keepers[name].look(q.told, q.flights); look != nil {
			req.Branches = append(req.Branches, &pb.Branch{Participant: name, Payload: look})
		}
	}
	return req
}

// enter takes down what the branches have read.
func (q *question) enter(req *pb.SubmitRequest, resp *pb.TransactionResponse, b *books) error {
	read := map[string]bool{}
	for _, s := range resp.GetBranches() {
		read[s.GetParticipant()] = true
		if err := q.keepers[s.GetParticipant()].enter(s.GetResult(), b); err != nil {
			return err
		}
	}
	for _, branch := range req.GetBranches() {
		if !read[branch.GetParticipant()] {
			return fmt.Errorf("the answer lacks %s", branch.GetParticipant())
		}
	}
	return nil
}

// judge compares what was read with what clients were told, and flights' seats
// with their takings.
func (q *question) judge(b *books, proof *Proof) {
	for i := range q.told {
		q.judgeBooking(&q.told[i], b, proof)
	}
	for _, f := range q.flights {
		if q.skipped(f, b) {
			continue
		}
		sold := q.world.seats[f] - b.seats[f]
		if due := sold * q.world.prices[f]; due == b.revenue[f] {
			proof.Flights++
		} else {
			proof.Wrong = append(proof.Wrong, fmt.Sprintf("flight %s: %d seats sold make %d, and it took %d", f, sold, due, b.revenue[f]))
		}
	}
}

// skipped reports whether a booking of the flight was under way, so that a
// database passed over it.
func (q *question) skipped(flight string, b *books) bool {
	_, bySeats := b.seats[flight]
	_, byRevenue := b.revenue[flight]
	_, rows := q.keepers[payments].(*sqlKeeper)
	return rows && !(bySeats && byRevenue)
}

func (q *question) judgeBooking(e *entry, b *books, proof *Proof) {
	there, same := 0, 0
	for _, name := range participants {
		if r, ok := b.marked[name][e.ID]; ok {
			there++
			if r == e.record {
				same++
			}
		}
	}
	switch {
	case e.committed() && same == len(participants):
		proof.Whole++
	case !e.committed() && there == 0:
		proof.Absent++
	case there == len(participants):
		proof.Wrong = append(proof.Wrong, fmt.Sprintf("%s was answered %s, and all three have it: %s", e.ID, e.outcome, b.compare(e.ID)))
	default:
		proof.Wrong = append(proof.Wrong, fmt.Sprintf("%s was answered %s: %s", e.ID, e.outcome, b.compare(e.ID)))
	}
}
