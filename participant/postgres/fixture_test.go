package postgres

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/participant/statements"
	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

const patience = 10 * time.Second

func bind(t testing.TB, s *Store, cluster string) {
	t.Helper()
	if err := s.Bind(within(t, patience), participant.Binding{ClusterID: cluster, Generation: 1, Term: 1}); err != nil {
		t.Fatal(err)
	}
}

// opened is a Store on a fresh database, bound to a cluster.
func opened(t testing.TB, o Options) (*bench, *Store) {
	t.Helper()
	b := newBench(t, server)
	s, err := b.open(within(t, patience), o)
	if err != nil {
		t.Fatal(err)
	}
	bind(t, s, "c1")
	return b, s
}

// work is a branch of attempt 1.1.n.
func (b *bench) work(id string, n uint64, list ...statements.Statement) participant.Work {
	b.t.Helper()
	p := payload(b.t, list...)
	a := rpc.Attempt{Generation: 1, Term: 1, Sequence: n}
	return participant.Work{Ref: participant.Ref{ID: id, Attempt: a, Digest: fsm.DigestOf(p)}, Priority: a, Payload: p}
}

func sql(text string, args ...any) statements.Statement {
	return statements.Statement{SQL: text, Args: args}
}

func (b *bench) vote(s *Store, w participant.Work) participant.Vote {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	v, err := s.Prepare(ctx, w)
	if err != nil {
		b.t.Fatalf("Prepare of %s: %v", w.ID, err)
	}
	return v
}

func (b *bench) prepared(s *Store, w participant.Work) participant.Vote {
	b.t.Helper()
	v := b.vote(s, w)
	if v.Kind != pb.Vote_VOTE_PREPARED {
		b.t.Fatalf("Prepare of %s voted %v (%v: %s)", w.ID, v.Kind, v.Code, v.Message)
	}
	return v
}

func (b *bench) aborted(s *Store, w participant.Work, code pb.Reason_Code) participant.Vote {
	b.t.Helper()
	v := b.vote(s, w)
	if v.Kind != pb.Vote_VOTE_ABORTED || v.Code != code {
		b.t.Fatalf("Prepare of %s voted %v (%v: %s), want ABORTED(%v)", w.ID, v.Kind, v.Code, v.Message, code)
	}
	return v
}

// settled is nil if the answer of a settlement is DONE.
func (b *bench) settled(st participant.Settlement, err error) error {
	if err == nil && st.Settled != pb.Settled_SETTLED_DONE {
		err = fmt.Errorf("settled as %v: %s", st.Settled, st.Message)
	}
	return err
}

func (b *bench) done(st participant.Settlement, err error) {
	b.t.Helper()
	if err := b.settled(st, err); err != nil {
		b.t.Fatal(err)
	}
}

// eventually repeats what may fail for a while.
func (b *bench) eventually(try func() error) {
	b.t.Helper()
	for end := time.Now().Add(3 * patience); ; time.Sleep(20 * time.Millisecond) {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			b.t.Fatal(err)
		}
	}
}

func (b *bench) counts(key string, want int64) {
	b.t.Helper()
	if got, err := b.effect(within(b.t, patience), key); err != nil || got != want {
		b.t.Fatalf("the count of %s is %d, %v; want %d", key, got, err, want)
	}
}

func (b *bench) held(s *Store, want ...participant.Work) {
	b.t.Helper()
	got, err := s.Held(within(b.t, patience))
	if err != nil || len(got) != len(want) {
		b.t.Fatalf("held are %v, %v; want %d", got, err, len(want))
	}
	for i, w := range want {
		if got[i].Ref != w.Ref {
			b.t.Fatalf("held is %v, want %v", got[i].Ref, w.Ref)
		}
	}
}
