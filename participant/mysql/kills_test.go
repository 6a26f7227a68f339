package mysql

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// instances are several processes' parts over one database, each of which may
// die at any moment and begin anew.
type instances struct {
	t    *testing.T
	dsn  string
	mu   sync.Mutex // guards list
	list []*Manager
}

func newInstances(t *testing.T, dsn string, n int) *instances {
	i := &instances{t: t, dsn: dsn}
	for range n {
		i.list = append(i.list, open(t, Options{Name: "p", DSN: dsn, MaxBranches: 8}))
	}
	t.Cleanup(func() {
		for _, m := range i.list {
			_ = m.Close()
		}
	})
	return i
}

func (i *instances) any() *Manager {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.list[rand.N(len(i.list))]
}

// kill cuts the connections of one, as its death would, and starts it again.
func (i *instances) kill() {
	i.mu.Lock()
	defer i.mu.Unlock()
	n := rand.N(len(i.list))
	_ = i.list[n].Close()
	for {
		m, err := Open(context.Background(), Options{Name: "p", DSN: i.dsn, MaxBranches: 8})
		if err == nil {
			i.list[n] = m
			return
		}
		if !participant.IsTransient(err) {
			i.t.Errorf("open again: %v", err)
			return
		}
		_ = pause(context.Background(), 20*time.Millisecond)
	}
}

// transfer drives one branch as the coordinator does: whichever instance is
// asked, until it is settled. It reports whether it was committed.
func (i *instances) transfer(w participant.Work, abort bool) (committed bool) {
	voted := false
	for range 5 {
		ctx, cancel := context.WithTimeout(context.Background(), 4*time.Second)
		v, err := i.any().Prepare(ctx, w)
		cancel()
		if err == nil {
			voted = v.Kind == pb.Vote_VOTE_PREPARED
			break
		}
	}
	commit := voted && !abort
	for began := time.Now(); ; {
		m := i.any()
		settle := m.Rollback
		if commit {
			settle = m.Commit
		}
		ctx, cancel := context.WithTimeout(context.Background(), 4*time.Second)
		st, err := settle(ctx, w.Ref)
		cancel()
		switch {
		case err == nil && st.Settled == pb.Settled_SETTLED_DONE:
			return commit
		case err == nil:
			i.t.Errorf("%s: commit %v came to %v: %s", w.ID, commit, st.Settled, st.Message)
			return false
		case time.Since(began) > 40*time.Second:
			i.t.Errorf("%s is not settled: %v", w.ID, err)
			return false
		}
		_ = pause(context.Background(), 20*time.Millisecond)
	}
}

// Instances die, the database is killed, any instance is asked anything: money
// is constant, what was decided has happened, and nothing stays prepared.
func TestInstancesAndDatabaseAreKilled(t *testing.T) {
	const accounts, workers, rounds = 12, 6, 8
	dsn, db := newDatabase(t)
	for a := range accounts {
		mustExec(t, db, "INSERT INTO counts VALUES (?, 1000)", fmt.Sprintf("a%d", a))
	}
	in := newInstances(t, dsn, 3)
	var balance [accounts]atomic.Int64 // what was decided
	var n, commits atomic.Int64
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for ctx.Err() == nil {
				from, to := rand.N(accounts), rand.N(accounts)
				i := n.Add(1)
				w := sqlWork(fmt.Sprintf("t%d", i), uint64(i),
					plain("UPDATE counts SET n = n - 1 WHERE k = ?", fmt.Sprintf("a%d", from)),
					plain("UPDATE counts SET n = n + 1 WHERE k = ?", fmt.Sprintf("a%d", to)))
				if in.transfer(w, rand.N(4) == 0) {
					balance[from].Add(-1)
					balance[to].Add(1)
					commits.Add(1)
				}
			}
		})
	}
	for round := 0; round < rounds || commits.Load() < 20 && round < 10*rounds; round++ {
		_ = pause(ctx, 400*time.Millisecond)
		if round%4 == 3 {
			if err := errors.Join(mariaDB.Kill(), mariaDB.Restart(t.Context())); err != nil {
				t.Fatal(err)
			}
			continue
		}
		in.kill()
	}
	stop()
	wg.Wait()
	t.Logf("%d branches, %d committed", n.Load(), commits.Load())
	for a := range accounts {
		got, err := counted(t.Context(), db, fmt.Sprintf("a%d", a))
		if want := 1000 + balance[a].Load(); err != nil || got != want {
			t.Errorf("a%d has %d, %v; decided was %d", a, got, err, want)
		}
	}
	if held, err := in.any().Held(t.Context()); err != nil || len(held) != 0 {
		t.Errorf("held: %v, %v", held, err)
	}
	if commits.Load() < 20 {
		t.Errorf("only %d commits", commits.Load())
	}
}
