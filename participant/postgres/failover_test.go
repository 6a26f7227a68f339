package postgres

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// The primary dies and its standby takes over, with the branches prepared.
// What is decided is delivered there; what is not known to be whole is not
// believed until an operator says so.
func TestAStandbyTakesOver(t *testing.T) {
	primary := own(t, fast)
	b := newBench(t, primary)
	ctx := within(t, 2*time.Minute)
	s, err := b.open(ctx, Options{})
	if err != nil {
		t.Fatal(err)
	}
	bind(t, s, "c1")
	standby, err := primary.Standby(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := standby.Close(); err != nil {
			t.Error(err)
		}
	})
	committed, doomed := b.work("a", 1, addOne("a")), b.work("b", 2, addOne("b"))
	b.prepared(s, committed)
	b.prepared(s, doomed)
	admin := connect(t, primary.AdminDSN("postgres"))
	b.eventually(func() error {
		var caught bool
		err := admin.QueryRow(ctx, "SELECT coalesce(bool_and(replay_lsn >= pg_current_wal_lsn()), false) FROM pg_stat_replication").Scan(&caught)
		if err == nil && !caught {
			err = fmt.Errorf("the standby has not caught up")
		}
		return err
	})
	name := strings.TrimPrefix(b.dsn[strings.LastIndex(b.dsn, "/"):], "/")
	moved := standby.DSN(name, name)
	if _, err := Open(ctx, Options{Name: "suite", DSN: moved}); !participant.IsTransient(err) || !strings.Contains(err.Error(), "standby") {
		t.Errorf("on a standby: %v", err)
	}
	if err := primary.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := standby.Promote(ctx); err != nil {
		t.Fatal(err)
	}
	if err := b.crash(); err != nil {
		t.Fatal(err)
	}
	b.dsn, b.conn = moved, nil
	if s, err = b.open(ctx, Options{}); err != nil {
		t.Fatal(err)
	}
	if known, found, changed := s.InstanceChanged(); !changed || known[:strings.IndexByte(known, '/')] != found[:strings.IndexByte(found, '/')] {
		t.Errorf("the instance is %s, known is %s, changed: %v", found, known, changed)
	}
	b.held(s, committed, doomed)
	b.done(s.Commit(ctx, committed.Ref))
	b.counts("a", 1)
	if st, err := s.Rollback(ctx, doomed.Ref); !participant.IsTransient(err) {
		t.Errorf("rolled back before an operator's word: %v, %v", st, err)
	}
	b.aborted(s, b.work("c", 3, addOne("b")), pb.Reason_FAILED)
	if err := acceptPresent(ctx, s); err != nil {
		t.Fatal(err)
	}
	b.done(s.Rollback(ctx, doomed.Ref))
	b.prepared(s, b.work("c", 3, addOne("b")))
	b.done(s.Rollback(context.WithoutCancel(ctx), b.work("c", 3, addOne("b")).Ref))
	if err := primary.Restart(context.Background()); err != nil { // for the clean-up
		t.Fatal(err)
	}
}
