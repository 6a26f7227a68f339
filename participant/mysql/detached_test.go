package mysql

import (
	"context"
	"database/sql"
	"fmt"
	"sync"
	"testing"

	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

const testCluster = "c1u5t3r"

// open is a manager on a database, bound to the tests' cluster.
func open(t testing.TB, options Options) *Manager {
	t.Helper()
	m, err := Open(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close() })
	if err := m.Bind(t.Context(), participant.Binding{ClusterID: testCluster, Generation: 1, Term: 1}); err != nil {
		t.Fatal(err)
	}
	return m
}

// work is a branch of attempt n.
func work(id string, n uint64, payload string) participant.Work {
	a := rpc.Attempt{Generation: 1, Term: 1, Sequence: n}
	return participant.Work{Ref: participant.Ref{ID: id, Attempt: a, Digest: fsm.DigestOf([]byte(payload))}, Priority: a, Payload: []byte(payload)}
}

func mustPrepare(t testing.TB, m *Manager, w participant.Work) participant.Vote {
	t.Helper()
	v, err := m.Prepare(context.Background(), w)
	if err != nil || v.Kind != pb.Vote_VOTE_PREPARED {
		t.Fatalf("Prepare of %s: %v %v %s, %v", w.ID, v.Kind, v.Code, v.Message, err)
	}
	return v
}

func mustCommit(t testing.TB, m *Manager, w participant.Work) {
	t.Helper()
	if st, err := m.Commit(context.Background(), w.Ref); err != nil || st.Settled != pb.Settled_SETTLED_DONE {
		t.Errorf("Commit of %s: %v %s, %v", w.ID, st.Settled, st.Message, err)
	}
}

// Of branches whose owner has just gone, MariaDB loses some: it answers OK to
// XA COMMIT and commits nothing. None may be lost here, and none reported done
// that is not.
func TestDetachedBranchesAreNeverLost(t *testing.T) {
	const branches, workers = 1000, 25
	dsn, db := newDatabase(t)
	owner := open(t, Options{Name: "p", DSN: dsn, Work: count, MaxBranches: workers})
	finisher := open(t, Options{Name: "p", DSN: dsn, Work: count, MaxBranches: 8})
	var wg sync.WaitGroup
	for n := range workers {
		wg.Go(func() {
			for i := n; i < branches; i += workers {
				w := work(fmt.Sprintf("t%d", i), uint64(i)+1, fmt.Sprintf("k%d", i))
				if v, err := owner.Prepare(context.Background(), w); err != nil || v.Kind != pb.Vote_VOTE_PREPARED {
					t.Errorf("Prepare: %+v, %v", v, err)
					return
				}
				// Every other owner leaves by itself, the rest are ended by the other instance.
				if s := owner.pinned.take(w.Ref); i%2 == 0 && s != nil {
					s.destroy()
				} else if s != nil {
					owner.pinned.add(s)
				}
				mustCommit(t, finisher, w)
			}
		})
	}
	wg.Wait()
	var sum int
	if err := db.QueryRow("SELECT COUNT(*) FROM counts WHERE n = 1").Scan(&sum); err != nil || sum != branches {
		t.Errorf("%d of %d branches are committed, %v", sum, branches, err)
	}
	if n := finisher.strandings.Load(); n != 0 {
		t.Errorf("%d branches were lost by the database", n)
	}
	held, err := finisher.Held(t.Context())
	if err != nil || len(held) != 0 {
		t.Errorf("held: %v, %v", held, err)
	}
}

// The same without the wait shows that the defect is there: an impatient
// finisher is told OK for branches that are not committed. What is lost must be
// seen by the row, be listed again after a restart of the server, and be
// committed then.
func TestBranchThatTheDatabaseLostIsFoundAndMended(t *testing.T) {
	dsn, db := newDatabase(t)
	m := open(t, Options{Name: "p", DSN: dsn, Work: count})
	lost := provokeLoss(t, m)
	if lost.ID == "" {
		t.Skip("the database has lost no branch of 3000: nothing to find (the loss is a matter of luck)")
	}
	if n, err := counted(t.Context(), db, string(lost.Payload)); err != nil || n != 0 {
		t.Fatalf("the lost branch counts %d, %v", n, err)
	}
	st, err := m.Commit(t.Context(), lost.Ref)
	if err == nil || !participant.IsTransient(err) {
		t.Fatalf("Commit of a branch that is lost: %+v, %v; want an error that is tried again", st, err)
	}
	if m.strandings.Load() == 0 {
		t.Error("the loss is not counted")
	}
	if err := mariaDB.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := mariaDB.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	err = again(t, func() error {
		st, err = m.Commit(t.Context(), lost.Ref)
		return err
	})
	if err != nil || st.Settled != pb.Settled_SETTLED_DONE {
		t.Errorf("Commit after the restart: %+v, %v", st, err)
	}
	if n, err := counted(t.Context(), db, string(lost.Payload)); err != nil || n != 1 {
		t.Errorf("after the restart and the commit the branch counts %d, %v", n, err)
	}
}

// provokeLoss finishes branches as soon as XA COMMIT does not refuse, until one
// is told OK and is not committed.
func provokeLoss(t *testing.T, m *Manager) (lost participant.Work) {
	t.Helper()
	ctx := t.Context()
	for i := range 3000 {
		w := work(fmt.Sprintf("l%d", i), uint64(i)+1, fmt.Sprintf("k%d", i))
		mustPrepare(t, m, w)
		m.pinned.take(w.Ref).destroy()
		for {
			_, err := m.control.ExecContext(ctx, "XA COMMIT "+m.xid(w.Ref))
			if err == nil {
				break
			}
			if number(err) != errXaNotA {
				t.Fatal(err)
			}
		}
		s, err := m.peek(ctx, w.ID)
		if err != nil {
			t.Fatal(err)
		}
		if len(s.found.Entry.Committed) == 0 {
			t.Logf("branch %d was lost", i)
			return w
		}
	}
	return lost
}

// XAER_NOTA is the answer for a branch whose owner is connected: it must be
// ended and asked again, not taken for finished.
func TestBranchOfALiveOwner(t *testing.T) {
	dsn, db := newDatabase(t)
	owner := open(t, Options{Name: "p", DSN: dsn, Work: count})
	other := open(t, Options{Name: "p", DSN: dsn, Work: count})
	committed, undone := work("a", 1, "ka"), work("b", 2, "kb")
	mustPrepare(t, owner, committed)
	mustPrepare(t, owner, undone)
	_, err := other.control.ExecContext(t.Context(), "XA COMMIT "+other.xid(committed.Ref))
	if number(err) != errXaNotA {
		t.Fatalf("XA COMMIT while the owner is connected: %v, want XAER_NOTA (1397)", err)
	}
	mustCommit(t, other, committed)
	if st, err := other.Rollback(t.Context(), undone.Ref); err != nil || st.Settled != pb.Settled_SETTLED_DONE {
		t.Errorf("Rollback: %+v, %v", st, err)
	}
	// The old owner hears of the same decisions, late.
	mustCommit(t, owner, committed)
	if st, err := owner.Rollback(t.Context(), undone.Ref); err != nil || st.Settled != pb.Settled_SETTLED_DONE {
		t.Errorf("late Rollback: %+v, %v", st, err)
	}
	for key, want := range map[string]int64{"ka": 1, "kb": 0} {
		if n, err := counted(t.Context(), db, key); err != nil || n != want {
			t.Errorf("%s counts %d, %v; want %d", key, n, err, want)
		}
	}
}

// A branch that only reads would lose its locks with its session; the row of
// the entry makes every branch a real write.
func TestReadingBranchSurvivesItsSession(t *testing.T) {
	dsn, db := newDatabase(t)
	mustExec(t, db, "INSERT INTO counts VALUES ('k', 5)")
	read := func(ctx context.Context, c *sql.Conn, _ participant.Work) ([]byte, error) {
		var n int
		err := c.QueryRowContext(ctx, "SELECT n FROM counts WHERE k = 'k' FOR UPDATE").Scan(&n)
		return fmt.Append(nil, n), err
	}
	m := open(t, Options{Name: "p", DSN: dsn, Work: read})
	w := work("t", 1, "read")
	mustPrepare(t, m, w)
	m.pinned.take(w.Ref).destroy()
	if err := m.release(t.Context(), w.Ref); err != nil {
		t.Fatal(err)
	}
	_, err := db.ExecContext(t.Context(), "SELECT n FROM counts WHERE k = 'k' FOR UPDATE NOWAIT")
	if !isLocked(err) {
		t.Errorf("the row that the branch has read is not locked any more: %v", err)
	}
	if v := mustPrepare(t, m, w); string(v.Result) != "5" {
		t.Errorf("the vote again has the result %q", v.Result)
	}
	mustCommit(t, m, w)
	mustExec(t, db, "UPDATE counts SET n = 6 WHERE k = 'k'")
}
