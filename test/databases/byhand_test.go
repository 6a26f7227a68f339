package databases

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/concordat-tx/concordat/rpc/pb"
)

// Where agents die: as the decision arrives, and when a branch is prepared and
// nobody knows.
const (
	asCommitArrives = "CONCORDAT_FAILPOINT=participant.commit.receive.before"
	afterPrepare    = "CONCORDAT_FAILPOINT=participant.prepare.answer.before"
)

// TestSettledByHand: an operator settles prepared branches in the databases
// themselves, against what is then decided. That is found out, shown, alerted
// until somebody has seen to it, and never reported as plain success.
func TestSettledByHand(t *testing.T) {
	w := newWorld(t, newBank(t, accounts), "")
	for _, tc := range []struct {
		name string
		// run brings the transaction to its decision, with hands in it.
		run   func(id string)
		hands map[string]pb.Settled // what is recorded of branches
		want  pb.Heuristic
	}{
		{
			"postgres-rolled-back", func(id string) { w.byHand(id, pb.Outcome_COMMIT, pg) },
			map[string]pb.Settled{pg: pb.Settled_HEURISTIC_ROLLBACK}, pb.Heuristic_HEURISTIC_MIXED,
		},
		{
			"mariadb-rolled-back", func(id string) { w.byHand(id, pb.Outcome_COMMIT, maria) },
			map[string]pb.Settled{maria: pb.Settled_HEURISTIC_ROLLBACK}, pb.Heuristic_HEURISTIC_MIXED,
		},
		{
			"postgres-committed", func(id string) { w.byHand(id, pb.Outcome_ABORT, pg) },
			map[string]pb.Settled{pg: pb.Settled_HEURISTIC_COMMIT}, pb.Heuristic_HEURISTIC_MIXED,
		},
		{
			"mariadb-committed", func(id string) { w.byHand(id, pb.Outcome_ABORT, maria) },
			map[string]pb.Settled{maria: pb.Settled_HEURISTIC_COMMIT}, pb.Heuristic_HEURISTIC_MIXED,
		},
		{
			"all-committed", w.allCommittedByHand,
			map[string]pb.Settled{pg: pb.Settled_HEURISTIC_COMMIT, maria: pb.Settled_HEURISTIC_COMMIT}, pb.Heuristic_HEURISTIC_ALL_COMMITTED,
		},
		{
			"all-rolled-back", w.allRolledBackByHand,
			map[string]pb.Settled{pg: pb.Settled_HEURISTIC_HAZARD, maria: pb.Settled_HEURISTIC_HAZARD}, pb.Heuristic_HEURISTIC_MAYBE_MIXED,
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w.t = t
			tc.run(tc.name)
			var r *pb.TransactionResponse
			eventually(t, settles, "what was done by hand is recorded", func() bool {
				var err error
				r, err = w.client.Get(within(t, 5*time.Second), &pb.GetRequest{Id: tc.name})
				return err == nil && len(r.GetPending()) == 0 && r.GetState() >= pb.State_STATE_COMMITTED
			})
			if r.GetHeuristic() != tc.want || !r.GetNeedsOperator() {
				t.Errorf("recorded as %v, needs an operator: %v; want %v", r.GetHeuristic(), r.GetNeedsOperator(), tc.want)
			}
			for _, b := range r.GetBranches() {
				if want, byHand := tc.hands[b.GetParticipant()]; byHand && b.GetSettled() != want || !byHand && b.GetSettled() > pb.Settled_SETTLED_DONE {
					t.Errorf("the branch of %s is recorded as %v", b.GetParticipant(), b.GetSettled())
				}
			}
			w.shownAndAcknowledged(tc.name)
			w.nothingPrepared(settles)
		})
	}
}

// byHand settles one branch against what is decided then.
func (w *world) byHand(id string, decided pb.Outcome, kind string) {
	w.t.Helper()
	last, verb := w.entry(kv, id, 0, -2), "ROLLBACK"
	if decided == pb.Outcome_ABORT {
		last, verb = w.refused(kv, id, 0, -2), "COMMIT"
	}
	s := w.undecided(id, 0, last)
	w.hand(kind, id, verb)
	w.decide()
	if r := s.answer(w.t); r.GetOutcome() != decided {
		w.t.Fatalf("came to %v", r)
	}
	w.holds(kind, id, verb == "COMMIT")
}

// allCommittedByHand commits branches of which nobody has heard that they are prepared.
func (w *world) allCommittedByHand(id string) {
	w.t.Helper()
	w.armed(afterPrepare)
	s := w.submits(&pb.SubmitRequest{Id: id, Timeout: durationpb.New(3 * time.Second), Branches: w.both(id)})
	w.dead(id)
	w.hand(pg, id, "COMMIT")
	w.hand(maria, id, "COMMIT")
	if r := s.answer(w.t); r.GetOutcome() != pb.Outcome_ABORT {
		w.t.Fatalf("came to %v", r)
	}
	for kind, a := range w.agents {
		w.start(a.Process)
		w.holds(kind, id, true)
	}
}

// allRolledBackByHand rolls back what was decided to be committed while nobody
// is there to do it.
func (w *world) allRolledBackByHand(id string) {
	w.t.Helper()
	w.armed(asCommitArrives)
	s := w.submits(&pb.SubmitRequest{Id: id, Branches: w.both(id)})
	if r := s.answer(w.t); r.GetOutcome() != pb.Outcome_COMMIT {
		w.t.Fatalf("came to %v", r)
	}
	w.dead(id)
	w.hand(pg, id, "ROLLBACK")
	w.hand(maria, id, "ROLLBACK")
	for kind, a := range w.agents {
		w.start(a.Process)
		w.holds(kind, id, false)
	}
}

func (w *world) both(id string) []*pb.Branch {
	return []*pb.Branch{w.entry(pg, id, 0, -1), w.entry(maria, id, 0, 1)}
}

// armed starts the agents anew, to die at a point.
func (w *world) armed(point string) {
	w.t.Helper()
	for _, a := range w.agents {
		w.kill(a.Process)
		w.start(a.Process, point)
		a.listens(w.t)
	}
	w.reachable(1)
}

// dead waits until the agents are, and have left a prepared branch each.
func (w *world) dead(id string) {
	w.t.Helper()
	for kind, a := range w.agents {
		eventually(w.t, patience, a.Name+" is dead", func() bool { return !a.Running() })
		if list := w.preparedOf(kind, id); len(list) != 1 {
			w.t.Fatalf("%s has prepared %v", kind, list)
		}
	}
}

// hand settles a branch as an operator of the database would.
func (w *world) hand(kind, id, verb string) {
	w.t.Helper()
	list := w.preparedOf(kind, id)
	if len(list) != 1 {
		w.t.Fatalf("%s has prepared %v", kind, list)
	}
	if kind == pg {
		if err := w.postgres.exec(within(w.t, patience), verb+" PREPARED '"+list[0]+"'"); err != nil {
			w.t.Fatal(err)
		}
		return
	}
	w.maria.detach(w.t, id)
	if err := w.maria.exec(within(w.t, patience), "XA "+verb+" "+list[0]); err != nil {
		w.t.Fatal(err)
	}
	if left := w.preparedOf(kind, id); len(left) > 0 {
		w.t.Fatalf("%v are prepared still", left)
	}
}

// detach ends the session that has prepared a branch: as long as it is there,
// MariaDB lets nobody else settle the branch, and when it has only just gone,
// MariaDB may say OK and do nothing.
func (v mariaVault) detach(t testing.TB, id string) {
	t.Helper()
	ctx := within(t, patience)
	var session int64
	conn, err := mariaDB.Admin().Conn(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	// What the branch has written is not committed yet.
	_, err = conn.ExecContext(ctx, "SET SESSION TRANSACTION ISOLATION LEVEL READ UNCOMMITTED")
	if err == nil {
		err = conn.QueryRowContext(ctx, "SELECT session FROM "+v.name+".concordat_entry WHERE id = ?", id).Scan(&session)
	}
	if err != nil {
		t.Fatal(err)
	}
	_, _ = conn.ExecContext(ctx, fmt.Sprintf("KILL %d", session)) // it may have gone with its agent
	gone := func(query string) func() bool {
		return func() bool {
			var n int
			err := conn.QueryRowContext(ctx, "SELECT COUNT(*) FROM information_schema."+query, session).Scan(&n)
			return err == nil && n == 0
		}
	}
	eventually(t, patience, "the session has ended", gone("PROCESSLIST WHERE ID = ?"))
	for left := gone("INNODB_TRX WHERE trx_mysql_thread_id = ?"); !left() && ctx.Err() == nil; {
		time.Sleep(200 * time.Millisecond) // paces the looks at a copy that is renewed only if nobody has read it for 100 ms
	}
	time.Sleep(200 * time.Millisecond) // paces the operator: nothing shows the very end
}

// holds waits for what the data of a participant say: whether the mark is there.
func (w *world) holds(kind, id string, marked bool) {
	w.t.Helper()
	if found := w.contents(kind); found.marks[id] != marked {
		w.t.Errorf("%s: after a hand's work the mark of %s is there: %v", kind, id, found.marks[id])
	}
}

// shownAndAcknowledged looks for a heuristic where people look.
func (w *world) shownAndAcknowledged(id string) {
	t := w.t
	t.Helper()
	nodes := "--nodes=" + strings.Join(w.Addresses(), ",")
	alerted := func() bool {
		r, err := w.client.ListAlerts(within(t, 5*time.Second))
		return err != nil || slices.ContainsFunc(r.GetAlerts(), func(a *pb.Alert) bool {
			return a.GetName() == "needs_operator" && a.GetEndsAt() == nil && slices.Contains(a.GetTransactions(), id)
		})
	}
	listed := func() bool {
		out := concordat(t, "tx", "list", "--state", "heuristic", nodes)
		return out.status == 0 && strings.Contains(out.stdout, id)
	}
	eventually(t, patience, "the heuristic is alerted", alerted)
	if !listed() {
		t.Error("tx list --state heuristic does not show it")
	}
	if out := concordat(t, "tx", "get", id, nodes); !strings.Contains(out.stdout, "HEURISTIC") {
		t.Errorf("tx get says nothing of it: %s%s", out.stdout, out.stderr)
	}
	if out := concordat(t, "tx", "resolve", id, "--acknowledge", "--operator", "ann", nodes); out.status != 0 {
		t.Errorf("acknowledge: %d, %s", out.status, out.stderr)
	}
	eventually(t, patience, "the alert is over", func() bool { return !alerted() })
	r, err := w.client.Get(within(t, 5*time.Second), &pb.GetRequest{Id: id})
	if err != nil || r.GetNeedsOperator() || r.GetHeuristic() == pb.Heuristic_HEURISTIC_NONE || !listed() {
		t.Errorf("after the acknowledgement: %v, %v", r, err)
	}
}
