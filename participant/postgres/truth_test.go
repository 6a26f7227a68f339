package postgres

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/participant/sqlbranch"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// The work ignores that a statement failed. PREPARE TRANSACTION would say
// nothing, and roll back.
func TestAFailedStatementIsNeverPrepared(t *testing.T) {
	ignores := func(ctx context.Context, tx pgx.Tx, _ participant.Work) ([]byte, error) {
		_, _ = tx.Exec(ctx, "INSERT INTO counts VALUES ('k', NULL)")
		return nil, nil
	}
	b, s := opened(t, Options{Work: ignores})
	v := b.aborted(s, b.work("t", 1, addOne("k")), pb.Reason_FAILED)
	if !strings.Contains(v.Message, "took no notice") {
		t.Error(v.Message)
	}
	b.held(s)
}

// The work ends the transaction behind our back: what is prepared then would
// not be the branch.
func TestWorkCannotEndItsTransaction(t *testing.T) {
	for name, end := range map[string]string{"COMMIT": "COMMIT", "ROLLBACK": "ROLLBACK", "a new one": "ROLLBACK; BEGIN; INSERT INTO counts VALUES ('other', 1)"} {
		t.Run(name, func(t *testing.T) {
			b, s := opened(t, Options{Work: func(ctx context.Context, tx pgx.Tx, _ participant.Work) ([]byte, error) {
				_, err := tx.Conn().PgConn().Exec(ctx, end).ReadAll()
				return nil, err
			}})
			v := b.aborted(s, b.work("t", 1, addOne("k")), pb.Reason_FAILED)
			if !strings.Contains(v.Message, "ended the transaction") {
				t.Error(v.Message)
			}
			b.held(s)
			b.counts("other", 0)
		})
	}
	b, s := opened(t, Options{Work: func(ctx context.Context, tx pgx.Tx, _ participant.Work) ([]byte, error) { return nil, tx.Commit(ctx) }})
	b.aborted(s, b.work("t", 1, addOne("k")), pb.Reason_FAILED)
}

// What proves the branches is not for their work to write, by whatever detour.
func TestWorkCannotWriteTheJournal(t *testing.T) {
	for name, touch := range map[string]string{
		"its own entry":     "UPDATE concordat.entry SET body = ''",
		"an entry deleted":  "DELETE FROM concordat.entry WHERE id = 'old'",
		"all are gone":      "TRUNCATE concordat.entry",
		"the participant":   "UPDATE concordat.participant SET floor = ''",
		"an overlay":        "INSERT INTO concordat.overlay VALUES ('suite', 'other', '')",
		"in a function":     "SELECT meddle()",
		"and then not":      "SAVEPOINT s; DELETE FROM concordat.entry WHERE id = 'old'; ROLLBACK TO s",
		"and an error lost": "DO $$ BEGIN DELETE FROM concordat.entry WHERE id = 'old'; RAISE 'x'; EXCEPTION WHEN OTHERS THEN END $$",
	} {
		t.Run(name, func(t *testing.T) {
			touches := true
			b, s := opened(t, Options{MaxBranches: 1, Work: func(ctx context.Context, tx pgx.Tx, _ participant.Work) ([]byte, error) {
				if touches {
					if _, err := tx.Conn().PgConn().Exec(ctx, touch).ReadAll(); err != nil {
						return nil, err
					}
				}
				_, err := tx.Exec(ctx, "INSERT INTO counts VALUES ('k', 1) ON CONFLICT (key) DO UPDATE SET n = counts.n + 1")
				return nil, err
			}})
			do(t, connect(t, b.dsn), `CREATE FUNCTION meddle() RETURNS void LANGUAGE sql AS $$ DELETE FROM concordat.entry WHERE id = 'old' $$`)
			touches = false // in the same session: what it wrote is not yet in the statistics
			for n := range uint64(3) {
				w := b.work([]string{"old", "older", "oldest"}[n], n+1)
				b.prepared(s, w)
				b.done(s.Commit(within(t, patience), w.Ref))
			}
			again := b.work("again", 4) // its entry is there, and is changed by us
			b.done(s.Rollback(within(t, patience), again.Ref))
			again = b.work("again", 5)
			b.prepared(s, again)
			b.done(s.Commit(within(t, patience), again.Ref))
			touches = true
			v := b.aborted(s, b.work("t", 6), pb.Reason_UNSUPPORTED)
			if !strings.Contains(v.Message, "journal") {
				t.Error(v.Message)
			}
			b.held(s)
			b.counts("k", 4)
			touches = false
			b.prepared(s, b.work("u", 7))
		})
	}
}

// A session that was used by a branch takes nothing of it to the next.
func TestSessionsAreCleaned(t *testing.T) {
	b, s := opened(t, Options{MaxBranches: 1})
	first := b.work("a", 1,
		sql("SELECT set_config('search_path', 'nowhere', false)"), sql("SELECT set_config('lock_timeout', '1', false)"))
	b.prepared(s, first)
	b.prepared(s, b.work("b", 2, addOne("k"))) // would not find its table
	locked := b.work("c", 3, sql("SELECT pg_advisory_lock(42)"))
	b.prepared(s, locked)
	var free bool
	b.eventually(func() error {
		err := connect(t, b.dsn).QueryRow(within(t, patience), "SELECT pg_try_advisory_lock(42)").Scan(&free)
		if err == nil && !free {
			err = fmt.Errorf("the advisory lock of a branch is left in its session")
		}
		return err
	})
}

// What a hand settles is told from what we settle.
func TestSettledByHand(t *testing.T) {
	b, s := opened(t, Options{})
	ctx := within(t, time.Minute)
	hand := connect(t, b.dsn)
	owner := s.owner()
	for i, c := range []struct {
		hand, decision string
		want           pb.Settled
		effect         int64
	}{
		{"COMMIT", "commit", pb.Settled_SETTLED_DONE, 1},
		{"COMMIT", "rollback", pb.Settled_HEURISTIC_COMMIT, 1},
		{"ROLLBACK", "commit", pb.Settled_HEURISTIC_ROLLBACK, 0},
		{"ROLLBACK", "rollback", pb.Settled_SETTLED_DONE, 0},
	} {
		key := fmt.Sprintf("k%d", i)
		w := b.work(key, uint64(i)+1, addOne(key))
		b.prepared(s, w)
		do(t, hand, c.hand+" PREPARED '"+owner.GID(w.Ref)+"'")
		settle := s.Commit
		if c.decision == "rollback" {
			settle = s.Rollback
		}
		for range 2 {
			if st, err := settle(ctx, w.Ref); err != nil || st.Settled != c.want {
				t.Errorf("%s by hand, then %s: %v (%s), %v; want %v", c.hand, c.decision, st.Settled, st.Message, err, c.want)
			}
		}
		b.counts(key, c.effect)
	}
}

// Prepared transactions that are not ours are neither listed nor touched.
func TestStrangersAreNotTouched(t *testing.T) {
	b, s := opened(t, Options{})
	ctx := within(t, time.Minute)
	w := b.work("t", 1, addOne("k"))
	others := []string{
		"by hand", "concordat", "concordat:", sqlbranch.Owner{Cluster: "c2", Participant: "suite"}.GID(w.Ref),
		sqlbranch.Owner{Cluster: "c1", Participant: "suite2"}.GID(w.Ref), s.owner().GID(w.Ref) + ":x", strings.ToUpper(s.owner().GID(w.Ref)),
	}
	hand := connect(t, b.dsn)
	do(t, hand, "CREATE TABLE strange (n int)")
	for i, gid := range others {
		do(t, hand, "BEGIN", fmt.Sprintf("INSERT INTO strange VALUES (%d)", i), "PREPARE TRANSACTION '"+gid+"'")
	}
	b.held(s)
	b.prepared(s, w)
	b.held(s, w)
	b.done(s.Commit(ctx, w.Ref))
	never := b.work("u", 2, addOne("k"))
	b.done(s.Rollback(ctx, never.Ref))
	if _, err := s.Finished(ctx, 100); err != nil {
		t.Fatal(err)
	}
	for _, gid := range others {
		do(t, hand, "COMMIT PREPARED '"+gid+"'") // it is still there
	}
	b.counts("k", 1)
}

// The names of prepared transactions are the whole server's: two databases with
// the same participant, as one that is a copy of the other, are in each other's
// way, and that is said.
func TestACopyOnTheSameServer(t *testing.T) {
	b, s := opened(t, Options{})
	c, copied := opened(t, Options{})
	w := b.work("t", 1, addOne("k"))
	b.prepared(s, w)
	if v := c.aborted(copied, w, pb.Reason_FAILED); !strings.Contains(v.Message, "another database of this server") {
		t.Error(v.Message)
	}
	c.held(copied)
	// It is not there for the other database, which could not settle it.
	if st, err := copied.Commit(within(t, patience), w.Ref); err != nil || st.Settled != pb.Settled_HEURISTIC_HAZARD {
		t.Errorf("%v (%s), %v", st.Settled, st.Message, err)
	}
	b.held(s, w)
}
