package postgres

import (
	"context"
	"testing"
	"time"

	"github.com/concordat-tx/concordat/participant/participanttest"
	"github.com/concordat-tx/concordat/test/database"
)

// own is a server of this test's own, that it may kill.
func own(t testing.TB, settings map[string]string) *database.Postgres {
	t.Helper()
	p, err := database.StartPostgres(settings)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// Every crash of the suite is one of the whole machine: the process over the
// database and the server are killed, and the server recovers from its log. The
// random schedules, which crash by the hundred, are left to TestConformance.
func TestConformanceWhenTheServerIsKilled(t *testing.T) {
	p := own(t, fast)
	for _, check := range participanttest.Checks() {
		if check.Name == "schedule/random" || check.Name == "crash/around every write" {
			continue
		}
		t.Run(check.Name, func(t *testing.T) {
			check.Run(t, func(t testing.TB) participanttest.Harness {
				b := newBench(t, p)
				h := b.whole()
				h.Crash = func() error {
					b.life.kill()
					if err := p.Kill(); err != nil {
						return err
					}
					b.store.Close()
					return p.Restart(context.Background())
				}
				return h
			}, false)
		})
	}
}

// The same process goes on when its server has been killed and is back: what
// was prepared is held, and calls work again without a restart.
func TestTheServerComesBack(t *testing.T) {
	p := own(t, fast)
	b := newBench(t, p)
	ctx := within(t, time.Minute)
	s, err := b.open(ctx, Options{})
	if err != nil {
		t.Fatal(err)
	}
	bind(t, s, "c1")
	a, c := b.work("a", 1, addOne("a")), b.work("c", 2, addOne("c"))
	b.prepared(s, a)
	b.prepared(s, c)
	if err := p.Kill(); err != nil {
		t.Fatal(err)
	}
	short, cancel := context.WithTimeout(ctx, 5*time.Second)
	_, err = s.Commit(short, a.Ref)
	cancel()
	if err == nil {
		t.Fatal("a commit was acknowledged by a dead server")
	}
	if err := p.Restart(context.Background()); err != nil {
		t.Fatal(err)
	}
	b.eventually(func() error { return b.settled(s.Commit(ctx, a.Ref)) })
	b.eventually(func() error { return b.settled(s.Rollback(ctx, c.Ref)) })
	b.prepared(s, b.work("d", 3, addOne("a")))
	b.counts("a", 1)
	b.counts("c", 0)
}
