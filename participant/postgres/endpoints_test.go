package postgres

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// hang is the statements' work, which says that it is done and then waits.
func hang(reached chan<- struct{}, on <-chan struct{}) Work {
	return func(ctx context.Context, tx pgx.Tx, w participant.Work) ([]byte, error) {
		result, err := Statements(ctx, tx, w)
		reached <- struct{}{}
		<-on
		return result, err
	}
}

// second is another process over the same data.
func (b *bench) second() *Store {
	b.t.Helper()
	s, err := Open(within(b.t, patience), Options{Name: "suite", DSN: b.dsn})
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(s.Close)
	return s
}

// Any endpoint repeats the vote of another, with its result, and settles it.
func TestAnyEndpointSettles(t *testing.T) {
	b, one := opened(t, Options{})
	two := b.second()
	ctx := within(t, time.Minute)
	w := b.work("t", 1, addOne("k"))
	first := b.prepared(one, w)
	again := b.prepared(two, w)
	if string(first.Result) != string(again.Result) || len(first.Result) == 0 {
		t.Errorf("the result is %q, and %q of the other endpoint", first.Result, again.Result)
	}
	b.held(two, w)
	b.done(two.Commit(ctx, w.Ref))
	b.done(one.Commit(ctx, w.Ref))
	b.aborted(one, w, pb.Reason_SUPERSEDED)
	b.counts("k", 1)
	next := b.work("t", 2, addOne("k"))
	b.prepared(two, next)
	newer := b.work("t", 3, addOne("k"))
	b.prepared(one, newer) // takes over
	if st, err := two.Rollback(ctx, next.Ref); err != nil || st.Settled != pb.Settled_SETTLED_UNSPECIFIED {
		t.Errorf("rollback of what was taken over: %v, %v", st, err)
	}
	b.done(two.Commit(ctx, newer.Ref))
	b.counts("k", 2)
}

// While one endpoint is at work on an id, another does not work on it too.
func TestOneWorksAtATime(t *testing.T) {
	reached, on := make(chan struct{}), make(chan struct{})
	b, one := opened(t, Options{Work: hang(reached, on)})
	two := b.second()
	w := b.work("t", 1, addOne("k"))
	ended := make(chan participant.Vote)
	go func() { ended <- b.vote(one, w) }()
	<-reached
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if v, err := two.Prepare(ctx, w); !participant.IsTransient(err) {
		t.Errorf("the other endpoint: %v, %v", v, err)
	}
	close(on)
	if v := <-ended; v.Kind != pb.Vote_VOTE_PREPARED {
		t.Errorf("the one: %v %s", v.Kind, v.Message)
	}
	b.prepared(two, w)
	b.done(two.Commit(ctx, w.Ref))
	b.counts("k", 1)
}

// A rollback and a prepare of the same branch arrive at two endpoints at the
// same time: what is acknowledged as rolled back is never prepared.
func TestRollbackAgainstPrepare(t *testing.T) {
	b, one := opened(t, Options{})
	two := b.second()
	race(t, func(i int) error {
		key := fmt.Sprintf("k%d", i)
		w := b.work(key, uint64(i)+1, addOne(key))
		ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
		defer cancel()
		var wg sync.WaitGroup
		wg.Go(func() { _, _ = one.Prepare(ctx, w) }) // any vote, or an error, will do
		err := b.settled(two.Rollback(ctx, w.Ref))
		if err != nil {
			err = fmt.Errorf("rollback of %s: %w", key, err)
		}
		wg.Wait()
		if v, err2 := two.Prepare(ctx, w); err2 != nil || v.Code != pb.Reason_SUPERSEDED {
			err = fmt.Errorf("%s after the rollback: %v (%s), %v", key, v.Kind, v.Message, err2)
		}
		return err
	})
	b.held(one)
	for i := range races {
		b.counts(fmt.Sprintf("k%d", i), 0)
	}
}

// A rollback of an attempt races a newer attempt that takes its branch over: the
// newer one's vote is kept, whoever is first.
func TestRollbackAgainstTakeOver(t *testing.T) {
	b, one := opened(t, Options{})
	two := b.second()
	race(t, func(i int) error {
		key := fmt.Sprintf("k%d", i)
		w, newer := b.work(key, uint64(i)+1, addOne(key)), b.work(key, uint64(i)+1000, addOne(key))
		ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
		defer cancel()
		if v, err := one.Prepare(ctx, w); err != nil || v.Kind != pb.Vote_VOTE_PREPARED {
			return fmt.Errorf("%s: %v, %v", key, v.Kind, err)
		}
		var wg sync.WaitGroup
		wg.Go(func() { _, _ = two.Rollback(ctx, w.Ref) })
		v, err := one.Prepare(ctx, newer)
		wg.Wait()
		if err != nil || v.Kind != pb.Vote_VOTE_PREPARED {
			return fmt.Errorf("%s, the newer: %v (%s), %v", key, v.Kind, v.Message, err)
		}
		if err := b.settled(two.Commit(ctx, newer.Ref)); err != nil {
			return fmt.Errorf("%s: commit of the newer: %w", key, err)
		}
		return nil
	})
	b.held(one)
	for i := range races {
		b.counts(fmt.Sprintf("k%d", i), 1)
	}
}

const races = 40

// race runs try for several i at a time.
func race(t *testing.T, try func(i int) error) {
	var wg sync.WaitGroup
	turns := make(chan struct{}, 4)
	for i := range races {
		wg.Go(func() {
			turns <- struct{}{}
			defer func() { <-turns }()
			if err := try(i); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}
