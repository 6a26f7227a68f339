package demo

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/concordat-tx/concordat/rpc/pb"
)

// setupTimeout bounds the loading of seats and accounts, and the audit's reading.
const setupTimeout = time.Minute

// Report is what a demo found.
type Report struct {
	OK       bool     `json:"ok"`
	Problems []string `json:"problems"`
	Dir      string   `json:"dir"`
	// Processes are the children at the end.
	Processes []Process   `json:"processes"`
	Load      Load        `json:"load"`
	Failovers []*Failover `json:"failovers"`
	// Strikes are all that was done to processes but the kills of leaders.
	Strikes []*Strike `json:"strikes"`
	// Proofs are what was checked while the load ran.
	Proofs Proofs  `json:"proofs"`
	Rest   *Rest   `json:"rest"`
	Audit  *Audit  `json:"audit"`
	Checks []Check `json:"checks"`
	// States are the nodes' replicated states, by node.
	States map[string]NodeState `json:"states"`
	// Falsified is the booking that was falsified on purpose.
	Falsified string `json:"falsified,omitempty"`
	// Kept: the cluster was to go on afterwards.
	Kept bool `json:"kept,omitempty"`

	databases bool
}

// Load is what the clients did and were told.
type Load struct {
	Clients int     `json:"clients"`
	Took    Millis  `json:"took_ms"`
	Commits int     `json:"committed"`
	Rate    float64 `json:"commits_per_second"`
	P50     Millis  `json:"p50_ms"`
	P99     Millis  `json:"p99_ms"`
	// Conditions are bookings refused by their own: sold out, no money. Conflicts
	// were given up at the client's deadline.
	Conditions int `json:"aborted_condition"`
	Conflicts  int `json:"aborted_conflict"`
	// Other aborts, unknown outcomes (settled by id), and Submits that were
	// refused before anything began and made again.
	Other    int `json:"aborted_other_reason"`
	Unknown  int `json:"unknown"`
	Refusals int `json:"refusals"`
	// Excused aborts had no reason of their own, but a participant was out.
	Excused int `json:"aborted_participant_out"`
	// Wanted is the rate asked for, 0 for as fast as it goes; Skipped bookings
	// were due and not made, because no client was free for long.
	Wanted  int `json:"rate_wanted"`
	Skipped int `json:"skipped"`
}

// NodeState is a node's replicated state.
type NodeState struct {
	Index uint64 `json:"index"`
	Hash  string `json:"hash"`
}

// Run loads the airline, books, kills and audits. An error means that it could
// not be done; what it found is in the Report. With a Terminal it takes that
// over meanwhile, and gives it back however it ends.
func (d *Demo) Run(ctx context.Context) (*Report, error) {
	if d.cfg.Terminal == nil {
		return d.run(ctx)
	}
	return d.watched(ctx)
}

func (d *Demo) run(ctx context.Context) (*Report, error) {
	world := newAirline(d.cfg.Duration)
	if err := d.load(ctx, world); err != nil {
		return nil, fmt.Errorf("load seats and accounts: %w", err)
	}
	t, err := newTraffic(world, d.keepers, d.cluster.Addresses(), d.cfg.Clients, d.cfg.Rate)
	if err != nil {
		return nil, err
	}
	defer t.close()
	r := &Report{Dir: d.dir, Kept: d.cfg.Keep, databases: d.cfg.Databases, States: map[string]NodeState{}}
	began := time.Now()
	err = d.drive(ctx, t)
	took := time.Since(began)
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	entries := t.ledger.all()
	r.Failovers, r.Strikes = d.hand.found()
	excuse(entries, r.Strikes)
	r.Load = loadOf(entries, d.cfg.Clients, took)
	r.Load.Wanted, r.Load.Skipped = d.cfg.Rate, int(t.skipped.Load())
	r.Proofs = d.prover.found()
	r.account(entries)
	if err == nil {
		err = d.examine(ctx, r, world, entries)
	}
	if err != nil {
		return nil, err
	}
	r.Processes = d.processes()
	r.judge()
	return r, nil
}

// load runs the set-up transactions.
func (d *Demo) load(ctx context.Context, a *airline) error {
	d.phase("loading seats and accounts")
	for _, req := range a.setup(d.keepers) {
		if err := d.must(ctx, req); err != nil {
			return err
		}
	}
	d.screen.event("loaded", "%s seats on %d flights, %s in %d accounts",
		grouped(sum(a.seats)), flights, grouped(sum(a.money)), customers)
	return nil
}

// must commits a transaction of the demo's own.
func (d *Demo) must(ctx context.Context, req *pb.SubmitRequest) error {
	ctx, cancel := context.WithTimeout(ctx, setupTimeout)
	defer cancel()
	resp, err := d.client.Submit(ctx, req)
	switch {
	case err != nil:
		return err
	case resp.GetOutcome() != pb.Outcome_COMMIT:
		return fmt.Errorf("transaction %s aborted: %s", req.GetId(), resp.GetReason())
	case len(resp.GetPending()) > 0:
		return fmt.Errorf("transaction %s is not applied yet by %v", req.GetId(), resp.GetPending())
	}
	return nil
}

// account fills in what the clients were told around each kill and strike.
func (r *Report) account(entries []entry) {
	for _, s := range r.Strikes {
		s.account(entries)
	}
	for i := range r.Failovers {
		until := time.Now()
		if i+1 < len(r.Failovers) {
			until = r.Failovers[i+1].at
		}
		r.Failovers[i].account(entries, until)
	}
}

// examine awaits the end of everything, reads the participants and audits.
func (d *Demo) examine(ctx context.Context, r *Report, world *airline, entries []entry) (err error) {
	if r.Rest, err = d.settled(ctx); err != nil {
		return fmt.Errorf("after the load: %w", err)
	}
	if d.cfg.Falsify {
		if r.Falsified, err = d.falsify(ctx, entries); err != nil {
			return fmt.Errorf("falsify a booking: %w", err)
		}
		if r.Rest, err = d.settled(ctx); err != nil {
			return fmt.Errorf("after the forgery: %w", err)
		}
	}
	d.phase("auditing every booking")
	ctx, cancel := context.WithTimeout(ctx, setupTimeout)
	defer cancel()
	found, err := readBooks(ctx, d.client, d.stores)
	if err != nil {
		return err
	}
	r.Audit = audit(world, found, entries)
	states, err := d.cluster.StateHashes(ctx)
	if err != nil {
		return err
	}
	for id, s := range states {
		r.States[id] = NodeState{s.GetIndex(), s.GetHash()}
	}
	d.screen.event("audited", "%s bookings in %d participants", grouped(r.Audit.Bookings), len(participants))
	return nil
}

// falsify breaks a booking that was committed.
func (d *Demo) falsify(ctx context.Context, entries []entry) (string, error) {
	for i := range entries {
		if e := &entries[i]; e.committed() {
			if err := d.must(ctx, e.forgery(d.keepers)); err != nil {
				return "", err
			}
			d.screen.alarm("FORGERY", "%s was removed from seats, and from nowhere else", e.ID)
			return e.ID, nil
		}
	}
	return "", errors.New("none was committed")
}

func loadOf(entries []entry, clients int, took time.Duration) Load {
	p := paceOf(entries)
	l := Load{Clients: clients, Took: *millis(took), Commits: p.commits, Conditions: p.conditions,
		Rate: float64(p.commits) / took.Seconds(), P50: *millis(p.p50), P99: *millis(p.p99)}
	for i := range entries {
		e := &entries[i]
		switch {
		case e.blamed():
			l.Other++
		case e.excused:
			l.Excused++
		case e.reason.GetCode() == pb.Reason_CONFLICT:
			l.Conflicts++
		}
		if e.unknown {
			l.Unknown++
		}
		l.Refusals += e.refusals
	}
	return l
}
