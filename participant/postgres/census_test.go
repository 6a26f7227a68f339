package postgres

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/concordat-tx/concordat/participant/sqlbranch"
)

// Who is prepared, whose it is, and whom it blocks. The vacuum horizon is the
// age in transactions.
func TestCensus(t *testing.T) {
	p := own(t, fast) // the list is the whole server's
	b := newBench(t, p)
	s, err := b.open(within(t, patience), Options{})
	if err != nil {
		t.Fatal(err)
	}
	bind(t, s, "c1")
	w := b.work("t", 1, addOne("k"))
	b.prepared(s, w)
	hand := connect(t, b.dsn)
	do(t, hand, "CREATE TABLE strange (n int)")
	other := sqlbranch.Owner{Cluster: "c2", Participant: "suite"}.GID(w.Ref)
	for _, gid := range []string{"by hand", other} {
		do(t, hand, "BEGIN", "INSERT INTO strange VALUES (1)", "PREPARE TRANSACTION '"+gid+"'")
	}
	waiting := connect(t, b.dsn)
	ctx, stop := context.WithCancel(context.Background())
	waited := make(chan error, 1)
	pid := int32(waiting.PgConn().PID())
	go func() {
		_, err := waiting.Exec(ctx, "INSERT INTO counts VALUES ('k', 1)")
		waited <- err
	}()
	var c Census
	b.eventually(func() error {
		if c, err = s.Survey(within(t, patience)); err != nil {
			return err
		}
		if len(c.Prepared) != 3 || !slices.Equal(c.Prepared[0].Blocks, []int32{pid}) {
			return fmt.Errorf("%+v", c)
		}
		return nil
	})
	for i, want := range []sqlbranch.Kinship{sqlbranch.Ours, sqlbranch.Foreign, sqlbranch.OtherCluster} {
		got := c.Prepared[i]
		if got.Kinship != want || (got.Ref == w.Ref) != (i == 0) || got.Age <= 0 || got.Age > time.Minute || got.Transactions < 1 || got.Database == "" {
			t.Errorf("%+v, want kinship %d", got, want)
		}
	}
	if c.Capacity != 200 {
		t.Errorf("capacity %d", c.Capacity)
	}
	text := `
# HELP concordat_database_blocked_sessions Sessions of the database that wait for a prepared transaction.
# TYPE concordat_database_blocked_sessions gauge
concordat_database_blocked_sessions{whose="foreign"} 0
concordat_database_blocked_sessions{whose="other_cluster"} 0
concordat_database_blocked_sessions{whose="other_participant"} 0
concordat_database_blocked_sessions{whose="ours"} 1
# HELP concordat_database_prepared Prepared transactions in the database's server, by whose they are.
# TYPE concordat_database_prepared gauge
concordat_database_prepared{whose="foreign"} 1
concordat_database_prepared{whose="other_cluster"} 1
concordat_database_prepared{whose="other_participant"} 0
concordat_database_prepared{whose="ours"} 1
# HELP concordat_database_up 1 if the database answered this scrape.
# TYPE concordat_database_up gauge
concordat_database_up 1
`
	if err := testutil.CollectAndCompare(s.Collectors()[0], strings.NewReader(text),
		"concordat_database_prepared", "concordat_database_blocked_sessions", "concordat_database_up"); err != nil {
		t.Error(err)
	}
	stop()
	<-waited
	if err := p.Kill(); err != nil {
		t.Fatal(err)
	}
	if n := testutil.CollectAndCount(s.Collectors()[0], "concordat_database_prepared"); n != 0 {
		t.Error("what is not known is shown")
	}
	if err := p.Restart(context.Background()); err != nil { // for the clean-up
		t.Fatal(err)
	}
}
