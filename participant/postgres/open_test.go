package postgres

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// What is wrong is said at the start, with what to mend, and never with the password.
func TestOpenRefuses(t *testing.T) {
	name, dsn := fresh(t, server)
	noPrepare := own(t, map[string]string{"max_prepared_transactions": "0", "fsync": "off"})
	_, dsn0 := fresh(t, noPrepare)
	guest := name + "guest"
	do(t, connect(t, server.AdminDSN("postgres")), fmt.Sprintf("CREATE ROLE %s LOGIN PASSWORD '%s'", guest, server.Password()))
	locked := strings.Replace(dsn, server.Password(), "wrong-password", 1)
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	u.Host = "127.0.0.1:1"
	tests := map[string]struct {
		o         Options
		says      string
		transient bool
	}{
		"no name":         {Options{DSN: dsn}, "Name", false},
		"no DSN":          {Options{Name: "a"}, "DSN", false},
		"no DSN at all":   {Options{Name: "a", DSN: "postgres//" + server.Password() + "@x/y"}, "percent-encoded", false},
		"a bad port":      {Options{Name: "a", DSN: "postgres://a:" + server.Password() + "@x:y/z"}, "percent-encoded", false},
		"branches":        {Options{Name: "a", DSN: dsn, MaxBranches: -1}, "MaxBranches", false},
		"wrong password":  {Options{Name: "a", DSN: locked}, "pg_hba.conf", false},
		"no database":     {Options{Name: "a", DSN: dsn + "none"}, "does not exist", false},
		"nobody there":    {Options{Name: "a", DSN: u.String()}, "cannot be reached", true},
		"no preparing":    {Options{Name: "a", DSN: dsn0}, "max_prepared_transactions is 0", false},
		"not the owner":   {Options{Name: "a", DSN: server.DSN(guest, name)}, "--print-schema", false},
		"a version of it": {Options{Name: "a", Kind: strings.Repeat("k", 65), DSN: dsn}, "Kind", false},
	}
	for what, test := range tests {
		t.Run(what, func(t *testing.T) {
			var log bytes.Buffer
			test.o.Logger = hclog.New(&hclog.LoggerOptions{Output: &log, Level: hclog.Trace})
			s, err := Open(within(t, patience), test.o)
			if err == nil {
				s.Close()
			}
			if err == nil || !strings.Contains(err.Error(), test.says) || participant.IsTransient(err) != test.transient {
				t.Errorf("%v (transient: %v), want one that says %q", err, participant.IsTransient(err), test.says)
			}
			for _, secret := range []string{server.Password(), "wrong-password"} {
				if strings.Contains(fmt.Sprint(err), secret) || strings.Contains(log.String(), secret) {
					t.Errorf("the password is in %v, %s", err, log.String())
				}
			}
		})
	}
}

func TestOldVersionsAreRefused(t *testing.T) {
	if err := suits(130014, 200, false); err == nil || !strings.Contains(err.Error(), "PostgreSQL 13 is too old") {
		t.Error(err)
	}
	if err := suits(140000, 200, false); err != nil {
		t.Error(err)
	}
}

// The tables may be made by somebody else, for a role that may do little.
func TestSchemaMadeByTheOwner(t *testing.T) {
	name, dsn := fresh(t, server)
	guest := name + "guest"
	do(t, connect(t, server.AdminDSN("postgres")), fmt.Sprintf("CREATE ROLE %s LOGIN PASSWORD '%s'", guest, server.Password()))
	do(t, connect(t, dsn), append(Schema,
		"GRANT USAGE ON SCHEMA concordat TO "+guest,
		"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA concordat TO "+guest)...)
	s, err := Open(within(t, patience), Options{Name: "a", DSN: server.DSN(guest, name)})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	bind(t, s, "c1")
	b := &bench{t: t}
	w := b.work("t", 1, sql("SELECT 1"))
	b.prepared(s, w)
	b.done(s.Commit(within(t, patience), w.Ref))
}

func TestIncarnations(t *testing.T) {
	_, dsn := fresh(t, server)
	open := func(o Options) participant.Identity {
		t.Helper()
		o.Name, o.DSN = cmp.Or(o.Name, "a"), dsn
		s, err := Open(within(t, patience), o)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		id, err := s.Identity(within(t, patience))
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	first, again := open(Options{}), open(Options{})
	if first.Incarnation == "" || first != again || first.Kind != "postgres" {
		t.Errorf("%+v, then %+v", first, again)
	}
	if other := open(Options{Name: "b", Kind: "seats"}); other.Incarnation == first.Incarnation || other.Kind != "seats" {
		t.Errorf("another participant of the same database: %+v", other)
	}
	if restored := open(Options{NewIncarnation: true}); restored.Incarnation == first.Incarnation {
		t.Error("restored data have their old incarnation")
	}
}

// The binding never goes back, whichever endpoint writes it.
func TestBindNeverLowers(t *testing.T) {
	b, s := opened(t, Options{})
	ctx := within(t, patience)
	high := participant.Binding{ClusterID: "c1", Generation: 2, Term: 1<<64 - 1, Floor: b.work("a", 9).Attempt}
	for _, next := range []participant.Binding{high, {ClusterID: "c1", Generation: 1, Term: 7}, {ClusterID: "c1", Generation: 2, Term: 3}} {
		if err := s.Bind(ctx, next); err != nil {
			t.Fatal(err)
		}
		if id, err := b.second().Identity(ctx); err != nil || id.Binding != high {
			t.Errorf("after %+v: %+v, %v", next, id.Binding, err)
		}
	}
	if err := s.Bind(ctx, participant.Binding{ClusterID: "c2", Generation: 9}); err == nil {
		t.Error("another cluster took the data over")
	}
}

// Another instance: what is decided is delivered and proven; nothing else is
// done and nothing that is absent is believed, until an operator says so.
func TestAnotherInstance(t *testing.T) {
	b, first := opened(t, Options{})
	ctx := within(t, time.Minute)
	held, doomed := b.work("held", 1, addOne("a")), b.work("doomed", 2, addOne("b"))
	b.prepared(first, held)
	b.prepared(first, doomed)
	do(t, connect(t, b.dsn), "UPDATE concordat.participant SET instance = '7/00000001'")
	s := b.second()
	if known, found, changed := s.InstanceChanged(); !changed || known != "7/00000001" || found == known {
		t.Fatalf("%s, %s, %v", known, found, changed)
	}
	b.done(s.Commit(ctx, held.Ref))
	b.done(s.Commit(ctx, held.Ref))
	for name, call := range map[string]func(context.Context, participant.Ref) (participant.Settlement, error){"rollback": s.Rollback, "commit": s.Commit} {
		ref := doomed.Ref
		if name == "commit" {
			ref = b.work("lost", 3, addOne("b")).Ref
		}
		if st, err := call(ctx, ref); !participant.IsTransient(err) || !strings.Contains(err.Error(), "accept-instance suite") {
			t.Errorf("%s: %v, %v", name, st, err)
		}
	}
	if st, err := s.Rollback(ctx, b.work("never", 4, addOne("b")).Ref); !participant.IsTransient(err) {
		t.Errorf("a tombstone: %v, %v", st, err)
	}
	b.aborted(s, b.work("new", 5, addOne("b")), pb.Reason_FAILED)
	b.prepared(s, doomed) // it was promised, and is
	b.held(s, doomed)
	if err := acceptPresent(ctx, s); err != nil {
		t.Fatal(err)
	}
	b.done(s.Rollback(ctx, doomed.Ref))
	b.prepared(s, b.work("new", 5, addOne("b")))
	if _, _, changed := b.second().InstanceChanged(); changed {
		t.Error("it is not remembered as accepted")
	}
}

// acceptPresent is an operator who accepts what is there, and not what was.
func acceptPresent(ctx context.Context, s *Store) error {
	now, bound := s.Instance()
	if err := s.AcceptInstance(ctx, bound); !errors.Is(err, participant.ErrInstance) {
		return fmt.Errorf("the instance that is gone was accepted: %v", err)
	}
	return s.AcceptInstance(ctx, now)
}
