package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/concordat-tx/concordat/node/local"
	"github.com/concordat-tx/concordat/rpc/pb"
	"github.com/concordat-tx/concordat/test/database"
)

const (
	// sessions are how many work on each database at the same time by hand, and the
	// most callers: each needs a session in two databases. An agent has those that it
	// has by default.
	sessions = 64
	// accounts are used in turn: nobody waits for a row.
	accounts = 4096

	debit  = "UPDATE acct SET balance = balance - 1 WHERE id = "
	credit = "UPDATE acct SET balance = balance + 1 WHERE id = "
)

// startPostgres is two databases of one server that syncs every commit, which
// Concordat and a loop by hand use in turn.
func startPostgres(ctx context.Context, s *site) ([]*subject, error) {
	server, err := database.StartPostgres(map[string]string{
		"max_connections": strconv.Itoa(5 * sessions), "max_prepared_transactions": strconv.Itoa(5 * sessions), "shared_buffers": "'256MB'",
	})
	if err != nil {
		return nil, err
	}
	s.atEnd(server.Close)
	var dsns [2]string
	for i := range dsns {
		name, err := server.NewDatabase(ctx)
		if err != nil {
			return nil, err
		}
		dsns[i] = server.DSN(name, name)
		if err := fill(ctx, dsns[i]); err != nil {
			return nil, err
		}
	}
	h, err := s.hands(ctx, dsns)
	if err != nil {
		return nil, err
	}
	through, err := s.agents(ctx, dsns, server.Processes)
	return []*subject{
		{name: "postgres-by-hand", most: sessions, one: h.transfer, servers: none, helpers: server.Processes}, through,
	}, err
}

// fill makes the accounts.
func fill(ctx context.Context, dsn string) (err error) {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close(context.WithoutCancel(ctx))) }()
	_, err = conn.Exec(ctx, fmt.Sprintf(`CREATE TABLE acct (id int PRIMARY KEY, balance bigint NOT NULL);
		INSERT INTO acct SELECT n, 0 FROM generate_series(0, %d) n`, accounts-1))
	return err
}

// agents are Concordat's participants over the databases, with nodes of their own.
func (s *site) agents(ctx context.Context, dsns [2]string, databases func() []int) (*subject, error) {
	c, err := s.startCluster(ctx)
	if err != nil {
		return nil, err
	}
	names := [2]string{"ledger-1", "ledger-2"}
	free, err := addresses(len(names))
	if err != nil {
		return nil, err
	}
	var beside []*local.Process
	for i, name := range names {
		p, err := s.process(name, s.binary, []string{
			"participant", "postgres", "--name", name, "--listen", free[i], "--nodes", strings.Join(c.Addresses(), ","),
			"--register",
		}, []string{"CONCORDAT_DSN=" + dsns[i]})
		if err != nil {
			return nil, err
		}
		beside = append(beside, p)
	}
	if err := c.reachable(ctx, names[:]...); err != nil {
		return nil, err
	}
	helpers := func() []int { return append(databases(), pids(beside...)()...) }
	through := c.subject(s, "concordat-postgres", c.atLeader, helpers, func(_ int, number uint64) []*pb.Branch {
		account := number % accounts
		return []*pb.Branch{{Participant: names[0], Payload: statement(debit, account)}, {Participant: names[1], Payload: statement(credit, account)}}
	})
	through.most = sessions
	return through, nil
}

// statement is a branch's payload: it has to change one row.
func statement(sql string, account uint64) []byte {
	b, err := json.Marshal(map[string]any{"statements": []any{map[string]any{"sql": sql + "$1", "args": []any{account}, "rows": 1}}})
	if err != nil {
		panic(err) // text and numbers
	}
	return b
}

// hands drive both databases themselves. Nobody finishes what they leave behind.
type hands struct{ free chan [2]*pgx.Conn }

func (s *site) hands(ctx context.Context, dsns [2]string) (*hands, error) {
	h := &hands{free: make(chan [2]*pgx.Conn, sessions)}
	for range sessions {
		var pair [2]*pgx.Conn
		for i, dsn := range dsns {
			conn, err := pgx.Connect(ctx, dsn)
			if err != nil {
				return nil, err
			}
			s.atEnd(func() error { return conn.Close(context.Background()) })
			pair[i] = conn
		}
		h.free <- pair
	}
	return h, nil
}

// transfer asks both databases at the same time, in both phases, each in one
// round trip.
func (h *hands) transfer(ctx context.Context, _ int, number uint64) error {
	pair := <-h.free
	defer func() { h.free <- pair }()
	both := func(of func(i int) string) error {
		done := make(chan error, 1)
		exec := func(i int) error {
			_, err := pair[i].Exec(ctx, of(i), pgx.QueryExecModeSimpleProtocol)
			return err
		}
		go func() { done <- exec(1) }()
		return errors.Join(exec(0), <-done)
	}
	work := [2]string{debit, credit}
	gid := func(i int) string { return fmt.Sprintf("'hand-%d-%d'", number, i) } // one name space for the whole server
	if err := both(func(i int) string {
		return fmt.Sprintf("BEGIN; %s%d; PREPARE TRANSACTION %s", work[i], number%accounts, gid(i))
	}); err != nil {
		return err
	}
	return both(func(i int) string { return "COMMIT PREPARED " + gid(i) })
}
