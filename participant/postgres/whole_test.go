package postgres

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/concordat-tx/concordat/participant/statements"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// Only a write to which RETURNING can be appended is wrapped.
func TestIsWrite(t *testing.T) {
	for sql, want := range map[string]bool{
		"UPDATE a SET n = n - 1 WHERE id = $1":     true,
		" \n\tdelete from a":                       true,
		"Insert\nINTO a VALUES ($1, 'it''s', $12)": true,
		"SELECT 1":            false,
		"UPDATE":              false,
		"UPDATED a SET n = 1": false,
		"WITH b AS (SELECT 1) UPDATE a SET n = 1":            false,
		"UPDATE a SET n = 1 RETURNING n":                     false,
		"UPDATE a SET n = 1 ReTurning n":                     false,
		"UPDATE a SET n = 1;":                                false,
		"UPDATE a SET n = 1 -- all":                          false,
		"UPDATE a SET n = 1 /* all":                          false,
		"UPDATE a SET t = $$x$$":                             false,
		"UPDATE a SET t = $q$x$q$":                           false,
		"DELETE FROM a WHERE t = 'a;b'":                      false,
		"INSERT INTO a SELECT 1 WHERE NOT EXISTS (SELECT 2)": true,
	} {
		if isWrite(sql) != want {
			t.Errorf("%q: %v", sql, !want)
		}
	}
}

// A branch that goes out whole votes as one that does not, word for word, and
// leaves as little.
func TestWholeBranchesVoteAlike(t *testing.T) {
	b, plain := opened(t, Options{})
	whole, err := b.openIn(within(t, patience), b.life, Options{familiar: true})
	if err != nil {
		t.Fatal(err)
	}
	defer whole.Close()
	if _, err := whole.Identity(within(t, patience)); err != nil {
		t.Fatal(err)
	}
	do(t, connect(t, b.dsn),
		"CREATE TABLE a (id int PRIMARY KEY, n int CHECK (n > 0), later int UNIQUE DEFERRABLE INITIALLY DEFERRED)",
		"INSERT INTO a VALUES (1, 1, 1), (2, 2, 2)",
		"CREATE TABLE ruled (n int)", "CREATE RULE other AS ON UPDATE TO ruled DO INSTEAD UPDATE a SET n = 5 WHERE id = 2",
		"CREATE FUNCTION meddle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN DELETE FROM concordat.entry WHERE id = 'old';"+
			" PERFORM set_config('concordat.seal', '0', true); RETURN NULL; END $$",
		"CREATE TRIGGER meddles AFTER INSERT ON counts FOR EACH ROW WHEN (NEW.key = 'bad') EXECUTE FUNCTION meddle()",
		"CREATE FUNCTION lowers() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$",
		"CREATE TRIGGER keeps BEFORE DELETE ON a FOR EACH ROW EXECUTE FUNCTION lowers()")
	rows := func(n int64, sql string, args ...any) statements.Statement {
		return statements.Statement{SQL: sql, Args: args, Rows: &n}
	}
	bump := rows(1, "UPDATE a SET n = n + 1 WHERE id = $1", "1")
	n := uint64(1)
	old := b.work("old", n, addOne("k"))
	b.prepared(plain, old)
	b.done(plain.Commit(within(t, patience), old.Ref))
	for name, c := range map[string]struct {
		list []statements.Statement
		code pb.Reason_Code // 0: PREPARED
	}{
		"as many":             {[]statements.Statement{bump, rows(2, "UPDATE a SET n = n + 1")}, 0},
		"none, as must be":    {[]statements.Statement{rows(0, "UPDATE a SET n = 7 WHERE id = 99")}, 0},
		"too few":             {[]statements.Statement{bump, rows(1, "UPDATE a SET n = 7 WHERE id = 99")}, pb.Reason_CONDITION},
		"too many":            {[]statements.Statement{rows(1, "UPDATE a SET n = n + 1"), bump}, pb.Reason_CONDITION},
		"kept by a trigger":   {[]statements.Statement{rows(1, "DELETE FROM a WHERE id = 1")}, pb.Reason_CONDITION},
		"by a rule":           {[]statements.Statement{rows(1, "UPDATE ruled SET n = 1")}, 0},
		"a check":             {[]statements.Statement{bump, rows(1, "UPDATE a SET n = 0 WHERE id = 1")}, pb.Reason_CONSTRAINT},
		"a deferred key":      {[]statements.Statement{rows(1, "INSERT INTO a VALUES (3, 1, 1)")}, pb.Reason_CONSTRAINT},
		"a division":          {[]statements.Statement{rows(1, "UPDATE a SET n = n / (id - 1) WHERE id = 1")}, pb.Reason_INVALID},
		"no number":           {[]statements.Statement{rows(1, "UPDATE a SET n = $1 WHERE id = 1", "many")}, pb.Reason_INVALID},
		"no such table":       {[]statements.Statement{bump, rows(1, "UPDATE nothing SET n = 1")}, pb.Reason_INVALID},
		"nothing but a wrap":  {[]statements.Statement{rows(1, "UPDATE a SET n = 3 WHERE id IN (1)), b AS (DELETE FROM a")}, pb.Reason_INVALID},
		"writes to the entry": {[]statements.Statement{rows(1, "INSERT INTO counts VALUES ('bad', 1)")}, pb.Reason_UNSUPPORTED},
	} {
		t.Run(name, func(t *testing.T) {
			var said [2]string
			for i, s := range []*Store{plain, whole} {
				n++
				w := b.work("t", n, c.list...)
				w.ID += strings.Repeat("x", int(n))
				v := b.vote(s, w)
				if said[i] = v.Message; v.Code != c.code || (c.code == 0) != (v.Kind == pb.Vote_VOTE_PREPARED) {
					t.Fatalf("store %d voted %v (%v: %s), want %v", i, v.Kind, v.Code, v.Message, c.code)
				}
				if v.Kind == pb.Vote_VOTE_PREPARED {
					b.done(s.Rollback(within(t, patience), w.Ref))
				}
				b.held(s)
			}
			if said[0] != said[1] {
				t.Errorf("%q, and whole %q", said[0], said[1])
			}
		})
	}
}

// The budget ends, or a Rollback comes, while a statement waits for a lock and
// PREPARE is in the server already: it comes to nothing.
func TestAWholeBranchThatIsGivenUp(t *testing.T) {
	b, s := opened(t, Options{familiar: true})
	hand := connect(t, b.dsn)
	do(t, hand, "INSERT INTO counts VALUES ('k', 0)", "BEGIN", "UPDATE counts SET n = 1")
	w := b.work("t", 1, addOneMore("k"))
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		_, err := s.Prepare(ctx, w)
		ended <- err
	}()
	waits := func() (n int) {
		t.Helper()
		err := connect(t, b.dsn).QueryRow(within(t, patience), `SELECT count(*) FROM pg_stat_activity
			WHERE wait_event_type = 'Lock' AND datname = current_database()`).Scan(&n)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	for end := time.Now().Add(patience); waits() == 0; {
		if time.Now().After(end) {
			t.Fatal("nobody waits for the row")
		}
	}
	cancel()
	<-ended
	do(t, hand, "COMMIT")
	b.done(s.Rollback(within(t, patience), w.Ref))
	b.held(s)
	b.counts("k", 1)
	b.prepared(s, b.work("u", 2, addOneMore("k")))
}
