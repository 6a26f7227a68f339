package postgres

import (
	"fmt"
	"testing"

	"github.com/concordat-tx/concordat/participant/statements"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// keptBy is how many statements of branches the one session for them has ready.
func keptBy(t *testing.T, s *Store) (n int) {
	t.Helper()
	conn, err := s.work.Acquire(within(t, patience))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	// All others are ours.
	err = conn.QueryRow(within(t, patience), "SELECT count(*) FROM pg_prepared_statements WHERE statement ~ ' (counts|FROM a)\\M'").Scan(&n)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// A statement whose text comes again is parsed once, one that is written anew for
// each branch is not kept.
func TestWhatComesAgainIsKept(t *testing.T) {
	b, s := opened(t, Options{MaxBranches: 1})
	n := uint64(0)
	one := func(st statements.Statement) {
		t.Helper()
		n++
		w := b.work(fmt.Sprint("t", n), n, st)
		b.prepared(s, w)
		b.done(s.Commit(within(t, patience), w.Ref))
	}
	for i := range keepAfter {
		one(sql(fmt.Sprintf("INSERT INTO counts VALUES ('written%d', 1)", i)))
		one(sql("INSERT INTO counts VALUES ($1, 1)", fmt.Sprint("given", i)))
	}
	if kept := keptBy(t, s); kept != 0 {
		t.Fatalf("%d statements are kept, and none came more than %d times", kept, keepAfter)
	}
	one(sql("INSERT INTO counts VALUES ($1, 1)", "given"))
	one(sql("INSERT INTO counts VALUES ('written', 1)"))
	if kept := keptBy(t, s); kept != 1 {
		t.Fatalf("%d statements are kept, want the one that came again", kept)
	}
	b.counts("given", 1)
	for i := range 2 * maxTexts {
		s.texts.comesAgain(fmt.Sprint("other ", i))
	}
	if len(s.texts.seen) > maxTexts {
		t.Errorf("%d texts are counted", len(s.texts.seen))
	}
}

// What was kept when the tables were others, or was dropped, is no reason to abort.
func TestWhatIsKeptMayNotFitAnyMore(t *testing.T) {
	b, s := opened(t, Options{MaxBranches: 1})
	hand := connect(t, b.dsn)
	do(t, hand, "CREATE TABLE a (id int PRIMARY KEY, n int)", "INSERT INTO a VALUES (1, 1)",
		"CREATE FUNCTION dropall() RETURNS void LANGUAGE plpgsql AS $$ BEGIN EXECUTE 'DEALLOCATE ALL'; END $$")
	all, by := sql("SELECT * FROM a"), sql("SELECT n FROM a WHERE id = $1", "1")
	n := uint64(0)
	prepared := func(list ...statements.Statement) {
		t.Helper()
		n++
		w := b.work(fmt.Sprint("t", n), n, list...)
		b.prepared(s, w)
		b.done(s.Rollback(within(t, patience), w.Ref))
	}
	warm := func() {
		t.Helper()
		for range keepAfter + 1 {
			prepared(all, by)
		}
		if kept := keptBy(t, s); kept != 2 {
			t.Fatalf("%d statements are kept, want 2", kept)
		}
	}
	warm()
	do(t, hand, "ALTER TABLE a ADD m int") // the result has another type
	prepared(all, by)
	warm()
	do(t, hand, "ALTER TABLE a DROP CONSTRAINT a_pkey", "ALTER TABLE a ALTER id TYPE text") // the argument has another type
	by.Args = []any{"one"}
	prepared(all, by)
	by.Args = []any{"1"}
	warm()
	prepared(sql("SELECT dropall()"), all, by)
	prepared(all, by)
	warm()
	do(t, hand, "DROP TABLE a")
	n++
	b.aborted(s, b.work(fmt.Sprint("t", n), n, all), pb.Reason_INVALID)
}
