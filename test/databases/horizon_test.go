package databases

import (
	"slices"
	"testing"
	"time"

	"github.com/concordat-tx/concordat/rpc/pb"
)

// TestVacuumHorizon: what stays prepared keeps PostgreSQL from removing what is
// dead, of any table. It alerts before anybody has to find that out, in either
// database, and the alert is over when the branch is.
func TestVacuumHorizon(t *testing.T) {
	const after = 300 * time.Millisecond
	w := newWorld(t, newBank(t, accounts), "", "--alert-after", after.String())
	alerted := func(kind, id string) bool {
		r, err := w.client.ListAlerts(within(t, 5*time.Second))
		return err == nil && slices.ContainsFunc(r.GetAlerts(), func(a *pb.Alert) bool {
			return a.GetName() == "in_doubt" && a.GetParticipant() == w.name(kind) && a.GetEndsAt() == nil && slices.Contains(a.GetTransactions(), id)
		})
	}
	horizon := func() string {
		r, err := w.client.Census(within(t, patience), w.name(pg))
		if err != nil {
			t.Fatal(err)
		}
		return r.GetHorizon()
	}
	const id = "long"
	s := w.undecided(id, 0, w.entry(kv, id, 0, -2))
	prepared := time.Now()
	execute(t, w.postgres, "CREATE TABLE dead AS SELECT generate_series(1, 1000) AS n", "DELETE FROM dead", "VACUUM dead")
	size := func() int64 {
		n, err := w.postgres.number(within(t, patience), "SELECT pg_relation_size('dead')")
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if size() == 0 || horizon() == "" {
		t.Errorf("what died while a branch was prepared takes %d bytes; the census says %q", size(), horizon())
	}
	for _, kind := range []string{pg, maria} {
		eventually(t, settles, "the branch of "+kind+" alerts", func() bool { return alerted(kind, id) })
	}
	t.Logf("both alert %v after they were prepared, with --alert-after %v", time.Since(prepared).Round(time.Millisecond), after)
	w.decide()
	if r := s.answer(t); r.GetOutcome() != pb.Outcome_COMMIT {
		t.Errorf("came to %v", r)
	}
	w.nothingPrepared(settles)
	for _, kind := range []string{pg, maria} {
		eventually(t, settles, "the alert of "+kind+" is over", func() bool { return !alerted(kind, id) })
	}
	// Others of the server may hold it up for a moment.
	eventually(t, settles, "what is dead is removed", func() bool {
		execute(t, w.postgres, "VACUUM dead")
		return size() == 0
	})
	if horizon() != "" {
		t.Errorf("the census still says %q", horizon())
	}
}
