package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/participant/participanttest"
	"github.com/concordat-tx/concordat/participant/statements"
	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/test/database"
)

var errKilled = errors.New("killed by the test")

// mortal is the life of one process that has a Store: a kill cuts all its
// connections, without a word, and lets it make no more.
type mortal struct {
	mu    sync.Mutex // guards all below
	dead  bool
	conns []net.Conn
}

func (m *mortal) dial(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.dead {
		return nil, errors.Join(errKilled, conn.Close())
	}
	m.conns = append(m.conns, conn)
	return conn, nil
}

func (m *mortal) kill() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.dead = true
	for _, conn := range m.conns {
		_ = conn.Close()
	}
}

// bench is a database with a table of counts, and the process over it.
type bench struct {
	t     testing.TB
	dsn   string
	conn  *pgx.Conn // beside the Store
	life  *mortal
	store *Store

	countdown atomic.Int64
	when      participanttest.When
}

func newBench(t testing.TB, p *database.Postgres) *bench {
	name, dsn := fresh(t, p)
	do(t, connect(t, p.DSN(name, name)), "CREATE TABLE counts (key text PRIMARY KEY, n bigint NOT NULL)")
	b := &bench{t: t, dsn: dsn}
	t.Cleanup(func() {
		if b.store != nil {
			b.life.kill()
			b.store.Close()
		}
		clear(t, p, name)
	})
	return b
}

// clear rolls back what is left prepared in a database: the names are the whole server's.
func clear(t testing.TB, p *database.Postgres, name string) {
	conn := connect(t, p.AdminDSN(name))
	defer conn.Close(context.Background())
	found, err := conn.Query(within(t, patience), "SELECT gid FROM pg_prepared_xacts WHERE database = $1", name)
	if err != nil {
		t.Error(err)
		return
	}
	gids, err := pgx.CollectRows(found, pgx.RowTo[string])
	if err != nil {
		t.Error(err)
	}
	for _, gid := range gids {
		if _, err := conn.Exec(within(t, patience), "ROLLBACK PREPARED '"+gid+"'"); err != nil && !isCode(err, "42704") {
			t.Error(err)
		}
	}
}

func (b *bench) open(ctx context.Context, o Options) (*Store, error) {
	b.life = &mortal{}
	store, err := b.openIn(ctx, b.life, o)
	if err == nil {
		b.store = store
	}
	return store, err
}

// openIn opens a Store in a process.
func (b *bench) openIn(ctx context.Context, life *mortal, o Options) (*Store, error) {
	o.Name, o.DSN, o.dial = "suite", b.dsn, life.dial
	o.around = func(write func() error) error {
		if b.countdown.Add(-1) != 0 {
			return write()
		}
		if b.when == participanttest.After {
			if err := write(); err != nil {
				b.countdown.Store(1) // nothing was written
				return err
			}
		}
		life.kill()
		return errKilled
	}
	return Open(ctx, o)
}

func (b *bench) crash() error {
	b.life.kill()
	b.store.Close()
	return nil
}

// effect reads a committed count with a connection of its own. The server may
// have been killed since it was used.
func (b *bench) effect(ctx context.Context, key string) (n int64, err error) {
	for range 2 {
		if b.conn == nil {
			if b.conn, err = pgx.Connect(ctx, b.dsn); err != nil {
				return 0, err
			}
			conn := b.conn
			b.t.Cleanup(func() { _ = conn.Close(context.Background()) })
		}
		err = b.conn.QueryRow(ctx, "SELECT coalesce((SELECT n FROM counts WHERE key = $1), 0)", key).Scan(&n)
		if err == nil {
			return n, nil
		}
		_ = b.conn.Close(ctx)
		b.conn = nil
	}
	return 0, err
}

func one() *int64 { n := int64(1); return &n }

func addOne(key string) statements.Statement {
	return statements.Statement{
		SQL:  "INSERT INTO counts (key, n) VALUES ($1, 1) ON CONFLICT (key) DO UPDATE SET n = counts.n + 1 RETURNING key",
		Args: []any{key}, Rows: one(),
	}
}

func payload(t testing.TB, list ...statements.Statement) []byte {
	t.Helper()
	p, err := statements.Encode(list...)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func (b *bench) harness() participanttest.Harness {
	return participanttest.Harness{
		Open:  func(ctx context.Context) (participant.ResourceManager, error) { return b.open(ctx, Options{}) },
		Crash: b.crash,
		Work:  func(key string) []byte { return payload(b.t, addOne(key)) },
		Refused: func(key string) []byte {
			return payload(b.t, addOne(key), statements.Statement{SQL: "SELECT FROM counts WHERE key = 'never'", Rows: one()})
		},
		Effect: b.effect,
		CrashAtWrite: func(n int, w participanttest.When) {
			b.when = w
			b.countdown.Store(int64(n))
		},
		Exclusive: true,
	}
}

func TestConformance(t *testing.T) {
	participanttest.Run(t, func(t testing.TB) participanttest.Harness { return newBench(t, server).harness() })
}

// addOneMore is addOne without a result: the server can judge it.
func addOneMore(key string) statements.Statement {
	st := addOne(key)
	st.SQL = strings.TrimSuffix(st.SQL, " RETURNING key")
	return st
}

// whole has branches that go out whole, PREPARE included, from the first on.
func (b *bench) whole() participanttest.Harness {
	h := b.harness()
	h.Open = func(ctx context.Context) (participant.ResourceManager, error) {
		return b.open(ctx, Options{familiar: true})
	}
	h.Work = func(key string) []byte { return payload(b.t, addOneMore(key)) }
	h.Refused = func(key string) []byte {
		return payload(b.t, addOneMore(key), statements.Statement{SQL: "UPDATE counts SET n = 0 WHERE key = 'never'", Rows: one()})
	}
	return h
}

// Branches in one round trip.
func TestConformanceOfWholeBranches(t *testing.T) {
	participanttest.Run(t, func(t testing.TB) participanttest.Harness { return newBench(t, server).whole() })
}

// quiet is work without rows, so without a result and its overlay.
func (b *bench) quiet() participanttest.Harness {
	h := b.harness()
	h.Open = func(ctx context.Context) (participant.ResourceManager, error) {
		return b.open(ctx, Options{Work: func(ctx context.Context, tx pgx.Tx, w participant.Work) ([]byte, error) {
			var key string
			if err := json.Unmarshal(w.Payload, &key); err != nil {
				return nil, err
			}
			_, err := tx.Exec(ctx, "INSERT INTO counts (key, n) VALUES ($1, 1) ON CONFLICT (key) DO UPDATE SET n = counts.n + 1", strings.TrimPrefix(key, "!"))
			if err == nil && key[0] == '!' {
				err = Abort(1, "refused")
			}
			return nil, err
		}})
	}
	h.Work = func(key string) []byte { return []byte(`"` + key + `"`) }
	h.Refused = func(key string) []byte { return []byte(`"!` + key + `"`) }
	return h
}

// Work in Go, which votes without a result.
func TestConformanceOfAFunction(t *testing.T) {
	for _, check := range participanttest.Checks() {
		t.Run(check.Name, func(t *testing.T) {
			check.Run(t, func(t testing.TB) participanttest.Harness { return newBench(t, server).quiet() }, false)
		})
	}
}

// either is a participant of two endpoints: any of them is asked anything.
type either [2]*Store

func (e either) one() *Store { return e[rand.IntN(2)] }

func (e either) Identity(ctx context.Context) (participant.Identity, error) {
	id, err := e[0].Identity(ctx)
	if err == nil {
		// The runtime of each endpoint asks when it begins.
		_, err = e[1].Identity(ctx)
	}
	return id, err
}

// Bind comes to both, with the first message that each gets.
func (e either) Bind(ctx context.Context, b participant.Binding) error {
	return errors.Join(e[0].Bind(ctx, b), e[1].Bind(ctx, b))
}

func (e either) Prepare(ctx context.Context, w participant.Work) (participant.Vote, error) {
	return e.one().Prepare(ctx, w)
}

func (e either) Commit(ctx context.Context, r participant.Ref) (participant.Settlement, error) {
	return e.one().Commit(ctx, r)
}

func (e either) Rollback(ctx context.Context, r participant.Ref) (participant.Settlement, error) {
	return e.one().Rollback(ctx, r)
}

func (e either) Held(ctx context.Context) ([]participant.Held, error) { return e.one().Held(ctx) }

func (e either) Finished(ctx context.Context, limit int) ([]participant.Ref, error) {
	return e.one().Finished(ctx, limit)
}

func (e either) Forget(ctx context.Context, floor rpc.Attempt, refs []participant.Ref) error {
	return e.one().Forget(ctx, floor, refs)
}

// Two endpoints, asked by turns at random, are one participant. One of them sends
// branches whole, the other does not.
func TestConformanceOfTwoEndpoints(t *testing.T) {
	for _, check := range participanttest.Checks() {
		t.Run(check.Name, func(t *testing.T) {
			check.Run(t, func(t testing.TB) participanttest.Harness {
				b := newBench(t, server)
				h := b.whole()
				var second *Store
				h.Open = func(ctx context.Context) (participant.ResourceManager, error) {
					first, err := b.open(ctx, Options{familiar: true})
					if err != nil {
						return nil, err
					}
					if second, err = b.openIn(ctx, b.life, Options{}); err == nil {
						t.Cleanup(second.Close)
					}
					return either{first, second}, err
				}
				h.Crash = func() error {
					b.life.kill()
					second.Close()
					return b.crash()
				}
				return h
			}, false)
		})
	}
}
