package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/participant/statements"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// What the database refuses comes back as a vote with its class, its own code
// and words, and whether a new try can help.
func TestErrorsAreVotes(t *testing.T) {
	b, s := opened(t, Options{})
	do(t, connect(t, b.dsn),
		"CREATE TABLE a (id int PRIMARY KEY, n int CHECK (n > 0), later int UNIQUE DEFERRABLE INITIALLY DEFERRED)",
		"INSERT INTO a VALUES (1, 1, 1)",
		"CREATE FUNCTION refuse() RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no more than three'; END $$",
		"CREATE FUNCTION own() RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'own code' USING ERRCODE = 'MY001'; END $$",
		"CREATE PROCEDURE ends() LANGUAGE plpgsql AS $$ BEGIN COMMIT; END $$")
	many := statements.Statement{SQL: "SELECT 1", Args: []any{"x", "y", "z"}}
	wrong := addOne("k")
	two := int64(2)
	wrong.Rows = &two
	tests := map[string]struct {
		list []statements.Statement
		code pb.Reason_Code
		text string
	}{
		"a unique key":        {[]statements.Statement{sql("INSERT INTO a VALUES (1, 1, 2)")}, pb.Reason_CONSTRAINT, "23505"},
		"a check":             {[]statements.Statement{sql("UPDATE a SET n = 0")}, pb.Reason_CONSTRAINT, "23514"},
		"a deferred key":      {[]statements.Statement{sql("INSERT INTO a VALUES (2, 1, 1)")}, pb.Reason_CONSTRAINT, "23505"},
		"no such table":       {[]statements.Statement{sql("SELECT * FROM nothing")}, pb.Reason_INVALID, "42P01"},
		"no SQL":              {[]statements.Statement{sql("SELECT FROM WHERE")}, pb.Reason_INVALID, "42601"},
		"two statements":      {[]statements.Statement{sql("SELECT 1; SELECT 2")}, pb.Reason_INVALID, "42601"},
		"too many arguments":  {[]statements.Statement{many}, pb.Reason_INVALID, "08P01"},
		"too few arguments":   {[]statements.Statement{sql("SELECT $1::int")}, pb.Reason_INVALID, "08P01"},
		"text for a number":   {[]statements.Statement{sql("UPDATE a SET n = $1", "many")}, pb.Reason_INVALID, "22P02"},
		"the number of rows":  {[]statements.Statement{wrong}, pb.Reason_CONDITION, "1 rows, and there must be 2"},
		"the function raises": {[]statements.Statement{sql("SELECT refuse()")}, pb.Reason_APPLICATION, "P0001 no more than three"},
		"with its own code":   {[]statements.Statement{sql("SELECT own()")}, pb.Reason_APPLICATION, "MY001 own code"},
		"COMMIT":              {[]statements.Statement{sql("COMMIT")}, pb.Reason_UNSUPPORTED, "leave it out"},
		"COMMIT inside":       {[]statements.Statement{sql("CALL ends()")}, pb.Reason_UNSUPPORTED, "2D000"},
		"DDL":                 {[]statements.Statement{sql("CREATE TABLE b (n int)")}, pb.Reason_UNSUPPORTED, "schema"},
		"a temporary table":   {[]statements.Statement{sql("SELECT 1 INTO TEMP b")}, pb.Reason_UNSUPPORTED, "0A000"},
		"NOTIFY":              {[]statements.Statement{sql("SELECT pg_notify('a', 'b')")}, pb.Reason_UNSUPPORTED, "0A000"},
		"a cursor WITH HOLD":  {[]statements.Statement{sql("DECLARE c CURSOR WITH HOLD FOR SELECT 1")}, pb.Reason_UNSUPPORTED, "DECLARE cannot be part"},
		"a snapshot":          {[]statements.Statement{sql("SELECT pg_export_snapshot()")}, pb.Reason_UNSUPPORTED, "0A000"},
		"two kinds of lock":   {[]statements.Statement{sql("SELECT 1 FROM (SELECT pg_advisory_lock(7), pg_advisory_xact_lock(7)) l")}, pb.Reason_UNSUPPORTED, "0A000"},
		"no payload":          {nil, pb.Reason_INVALID, "statements"},
		"a large result":      {[]statements.Statement{sql("SELECT repeat('x', 70000)")}, pb.Reason_INVALID, "select fewer"},
		"too slow":            {[]statements.Statement{sql("SELECT pg_sleep(60)")}, pb.Reason_TIMEOUT, ""},
	}
	n := uint64(0)
	for name, test := range tests {
		n++
		w := b.work(fmt.Sprintf("t%d", n), n, test.list...)
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			if name == "too slow" {
				ctx, cancel = context.WithTimeout(context.Background(), time.Second)
			}
			defer cancel()
			v, err := s.Prepare(ctx, w)
			if err != nil || v.Kind != pb.Vote_VOTE_ABORTED || v.Code != test.code || !strings.Contains(v.Message, test.text) {
				t.Errorf("%v (%v: %s), %v", v.Kind, v.Code, v.Message, err)
			}
			if retry := strings.Contains(v.Message, retryHint); retry != (test.code == pb.Reason_TIMEOUT) {
				t.Errorf("whether to try again: %s", v.Message)
			}
			if strings.Contains(v.Message, server.Password()) {
				t.Errorf("the password is in %s", v.Message)
			}
		})
	}
	b.held(s)
	b.counts("k", 0)
	var n2 int
	if err := connect(t, b.dsn).QueryRow(within(t, patience), "SELECT count(*) FROM a").Scan(&n2); err != nil || n2 != 1 {
		t.Errorf("%d rows, %v", n2, err)
	}
}

// The work of a service may do what the agent refuses before it is sent; then the
// database refuses to prepare it, and nothing is left.
func TestHeldCursorIsAVote(t *testing.T) {
	b, s := opened(t, Options{Work: func(ctx context.Context, tx pgx.Tx, _ participant.Work) ([]byte, error) {
		_, err := tx.Exec(ctx, "DECLARE c CURSOR WITH HOLD FOR SELECT 1")
		return nil, err
	}})
	if v := b.aborted(s, b.work("t", 1), pb.Reason_UNSUPPORTED); !strings.Contains(v.Message, "0A000") {
		t.Error(v.Message)
	}
	b.held(s)
}

func TestConflictsAreVotes(t *testing.T) {
	b, s := opened(t, Options{})
	b.prepared(s, b.work("a", 1, addOne("k")))
	began := time.Now()
	v := b.aborted(s, b.work("b", 2, addOne("k")), pb.Reason_CONFLICT)
	if !strings.Contains(v.Message, "55P03") || !strings.Contains(v.Message, retryHint) {
		t.Error(v.Message)
	}
	if waited := time.Since(began); waited < maxLockWait/2 {
		t.Errorf("it waited only %s for the lock", waited)
	}
}

// max_prepared_transactions is reached: it waits for room for half of its budget, and it is no defect.
func TestCapacityIsAVote(t *testing.T) {
	p := own(t, map[string]string{"max_prepared_transactions": "2", "fsync": "off"})
	b := newBench(t, p)
	s, err := b.open(within(t, patience), Options{})
	if err != nil {
		t.Fatal(err)
	}
	bind(t, s, "c1")
	b.prepared(s, b.work("a", 1, addOne("a")))
	b.prepared(s, b.work("b", 2, addOne("b")))
	c := b.work("c", 3, addOne("c"))
	ctx, cancel := context.WithTimeout(t.Context(), 400*time.Millisecond)
	defer cancel()
	v, err := s.Prepare(ctx, c)
	if err != nil || v.Code != pb.Reason_EXHAUSTED {
		t.Fatalf("it came to %v, %v", v, err)
	}
	if !strings.Contains(v.Message, "max_prepared_transactions") || !strings.Contains(v.Message, retryHint) {
		t.Error(v.Message)
	}
	b.done(s.Commit(within(t, patience), b.work("a", 1, addOne("a")).Ref))
	b.prepared(s, c)
	if s.Capacity() != 2 {
		t.Errorf("capacity %d", s.Capacity())
	}
}

// Somebody else is at the very end of the branch: that is no answer, and passes.
func TestABusyBranchIsTriedAgain(t *testing.T) {
	// Only who asks for it waits, and for ever: there is no such standby.
	p := own(t, map[string]string{"fsync": "off", "synchronous_standby_names": "'nobody'", "synchronous_commit": "local"})
	b := newBench(t, p)
	s, err := b.open(within(t, patience), Options{})
	if err != nil {
		t.Fatal(err)
	}
	bind(t, s, "c1")
	w := b.work("t", 1, addOne("k"))
	b.prepared(s, w)
	hand := connect(t, b.dsn)
	do(t, hand, "SET synchronous_commit = on")
	ended := make(chan error, 1)
	go func() {
		_, err := hand.Exec(within(t, patience), "COMMIT PREPARED '"+s.owner().GID(w.Ref)+"'", pgx.QueryExecModeSimpleProtocol)
		ended <- err
	}()
	other, pid := connect(t, b.dsn), hand.PgConn().PID()
	b.eventually(func() error {
		var waits int
		err := other.QueryRow(within(t, patience), "SELECT count(*) FROM pg_stat_activity WHERE pid = $1 AND wait_event = 'SyncRep'", pid).Scan(&waits)
		if err == nil && waits == 0 {
			err = errors.New("nobody waits for the standby")
		}
		return err
	})
	st, err := s.Commit(within(t, patience), w.Ref)
	if !participant.IsTransient(err) || !isCode(err, "55000") {
		t.Errorf("%v (%s), %v", st.Settled, st.Message, err)
	}
	do(t, other, fmt.Sprintf("SELECT pg_cancel_backend(%d)", pid))
	if err := <-ended; err != nil {
		t.Error(err)
	}
	b.done(s.Commit(within(t, patience), w.Ref))
	b.counts("k", 1)
}

// A role that may not end the branch says so, and what to do; the branch waits.
func TestAnotherRoleMayNotEndABranch(t *testing.T) {
	b, s := opened(t, Options{})
	name := connect(t, b.dsn).Config().Database
	admin := connect(t, server.AdminDSN(name))
	do(t, admin, fmt.Sprintf("CREATE ROLE %s_other LOGIN PASSWORD '%s'", name, server.Password()),
		fmt.Sprintf("GRANT USAGE ON SCHEMA concordat TO %s_other", name), fmt.Sprintf("GRANT ALL ON ALL TABLES IN SCHEMA concordat TO %s_other", name))
	w := b.work("t", 1, addOne("k"))
	b.prepared(s, w)
	other, err := Open(within(t, patience), Options{Name: "suite", DSN: server.DSN(name+"_other", name)})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	for _, settle := range []func(context.Context, participant.Ref) (participant.Settlement, error){other.Commit, other.Rollback} {
		if st, err := settle(within(t, patience), w.Ref); err == nil || !isCode(err, "42501") || !strings.Contains(err.Error(), "the same role") {
			t.Errorf("%v (%s), %v", st.Settled, st.Message, err)
		}
	}
	b.held(s, w)
}
