package demo

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/concordat-tx/concordat/rpc/kvop"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// apply does to the books what a participant does for the payloads of a
// transaction whose conditions hold.
func apply(t *testing.T, data map[string]map[string]kvop.Value, req *pb.SubmitRequest) {
	t.Helper()
	for _, branch := range req.GetBranches() {
		ops, err := kvop.Parse(branch.GetPayload())
		if err != nil {
			t.Fatal(err)
		}
		keys := data[branch.GetParticipant()]
		for _, op := range ops {
			switch op.Kind {
			case kvop.Put:
				keys[op.Key] = op.Value
			case kvop.Delete:
				delete(keys, op.Key)
			case kvop.Add:
				n, _ := keys[op.Key].Number()
				keys[op.Key] = kvop.Number(n + op.Delta)
			case kvop.Append:
				list := keys[op.Key]
				if list.Type() == 0 {
					list = kvop.ListOf()
				}
				keys[op.Key] = list.With(op.Values...)
			default:
				t.Fatalf("unexpected %s", op.Kind)
			}
		}
	}
}

// scene is an airline with bookings: all but the last two committed, one of
// which aborted by a condition.
type scene struct {
	world   *airline
	data    map[string]map[string]kvop.Value
	entries []entry
}

func newScene(t *testing.T) *scene {
	t.Helper()
	s := &scene{world: newAirline(time.Second), data: map[string]map[string]kvop.Value{seats: {}, payments: {}, profiles: {}}}
	for _, req := range s.world.setup(kvKeepers()) {
		apply(t, s.data, req)
	}
	for i := range int64(40) {
		b := s.world.draw(i)
		apply(t, s.data, b.request(kvKeepers()))
		s.entries = append(s.entries, entry{booking: b, outcome: pb.Outcome_COMMIT})
	}
	s.entries = append(s.entries, entry{
		booking: s.world.draw(40), outcome: pb.Outcome_ABORT, reason: &pb.Reason{Code: pb.Reason_CONDITION},
	})
	return s
}

func (s *scene) books() *books {
	b := newBooks()
	for name, keys := range s.data {
		for key, value := range keys {
			if err := b.enter(name, key, []byte(value.String())); err != nil {
				b.strange = append(b.strange, fmt.Sprintf("%s %s: %v", name, key, err))
			}
		}
	}
	return b
}

// report judges a scene as if the cluster were at rest and in agreement.
func (s *scene) report() *Report {
	same := NodeState{Index: 7, Hash: "0123456789abcdef"}
	r := &Report{
		Load: loadOf(s.entries, 1, time.Second), Rest: &Rest{}, Audit: audit(s.world, s.books(), s.entries),
		States: map[string]NodeState{"n1": same, "n2": same, "n3": same},
	}
	r.judge()
	return r
}

func TestAuditOfWholeBookings(t *testing.T) {
	r := newScene(t).report()
	if !r.OK || len(r.Problems) > 0 {
		t.Fatalf("problems: %q", r.Problems)
	}
	if a := r.Audit; a.Bookings != 40 || a.Commits != 40 || a.Aborts != 1 || a.SeatsSold != 40 || a.Revenue == 0 {
		t.Errorf("got %+v", a)
	}
}

// Whatever is wrong is found, and named.
func TestAuditFinds(t *testing.T) {
	const victim = 17
	add := func(s *scene, participant, key string, delta int64) {
		n, _ := s.data[participant][key].Number()
		s.data[participant][key] = kvop.Number(n + delta)
	}
	for name, tc := range map[string]struct {
		do   func(t *testing.T, s *scene, b booking)
		want string // in some problem; %s is the booking
	}{
		"the forgery":               {func(t *testing.T, s *scene, b booking) { apply(t, s.data, b.forgery(kvKeepers())) }, "%s: payments has it"},
		"a payment without a trace": {func(_ *testing.T, s *scene, b booking) { delete(s.data[payments], bookingKey+b.ID) }, "%s in payments"},
		"a lost trip": {func(_ *testing.T, s *scene, b booking) {
			delete(s.data[profiles], bookingKey+b.ID)
		}, "profiles does not have it"},
		"a trip twice": {func(_ *testing.T, s *scene, b booking) { add(s, profiles, tripsKey+b.Customer, 1) }, "profiles trips/"},
		"another price": {func(_ *testing.T, s *scene, b booking) {
			b.Price++
			s.data[payments][bookingKey+b.ID] = kvop.Text(b.String())
		}, "%s: "},
		"a seat sold twice":  {func(_ *testing.T, s *scene, b booking) { add(s, seats, flightKey+b.Flight, -1) }, "seats: "},
		"money from nowhere": {func(_ *testing.T, s *scene, b booking) { add(s, payments, accountKey+b.Customer, 5) }, "money: "},
		"money to another":   {func(_ *testing.T, s *scene, b booking) { add(s, payments, revenueKey+b.Flight, 5) }, "payments revenue/"},
		"an abort that took": {func(_ *testing.T, s *scene, b booking) { s.entries[victim].outcome = pb.Outcome_ABORT }, "left anything: %s"},
		"an unknown outcome": {func(_ *testing.T, s *scene, _ booking) { s.entries[victim] = entry{err: errors.New("lost")} }, "lost"},
		"a booking of nobody": {func(_ *testing.T, s *scene, b booking) {
			s.entries = append(s.entries[:victim], s.entries[victim+1:]...)
		}, "%s was booked by nobody"},
		"no such key": {func(_ *testing.T, s *scene, _ booking) { s.data[seats]["x/y"] = kvop.Number(1) }, "seats x/y"},
		"an abort for no good reason": {func(_ *testing.T, s *scene, _ booking) {
			s.entries[40].reason = &pb.Reason{Code: pb.Reason_TIMEOUT}
		}, "any reason but"},
		"a commit that never was": {func(_ *testing.T, s *scene, _ booking) { s.entries[40].outcome = pb.Outcome_COMMIT }, "booking-000040 in seats"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			b := s.entries[victim].booking
			tc.do(t, s, b)
			r := s.report()
			want := strings.ReplaceAll(tc.want, "%s", b.ID)
			if all := strings.Join(r.Problems, "\n"); r.OK || !strings.Contains(all, want) {
				t.Errorf("ok %v; %q is not among the problems:\n%s", r.OK, want, all)
			}
		})
	}
}

// What the nodes say can be wrong as well.
func TestJudgeOfNodes(t *testing.T) {
	for name, do := range map[string]func(r *Report){
		"a lock":            func(r *Report) { r.Rest.Locks = 1 },
		"in doubt":          func(r *Report) { r.Rest.InDoubt = 1 },
		"a prepared branch": func(r *Report) { r.Rest.Prepared = 1 },
		"not settled": func(r *Report) {
			r.Strikes = []*Strike{{What: "kill", Role: KillDatabase, Back: new(Millis), FirstCommit: new(Millis)}}
		},
		"an alert":            func(r *Report) { r.Rest.Alerts = 1 },
		"an abort they count": func(r *Report) { r.Rest.Blamed = 1 },
		"another hash":        func(r *Report) { r.States["n2"] = NodeState{7, "another"} },
		"a silent node":       func(r *Report) { delete(r.States, "n2") },
		"nothing booked":      func(r *Report) { r.Audit.Bookings = 0 },
		"not resumed":         func(r *Report) { r.Failovers = []*Failover{{FirstCommit: new(Millis), Open: 1}} },
		"no commit after":     func(r *Report) { r.Failovers = []*Failover{{}} },
		"aborted by it":       func(r *Report) { r.Failovers = []*Failover{{FirstCommit: new(Millis), Aborted: 1}} },
	} {
		t.Run(name, func(t *testing.T) {
			r := newScene(t).report()
			do(r)
			if r.judge(); r.OK || len(r.Problems) != 1 {
				t.Errorf("ok %v, problems %q", r.OK, r.Problems)
			}
		})
	}
}

func TestStartErrors(t *testing.T) {
	var screen strings.Builder
	cfg := Config{Binary: "/no/such/program", Clients: 1, Duration: killSpacing, Screen: &screen}
	if _, err := Start(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "/no/such/program") {
		t.Errorf("got %v", err)
	}
	var err error
	if cfg.Binary, err = exec.LookPath("false"); err != nil { // ends at once
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if _, err := Start(ctx, cfg); err == nil || !strings.Contains(err.Error(), "ended: exit status 1") {
		t.Errorf("got %v", err)
	}
}
