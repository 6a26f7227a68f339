package postgres

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/concordat-tx/concordat/participant/statements"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// trips counts how often a client turns from reading to writing.
type trips struct {
	mu sync.Mutex // guards n
	n  int
}

type trippingConn struct {
	net.Conn
	trips *trips
	mu    sync.Mutex // guards wrote
	wrote bool
}

func (t *trips) dial(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
	return &trippingConn{Conn: conn, trips: t}, err
}

func (t *trips) since() (n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n, t.n = t.n, 0
	return n
}

func (c *trippingConn) Write(b []byte) (int, error) {
	c.mu.Lock()
	if !c.wrote {
		c.wrote = true
		c.trips.mu.Lock()
		c.trips.n++
		c.trips.mu.Unlock()
	}
	c.mu.Unlock()
	return c.Conn.Write(b)
}

func (c *trippingConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 {
		c.mu.Lock()
		c.wrote = false
		c.mu.Unlock()
	}
	return n, err
}

// A branch of statements that come again, and that the server can judge, takes one
// round trip to its vote, one of other known statements two, and one with a result
// three; each two to the proof of its commit. It leaves a clean session without one more.
func TestRoundTrips(t *testing.T) {
	b, count := newBench(t, server), &trips{}
	s, err := Open(within(t, patience), Options{Name: "suite", DSN: b.dsn, MaxBranches: 1, dial: count.dial})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	bind(t, s, "c1")
	n := uint64(0)
	branch := func(list ...statements.Statement) (prepare, commit int) {
		t.Helper()
		n++
		w := b.work(fmt.Sprint("t", n), n, list...)
		count.since()
		b.prepared(s, w)
		conn, err := s.work.Acquire(within(t, patience)) // it was given back, clean
		if err != nil {
			t.Fatal(err)
		}
		conn.Release()
		prepare = count.since()
		b.done(s.Commit(within(t, patience), w.Ref))
		return prepare, count.since()
	}
	one := int64(1)
	again := sql("INSERT INTO counts VALUES ('k', 1) ON CONFLICT (key) DO UPDATE SET n = counts.n + 1")
	counted := again
	counted.Rows = &one
	for range 2 * keepAfter {
		branch(again, counted) // it is made ready
		branch(sql("SELECT 1"))
	}
	for _, c := range []struct {
		list []statements.Statement
		want int
	}{
		{[]statements.Statement{again, counted}, 1},
		{[]statements.Statement{again, sql("INSERT INTO counts VALUES ('new', 1)")}, 2},
		{[]statements.Statement{sql("SELECT 1")}, 3},
	} {
		if prepare, commit := branch(c.list...); prepare != c.want || commit > 3 || len(c.list) > 1 && commit != 2 {
			t.Errorf("%d round trips to the vote and %d to the proof, want %d and 2", prepare, commit, c.want)
		}
	}
	b.counts("k", 4*keepAfter+3)
}

// What is sent ahead of an answer is judged in its order.
func TestTheFirstFailureIsTheVote(t *testing.T) {
	b, s := opened(t, Options{})
	none := int64(0)
	some := statements.Statement{SQL: "SELECT 1", Rows: &none}
	for i, c := range []struct {
		list []statements.Statement
		code pb.Reason_Code
		says string
	}{
		{[]statements.Statement{some, sql("SELECT 1/0")}, pb.Reason_CONDITION, "statements[0]"},
		{[]statements.Statement{sql("SELECT 1/0"), some}, pb.Reason_INVALID, "division"},
		{[]statements.Statement{sql("SELECT 1"), sql("INSERT INTO counts VALUES ('k', NULL)"), some}, pb.Reason_CONSTRAINT, "23502"},
		{[]statements.Statement{sql("SELECT 1"), sql("SELECT 1"), some}, pb.Reason_CONDITION, "statements[2]"},
	} {
		v := b.aborted(s, b.work("t", uint64(i)+1, append(c.list, addOne("k"))...), c.code)
		if !strings.Contains(v.Message, c.says) {
			t.Errorf("%d: %s", i, v.Message)
		}
	}
	b.held(s)
	b.counts("k", 0)
	b.prepared(s, b.work("t", 9, addOne("k")))
}

// Nothing of a branch is executed of whose id there is more to know: a sequence
// would not come back.
func TestNothingIsExecutedWhereTheRulesSayNo(t *testing.T) {
	b, s := opened(t, Options{})
	hand := connect(t, b.dsn)
	do(t, hand, "CREATE SEQUENCE seq")
	next := sql("SELECT nextval('seq')")
	ctx := within(t, patience)
	refused := b.work("refused", 5, next)
	b.done(s.Rollback(ctx, refused.Ref))
	b.aborted(s, refused, pb.Reason_SUPERSEDED)
	do(t, hand, `UPDATE concordat.participant SET floor = '\x00000001000000000000000100000000000000ff'`)
	b.aborted(s, b.work("low", 6, next), pb.Reason_SUPERSEDED)
	do(t, hand, "UPDATE concordat.participant SET floor = '', cluster_id = 'c2'")
	if v, err := s.Prepare(ctx, b.work("foreign", 7, next)); err == nil {
		t.Errorf("a branch of another cluster's data voted %v", v)
	}
	do(t, hand, "UPDATE concordat.participant SET cluster_id = 'c1'")
	var called bool
	if err := hand.QueryRow(ctx, "SELECT is_called FROM seq").Scan(&called); err != nil || called {
		t.Errorf("the work was executed: %v, %v", called, err)
	}
	b.held(s)
}

// A trigger writes to the journal: seen before PREPARE leaves.
func TestStatementsCannotWriteTheJournal(t *testing.T) {
	b, s := opened(t, Options{})
	do(t, connect(t, b.dsn),
		"CREATE FUNCTION meddle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN DELETE FROM concordat.entry WHERE id = 'old'; RETURN NULL; END $$",
		"CREATE TRIGGER meddles AFTER INSERT ON counts FOR EACH ROW WHEN (NEW.key = 'bad') EXECUTE FUNCTION meddle()")
	old := b.work("old", 1, addOne("k"))
	b.prepared(s, old)
	b.done(s.Commit(within(t, patience), old.Ref))
	v := b.aborted(s, b.work("t", 2, addOne("bad")), pb.Reason_UNSUPPORTED)
	if !strings.Contains(v.Message, "journal") {
		t.Error(v.Message)
	}
	b.held(s)
	b.counts("bad", 0)
	b.aborted(s, old, pb.Reason_SUPERSEDED)
}
