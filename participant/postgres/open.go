package postgres

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/participant/sqlbranch"
)

const (
	// minVersion is the oldest major version that is supported, and what for.
	minVersion = 14 // pg_terminate_backend with a timeout, client_connection_check_interval
	// controlConnections is how many settlements and looks go on at the same time.
	controlConnections = 8
	// controlLockWait is how long these wait for each other.
	controlLockWait = 2 * time.Second
)

// Open connects, checks that the database can do what is asked of it, and makes
// the tables if they are missing. Its errors say what to mend; one that may pass
// by itself is participant.Transient.
func Open(ctx context.Context, options Options) (*Store, error) {
	o, err := options.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("postgres: %w", err)
	}
	s := &Store{
		options: o, log: o.Logger,
		crowd: sqlbranch.NewCrowd(o.MaxBranches, maxCommits), lane: sqlbranch.NewLane(controlConnections),
	}
	s.tombstones.run, s.tombstones.most = s.bury, maxTombstones
	s.undos.run, s.undos.most = s.undoAll, maxUndos
	s.commits.run, s.commits.prepared = s.commitAll, s.witness.prepared
	if err := s.open(ctx); err != nil {
		s.Close()
		return nil, fmt.Errorf("postgres: %w", s.passing(err))
	}
	return s, nil
}

func (s *Store) open(ctx context.Context) error {
	config, err := pgxpool.ParseConfig(s.options.DSN)
	if err != nil {
		// What the parser says may hold what was taken for something else than a password.
		return errors.New("the DSN cannot be read (it is not shown, since it may hold a password): " +
			"write postgres://USER:PASSWORD@HOST:PORT/DATABASE, with special characters percent-encoded, or host=… user=… dbname=…")
	}
	s.configure(config)
	if err := s.check(ctx, config.ConnConfig); err != nil {
		return err
	}
	s.crowd.Bound(sqlbranch.Prepared{Most: s.maxPrepared(), Count: s.witness.prepared, Recount: s.recount})
	config.AfterConnect = s.recognise
	work := config.Copy()
	work.MaxConns = int32(s.options.MaxBranches)
	if s.work, err = pgxpool.NewWithConfig(ctx, work); err != nil {
		return err
	}
	control := config.Copy()
	control.MaxConns = controlConnections
	// Only our own statements are executed there, always through the keys of our own
	// tables. What the server thinks of these does not matter: they grow and shrink
	// faster than it looks at them, and a plan from when they were empty reads all.
	for name, value := range map[string]string{
		"enable_seqscan": "off", "enable_bitmapscan": "off", "plan_cache_mode": "force_generic_plan",
	} {
		control.ConnConfig.RuntimeParams[name] = value
	}
	if s.control, err = pgxpool.NewWithConfig(ctx, control); err != nil {
		return err
	}
	finals := config.Copy()
	finals.MaxConns = finalConnections
	if s.finals, err = pgxpool.NewWithConfig(ctx, finals); err != nil {
		return err
	}
	if _, err := s.Identity(ctx); err != nil {
		return err
	}
	return nil
}

// configure gives every session what the statements here count on. What a
// branch changes of it is set back to this when its session is released.
func (s *Store) configure(config *pgxpool.Config) {
	c := config.ConnConfig
	for name, value := range map[string]string{
		"application_name":                 cutName("concordat:" + s.options.Name),
		"client_encoding":                  "UTF8",
		"bytea_output":                     "hex",
		"default_transaction_read_only":    "off",
		"default_transaction_isolation":    "read committed",
		"lock_timeout":                     milliseconds(controlLockWait),
		"client_connection_check_interval": "1000", // a client that has died ends its session's work
		"tcp_keepalives_idle":              "10",
		"tcp_keepalives_interval":          "5",
		"tcp_keepalives_count":             "3",
	} {
		c.RuntimeParams[name] = value
	}
	c.OnNotice = func(*pgconn.PgConn, *pgconn.Notice) {}
	if c.ConnectTimeout == 0 {
		c.ConnectTimeout = 5 * time.Second
	}
	if s.options.dial != nil {
		c.DialFunc = s.options.dial
	}
}

// cutName is what fits into an application_name.
func cutName(name string) string { return name[:min(len(name), 63)] }

// check looks at the server with a connection of its own.
func (s *Store) check(ctx context.Context, config *pgx.ConnConfig) (err error) {
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return connectError(err)
	}
	defer func() { err = errors.Join(err, conn.Close(context.WithoutCancel(ctx))) }()
	var version, prepared int
	var standby, there bool
	var durability string
	err = conn.QueryRow(ctx, `SELECT current_setting('server_version_num')::int, current_setting('max_prepared_transactions')::int,
		pg_is_in_recovery(), current_setting('synchronous_commit')`).Scan(&version, &prepared, &standby, &durability)
	if err != nil {
		return fmt.Errorf("look at the server's settings: %w", err)
	}
	if err := suits(version, prepared, standby); err != nil {
		return err
	}
	s.capacity.Store(int64(prepared))
	if durability == "off" {
		// An answer must be durable; what need not wait says so for itself.
		config.RuntimeParams["synchronous_commit"] = "on"
	}
	if err := conn.QueryRow(ctx, hasSchema).Scan(&there); err != nil {
		return fmt.Errorf("look for the schema concordat: %w", err)
	}
	if !there {
		if err := makeSchema(ctx, conn); err != nil {
			return err
		}
	}
	return s.introduce(ctx, conn)
}

// suits says what is to be mended in a server, given its server_version_num.
func suits(version, prepared int, standby bool) error {
	switch {
	case version/10000 < minVersion:
		return fmt.Errorf("PostgreSQL %d is too old: %d or newer is needed", version/10000, minVersion)
	case standby:
		return participant.Transient(errors.New("this server is a standby, where nothing can be prepared: use the address of the primary " +
			"(several hosts with target_session_attrs=read-write find it)"))
	case prepared == 0:
		return errors.New("max_prepared_transactions is 0, so nothing can be prepared: set it to at least the number of branches " +
			"that may be prepared at the same time, such as 200, in postgresql.conf, and restart the server")
	}
	return nil
}

func makeSchema(ctx context.Context, conn *pgx.Conn) error {
	// Two that start at the same time would collide in the catalog.
	_, err := conn.Exec(ctx, "BEGIN; SELECT pg_advisory_xact_lock("+strconv.FormatInt(schemaLock, 10)+"); "+strings.Join(Schema, "; ")+"; COMMIT")
	if e, ok := errors.AsType[*pgconn.PgError](err); ok && (e.Code == "42501" || e.Code == "3F000") {
		return fmt.Errorf("the schema concordat is missing or may not be used by this role (%s): let the database's owner run "+
			"'concordat participant postgres --print-schema' in it, and grant the role USAGE on the schema and all on its tables", e.Message)
	}
	if err != nil {
		return fmt.Errorf("make the schema concordat: %w", err)
	}
	return nil
}

// schemaLock is an advisory lock of this package's own.
const schemaLock = 0x636f6e636f726461

// introduce makes the participant's row, or gives it a new incarnation.
func (s *Store) introduce(ctx context.Context, conn *pgx.Conn) error {
	write := `INSERT INTO concordat.participant (name, incarnation, instance) VALUES ($1, $2, ` + sqlInstance + `) ON CONFLICT DO NOTHING`
	if s.options.NewIncarnation {
		write = strings.Replace(write, "DO NOTHING", "(name) DO UPDATE SET incarnation = excluded.incarnation, instance = excluded.instance", 1)
	}
	err := s.options.around(func() error {
		_, err := conn.Exec(ctx, write, s.options.Name, newIncarnation())
		return err
	})
	if err != nil {
		return fmt.Errorf("make the participant's row: %w", err)
	}
	return nil
}

// newIncarnation is 16 random bytes in hex.
func newIncarnation() string {
	var b [16]byte
	// crypto/rand never fails: it ends the process instead.
	_, _ = rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// connectError says what to mend.
func connectError(err error) error {
	e, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return participant.Transient(fmt.Errorf("the server cannot be reached: %w", err))
	}
	switch e.Code {
	case "28P01", "28000":
		return fmt.Errorf("the server refuses the role or its password (%s): see to the DSN and to pg_hba.conf", e.Message)
	case "3D000":
		return fmt.Errorf("the database does not exist (%s): create it, or see to the DSN", e.Message)
	case "42501":
		return fmt.Errorf("the role may not connect (%s): grant it CONNECT on the database", e.Message)
	}
	return participant.Transient(fmt.Errorf("the server refuses the connection: %w", err))
}

func milliseconds(d time.Duration) string {
	return strconv.FormatInt(max(1, d.Milliseconds()), 10)
}
