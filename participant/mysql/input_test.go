package mysql

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// sqlWork is a branch of the ready-made agent.
func sqlWork(id string, n uint64, statements ...string) participant.Work {
	return work(id, n, `{"statements":[`+strings.Join(statements, ",")+`]}`)
}

func plain(query string, args ...any) string {
	s := map[string]any{"sql": query}
	if len(args) > 0 {
		s["args"] = args
	}
	b, err := json.Marshal(s)
	if err != nil {
		panic(err)
	}
	return string(b)
}

func mustAbort(t *testing.T, m *Manager, w participant.Work, code pb.Reason_Code, says ...string) {
	t.Helper()
	v, err := m.Prepare(context.Background(), w)
	if err != nil || v.Kind != pb.Vote_VOTE_ABORTED || v.Code != code {
		t.Errorf("voted %v %v %q, %v; want ABORTED %v", v.Kind, v.Code, v.Message, err, code)
		return
	}
	for _, s := range says {
		if !strings.Contains(v.Message, s) {
			t.Errorf("%v says %q, want %q in it", v.Code, v.Message, s)
		}
	}
}

// What cannot be part of a branch, or fails in it, is a vote with its class, the
// database's own code, and whether a retry can help. Nothing of it stays.
func TestErrorsAreVotes(t *testing.T) {
	dsn, db := newDatabase(t)
	for _, s := range []string{
		"CREATE TABLE acct (id VARCHAR(20) PRIMARY KEY, balance INT NOT NULL CHECK (balance >= 0)) ENGINE=InnoDB",
		"INSERT INTO acct VALUES ('ann', 100), ('bob', 100)",
		"CREATE TABLE child (id INT PRIMARY KEY, acct VARCHAR(20), FOREIGN KEY (acct) REFERENCES acct (id)) ENGINE=InnoDB",
		"CREATE TABLE oldlog (line TEXT) ENGINE=MyISAM",
		"CREATE VIEW oldview AS SELECT * FROM oldlog",
		"CREATE TABLE traced (id INT PRIMARY KEY) ENGINE=InnoDB",
		"CREATE TRIGGER trace AFTER INSERT ON traced FOR EACH ROW INSERT INTO oldlog VALUES ('x')",
		"CREATE PROCEDURE sneaky() BEGIN INSERT INTO acct VALUES ('eve', 1); COMMIT; END",
	} {
		mustExec(t, db, s)
	}
	m := open(t, Options{Name: "p", DSN: dsn})
	take := plain("UPDATE acct SET balance = balance - 1 WHERE id = 'ann'")
	tests := map[string]struct {
		statement string
		code      pb.Reason_Code
		says      string
	}{
		"check":              {plain("UPDATE acct SET balance = balance - 500 WHERE id = 'bob'"), pb.Reason_CONSTRAINT, "4025"},
		"unique":             {plain("INSERT INTO acct VALUES ('bob', 1)"), pb.Reason_CONSTRAINT, "1062"},
		"foreign key":        {plain("INSERT INTO child VALUES (1, 'nobody')"), pb.Reason_CONSTRAINT, "1452"},
		"not null":           {plain("INSERT INTO acct VALUES ('zoe', NULL)"), pb.Reason_CONSTRAINT, "1048"},
		"rows":               {`{"sql":"UPDATE acct SET balance = 1 WHERE id = 'nobody'","rows":1}`, pb.Reason_CONDITION, "statements[1].rows: 1 expected, 0 found"},
		"does not parse":     {plain("SELECT FROM WHERE"), pb.Reason_INVALID, "1064"},
		"no such table":      {plain("SELECT * FROM nowhere"), pb.Reason_APPLICATION, "1146"},
		"not a number":       {plain("UPDATE acct SET balance = ? WHERE id = 'bob'", "many"), pb.Reason_APPLICATION, "1366"},
		"too few arguments":  {plain("UPDATE acct SET balance = ? WHERE id = ?", 1), pb.Reason_INVALID, "expected 2 arguments"},
		"an injection":       {plain("SELECT '?' , ?", "'; DELETE FROM acct; -- ", 2), pb.Reason_INVALID, "expected 1 arguments"},
		"a quoted name":      {plain("SELECT `a?` , ?", 1, 2), pb.Reason_APPLICATION, "Unknown column 'a?'"},
		"a comment":          {plain("SELECT ? /* ? */", 1, 2), pb.Reason_INVALID, "expected 1 arguments"},
		"two statements":     {plain("SELECT 1; SELECT 2"), pb.Reason_INVALID, "1064"},
		"commit":             {plain("COMMIT"), pb.Reason_UNSUPPORTED, "leave it out"},
		"hidden commit":      {plain("/*!COMMIT*/"), pb.Reason_UNSUPPORTED, ""},
		"commit in a call":   {plain("CALL sneaky()"), pb.Reason_UNSUPPORTED, "1399"},
		"ddl":                {plain("CREATE TABLE t (k INT)"), pb.Reason_UNSUPPORTED, "change the schema before"},
		"temporary table":    {plain("CREATE TEMPORARY TABLE t (k INT)"), pb.Reason_UNSUPPORTED, "change the schema before"},
		"set":                {plain("SET autocommit = 0"), pb.Reason_UNSUPPORTED, "session"},
		"the journal":        {plain("DELETE FROM `concordat_entry`"), pb.Reason_UNSUPPORTED, "journal"},
		"a user's lock":      {plain("SELECT RELEASE_ALL_LOCKS()"), pb.Reason_UNSUPPORTED, "outlive"},
		"lock tables":        {plain("LOCK TABLES acct WRITE"), pb.Reason_UNSUPPORTED, "lock rows"},
		"MyISAM":             {plain("INSERT INTO oldlog VALUES ('x')"), pb.Reason_UNSUPPORTED, "has the engine MyISAM"},
		"MyISAM in a view":   {plain("INSERT INTO `oldview` VALUES ('x')"), pb.Reason_UNSUPPORTED, "has the engine MyISAM"},
		"MyISAM by trigger":  {plain("INSERT INTO traced VALUES (1)"), pb.Reason_UNSUPPORTED, "has the engine MyISAM"},
		"too large a result": {plain("SELECT REPEAT('x', 70000)"), pb.Reason_INVALID, "at most 65536 bytes"},
		"another's tables":   {plain("SELECT * FROM mysql.user"), pb.Reason_APPLICATION, "1142"},
	}
	n := uint64(0)
	for name, test := range tests {
		n++
		t.Run(name, func(t *testing.T) {
			w := sqlWork(fmt.Sprintf("t%d", n), n, take, test.statement)
			mustAbort(t, m, w, test.code, test.says)
			mustAbort(t, m, w, test.code, test.says) // it is the same again, and no lock is left
		})
	}
	var ann, rows int
	if err := db.QueryRow("SELECT (SELECT balance FROM acct WHERE id = 'ann'), (SELECT COUNT(*) FROM oldlog)").Scan(&ann, &rows); err != nil || ann != 100 || rows != 0 {
		t.Errorf("ann has %d, the MyISAM table %d rows, %v", ann, rows, err)
	}
	if held, err := m.Held(t.Context()); err != nil || len(held) != 0 {
		t.Errorf("held: %v, %v", held, err)
	}
}

func TestResultRows(t *testing.T) {
	dsn, db := newDatabase(t)
	mustExec(t, db, "CREATE TABLE v (i INT, u BIGINT UNSIGNED, z INT(5) ZEROFILL, d DECIMAL(30,10), f DOUBLE, s VARCHAR(20), b VARBINARY(20), t DATETIME(6), y YEAR, j JSON, x INT)")
	m := open(t, Options{Name: "p", DSN: dsn})
	insert := plain("INSERT INTO v VALUES (?, ?, 42, ?, 0.5, ?, X'00ff', '2026-11-25 21:00:00.000001', 2026, '{}', NULL)",
		-7, "18446744073709551615", "12345678901234567890.0123456789", "ä'\"<")
	const want = `{"results":[{"statement":1,"columns":["i","u","z","d","f","s","b","t","y","j","x"],"rows":[` +
		`[-7,18446744073709551615,42,"12345678901234567890.0123456789","0.5","ä'\"<","AP8=","2026-11-25 21:00:00.000001",2026,"{}",null]]}]}`
	for i, query := range []string{plain("SELECT * FROM v"), plain("SELECT * FROM v WHERE i = ?", -7)} {
		w := sqlWork(fmt.Sprintf("t%d", i), uint64(i)+1, insert, query)
		v, err := m.Prepare(t.Context(), w)
		if err != nil || v.Kind != pb.Vote_VOTE_PREPARED || string(v.Result) != want {
			t.Errorf("%v %s, %v\nresult %s\nwant   %s", v.Kind, v.Message, err, v.Result, want)
		}
		if st, err := m.Rollback(t.Context(), w.Ref); err != nil || st.Settled != pb.Settled_SETTLED_DONE {
			t.Errorf("Rollback: %+v, %v", st, err)
		}
	}
	mustExec(t, db, "INSERT INTO counts VALUES ('q', 1)")
	for name, s := range map[string]string{
		"returning":  `{"sql":"INSERT INTO counts VALUES ('r', 1), ('s', 2) RETURNING n","rows":2}`,
		"same value": `{"sql":"UPDATE counts SET n = n WHERE k = 'q'","rows":1}`,
		"with":       `{"sql":"WITH c AS (SELECT 1 AS one) SELECT one FROM c","rows":1}`,
	} {
		if v, err := m.Prepare(t.Context(), sqlWork("r-"+strings.ReplaceAll(name, " ", "-"), 10, s)); err != nil || v.Kind != pb.Vote_VOTE_PREPARED {
			t.Errorf("%s: %v %v %s, %v", name, v.Kind, v.Code, v.Message, err)
		}
	}
}

// MariaDB prepares a branch whose statement has timed out, without that
// statement. The work may pass over the error; the branch may not.
func TestFailedStatementDoomsTheBranch(t *testing.T) {
	dsn, db := newDatabase(t)
	mustExec(t, db, "INSERT INTO counts VALUES ('a', 0), ('b', 0)")
	careless := func(ctx context.Context, c *sql.Conn, w participant.Work) ([]byte, error) {
		_, _ = c.ExecContext(ctx, "UPDATE counts SET n = n + 1 WHERE k = 'a'")
		switch string(w.Payload) {
		case "exec":
			_, _ = c.ExecContext(ctx, "UPDATE counts SET n = n + 1 WHERE k = 'b'")
		case "stmt":
			_, _ = c.ExecContext(ctx, "UPDATE counts SET n = n + 1 WHERE k = ?", "b")
		case "query":
			rows, err := c.QueryContext(ctx, "SELECT n FROM counts WHERE k IN ('a', 'b') FOR UPDATE")
			if err == nil {
				for rows.Next() {
				}
				_ = rows.Close()
			}
		}
		return nil, nil
	}
	m := open(t, Options{Name: "p", DSN: dsn, Work: careless})
	blocker, err := db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = blocker.Rollback() }()
	if _, err := blocker.ExecContext(t.Context(), "SELECT * FROM counts WHERE k = 'b' FOR UPDATE"); err != nil {
		t.Fatal(err)
	}
	for i, how := range []string{"exec", "stmt", "query"} {
		mustAbort(t, m, work("t-"+how, uint64(i)+1, how), pb.Reason_CONFLICT, "1205", "a retry can help")
	}
	if n, err := counted(t.Context(), db, "a"); err != nil || n != 0 {
		t.Errorf("a counts %d, %v", n, err)
	}
	if err := blocker.Rollback(); err != nil {
		t.Fatal(err)
	}
	again := work("t-exec", 1, "exec")
	mustPrepare(t, m, again)
	mustCommit(t, m, again)
}

// After an error no pool lends the connection again: what comes next would join
// the stranger's branch and vanish with it.
func TestConnectionOfAFailedBranchIsDestroyed(t *testing.T) {
	dsn, db := newDatabase(t)
	mustExec(t, db, "INSERT INTO counts VALUES ('a', 0)")
	var thread uint64
	fail := func(ctx context.Context, c *sql.Conn, w participant.Work) ([]byte, error) {
		if err := c.QueryRowContext(ctx, "SELECT CONNECTION_ID()").Scan(&thread); err != nil {
			return nil, err
		}
		if _, err := c.ExecContext(ctx, "UPDATE counts SET n = n + 1 WHERE k = 'a'"); err != nil {
			return nil, err
		}
		switch string(w.Payload) {
		case "error":
			return nil, errors.New("the work is not to its liking")
		case "statement":
			_, err := c.ExecContext(ctx, "INSERT INTO counts VALUES ('a', 0)")
			return nil, err
		case "close":
			return nil, c.Close()
		case "rows": // left open: the connection is busy when the branch is to end
			_, err := c.QueryContext(ctx, "SELECT k FROM counts a JOIN (SELECT 1 UNION SELECT 2) b")
			return nil, err
		case "panic":
			panic("the work has a defect")
		}
		return nil, nil
	}
	m := open(t, Options{Name: "p", DSN: dsn, Work: fail, MaxBranches: 1})
	seen := map[uint64]bool{}
	for i, how := range []string{"error", "statement", "close", "rows", "panic", "good", "error"} {
		func() {
			defer func() { _ = recover() }()
			w := work("t-"+how+fmt.Sprint(i), uint64(i)+1, how)
			v, err := m.Prepare(t.Context(), w)
			switch {
			case how == "good":
				if v.Kind != pb.Vote_VOTE_PREPARED || err != nil {
					t.Errorf("good: %+v, %v", v, err)
				}
				mustCommit(t, m, w)
			case v.Kind == pb.Vote_VOTE_PREPARED:
				t.Errorf("%s is prepared", how)
			}
		}()
		if seen[thread] && how != "error" {
			t.Errorf("%s: connection %d is lent again after a failure", how, thread)
		}
		if how != "good" {
			seen[thread] = true
			var n int
			if err := db.QueryRow("SELECT COUNT(*) FROM information_schema.processlist WHERE id = ?", thread).Scan(&n); err != nil || n != 0 {
				_ = pause(t.Context(), 50*goneEvery)
			}
		}
	}
	// Nothing of them is locked, and only the good one counts.
	mustExec(t, db, "UPDATE counts SET n = n + 10 WHERE k = 'a'")
	if n, err := counted(t.Context(), db, "a"); err != nil || n != 11 {
		t.Errorf("a counts %d, %v; want 11", n, err)
	}
}
