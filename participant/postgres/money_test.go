package postgres

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

const (
	accounts = 4 // in each database
	opening  = 1000
	payers   = 6
)

// bank is one participant of the transfers, over two endpoints.
type bank struct {
	*bench
	endpoints [2]*Store
}

// Transfers between two databases, by payers that want the same rows in any
// order, while the server is killed. Decisions are made as a coordinator makes
// them, and delivered until they are acknowledged.
func TestMoneyIsConstantWhenTheServerIsKilled(t *testing.T) {
	p := own(t, fast)
	var banks [2]*bank
	for i := range banks {
		b := &bank{bench: newBench(t, p)}
		do(t, connect(t, b.dsn), "CREATE TABLE acct (id int PRIMARY KEY, balance bigint NOT NULL CHECK (balance >= 0))",
			fmt.Sprintf("INSERT INTO acct SELECT n, %d FROM generate_series(1, %d) n", opening, accounts))
		first, err := b.open(within(t, patience), Options{})
		if err != nil {
			t.Fatal(err)
		}
		bind(t, first, "c1")
		b.endpoints = [2]*Store{first, b.second()}
		if _, err := b.endpoints[1].Identity(within(t, patience)); err != nil {
			t.Fatal(err)
		}
		banks[i] = b
	}
	// A payer takes part until kills have struck three times and enough is done.
	var kills, committed, sequence atomic.Uint64
	ctx := within(t, 2*time.Minute)
	enough := func() bool { return ctx.Err() != nil || kills.Load() >= 3 && committed.Load() >= 100 }
	var wg sync.WaitGroup
	for range payers {
		wg.Go(func() {
			for !enough() {
				ok, err := transfer(ctx, &banks, sequence.Add(1))
				if err != nil {
					t.Error(err)
					return
				}
				if ok {
					committed.Add(1)
				}
			}
		})
	}
	for kills.Load() < 3 && ctx.Err() == nil {
		since := committed.Load()
		for end := time.Now().Add(patience); committed.Load() < since+15 && time.Now().Before(end); {
			time.Sleep(5 * time.Millisecond)
		}
		if err := errors.Join(p.Kill(), p.Restart(context.Background())); err != nil {
			t.Fatal(err)
		}
		kills.Add(1)
	}
	wg.Wait()
	total := int64(0)
	for _, b := range banks {
		b.held(b.endpoints[0])
		var sum int64
		if err := connect(t, b.dsn).QueryRow(ctx, "SELECT sum(balance) FROM acct").Scan(&sum); err != nil {
			t.Fatal(err)
		}
		total += sum
	}
	t.Logf("%d transfers begun, %d committed, %d kills", sequence.Load(), committed.Load(), kills.Load())
	if total != 2*accounts*opening || committed.Load() < 100 {
		t.Errorf("the sum is %d, want %d", total, 2*accounts*opening)
	}
}

// transfer is one transaction as a coordinator drives it; committed is its decision.
func transfer(ctx context.Context, banks *[2]*bank, n uint64) (committed bool, err error) {
	amount := int64(1 + rand.IntN(20))
	order := rand.Perm(2)
	var works [2]participant.Work
	for _, i := range order {
		delta := amount
		if i == order[0] {
			delta = -amount
		}
		st := sql("UPDATE acct SET balance = balance + $1 WHERE id = $2", delta, int64(1+rand.IntN(accounts)))
		st.Rows = one()
		works[i] = banks[i].work(fmt.Sprintf("t%d", n), n, st)
	}
	committed = true
	var wg sync.WaitGroup
	var votes [2]bool
	for _, i := range order {
		wg.Go(func() {
			budget, cancel := context.WithTimeout(ctx, 2*time.Second)
			defer cancel()
			v, err := banks[i].endpoints[rand.IntN(2)].Prepare(budget, works[i])
			votes[i] = err == nil && v.Kind == pb.Vote_VOTE_PREPARED
		})
	}
	wg.Wait()
	committed = votes[0] && votes[1]
	var errs [2]error
	for _, i := range order {
		wg.Go(func() { errs[i] = banks[i].deliver(ctx, works[i].Ref, committed) })
	}
	wg.Wait()
	return committed, errors.Join(errs[:]...)
}

// deliver repeats a decision until it is acknowledged.
func (b *bank) deliver(ctx context.Context, ref participant.Ref, commit bool) error {
	for {
		s := b.endpoints[rand.IntN(2)]
		settle := s.Rollback
		if commit {
			settle = s.Commit
		}
		call, cancel := context.WithTimeout(ctx, 5*time.Second)
		st, err := settle(call, ref)
		cancel()
		switch {
		case err == nil && st.Settled == pb.Settled_SETTLED_DONE:
			return nil
		case err == nil:
			return fmt.Errorf("%s, commit %v: %v (%s)", ref.ID, commit, st.Settled, st.Message)
		case ctx.Err() != nil:
			return fmt.Errorf("%s, commit %v: %w", ref.ID, commit, err)
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}
