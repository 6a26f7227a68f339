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
	Processes []Process  `json:"processes"`
	Load      Load       `json:"load"`
	Failovers []Failover `json:"failovers"`
	Rest      *Rest      `json:"rest"`
	Audit     *Audit     `json:"audit"`
	Checks    []Check    `json:"checks"`
	// States are the nodes' replicated states, by node.
	States map[string]NodeState `json:"states"`
	// Falsified is the booking that was falsified on purpose.
	Falsified string `json:"falsified,omitempty"`
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
}

// NodeState is a node's replicated state.
type NodeState struct {
	Index uint64 `json:"index"`
	Hash  string `json:"hash"`
}

// Run loads the airline, books, kills and audits. An error means that it could
// not be done; what it found is in the Report.
func (d *Demo) Run(ctx context.Context) (*Report, error) {
	world := newAirline(d.cfg.Duration)
	if err := d.load(ctx, world); err != nil {
		return nil, fmt.Errorf("load seats and accounts: %w", err)
	}
	t, err := newTraffic(world, d.cluster.Addresses(), d.cfg.Clients)
	if err != nil {
		return nil, err
	}
	defer t.close()
	r := &Report{Dir: d.dir, States: map[string]NodeState{}}
	began := time.Now()
	r.Failovers, err = d.drive(ctx, t)
	took := time.Since(began)
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	entries := t.ledger.all()
	r.Load = loadOf(entries, d.cfg.Clients, took)
	r.accountFailovers(entries)
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
	for _, req := range a.setup() {
		if err := d.must(ctx, req); err != nil {
			return err
		}
	}
	d.screen.event("loaded", "%s seats on %d flights in seats, %s in %d accounts in payments",
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

// drive runs the load with its kills and returns when every booking is
// answered or given up.
func (d *Demo) drive(ctx context.Context, t *traffic) ([]Failover, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	over := time.NewTimer(d.cfg.Duration)
	defer over.Stop()
	stopShow := d.show(ctx, t.ledger)
	t.start(ctx)
	struck, err := d.strikes(ctx)
	if err == nil {
		select {
		case <-over.C:
		case <-ctx.Done():
		}
	} else {
		cancel()
	}
	t.end()
	stopShow()
	return struck, err
}

// strikes kills the leader as often as wanted, in even parts of the load.
func (d *Demo) strikes(ctx context.Context) ([]Failover, error) {
	part := d.cfg.Duration / time.Duration(d.cfg.Kills+1)
	list := make([]Failover, 0, d.cfg.Kills)
	began := time.Now()
	for i := range d.cfg.Kills {
		if err := wait(ctx, part*time.Duration(i+1)-time.Since(began)); err != nil {
			return list, err
		}
		f, err := d.strike(ctx, min(downtime, part/2))
		if err != nil {
			return list, err
		}
		list = append(list, *f)
	}
	return list, nil
}

// show prints the pace each second until the function that it returns is called.
func (d *Demo) show(ctx context.Context, l *ledger) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				d.screen.pace(l.recent())
			case <-ctx.Done():
				return
			}
		}
	}()
	return func() { cancel(); <-done }
}

// accountFailovers fills in what the clients were told around each kill.
func (r *Report) accountFailovers(entries []entry) {
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
	ctx, cancel := context.WithTimeout(ctx, setupTimeout)
	defer cancel()
	found, err := readBooks(ctx, d.client)
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
			if err := d.must(ctx, e.forgery()); err != nil {
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
