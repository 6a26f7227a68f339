package mysql

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/hashicorp/go-hclog"

	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/participant/sqlbranch"
)

const (
	// controlConnections read and write the journal and finish branches. More
	// than this many at a time gain nothing on one log.
	controlConnections = 16
	looseConnections   = 8
	// reserve of max_connections is for operators.
	reserve            = 8
	defaultMaxBranches = 16
	maxMaxBranches     = 10_000
	// pinnedPerBranch is how many sessions of prepared branches are kept for
	// each that may be at work.
	pinnedPerBranch = 2
	// openTimeout bounds Open.
	openTimeout = 30 * time.Second
)

// Work is what a branch does on its connection. Everything it does there
// belongs to the branch; an error, also one of a statement that it passes over,
// ends the branch. An error that Abort made says how.
type Work func(ctx context.Context, conn *sql.Conn, w participant.Work) (result []byte, err error)

// Options are for Open.
type Options struct {
	// Name is the participant's registered name. Its journal is kept under it,
	// so several participants may share a database.
	Name string
	// DSN is the address: user:password@tcp(host:port)/database.
	DSN string
	// Work is the work of a branch; nil: Statements.
	Work Work
	// Kind is what Identity says; empty: mariadb or mysql, as the server is.
	Kind string
	// MaxBranches is how many branches are worked on at the same time, each on a
	// connection; 0 is 16. On MariaDB prepared branches keep theirs until they
	// are settled, twice as many at most; those above that are finished detached.
	MaxBranches int
	// NewIncarnation: these data were restored from a backup.
	NewIncarnation bool
	// Logger; nil logs nothing.
	Logger hclog.Logger
	// around is called with every durable write; tests end the process there.
	around func(write func() error) error
}

// Manager is a participant.ResourceManager over a MariaDB or MySQL database.
type Manager struct {
	options Options
	log     hclog.Logger
	secret  secret

	// branches do the work; control keeps the journal, each statement seeing
	// what is committed then; loose also sees what is not.
	branches, control, loose *sql.DB

	server   server
	schema   string // the database, as the server names it
	owner    atomic.Pointer[sqlbranch.Owner]
	crowd    *sqlbranch.Crowd // the branches at work
	pinned   *pinned
	attached *attached
	engines  *engines
	instance *instance
	known    *known
	lane     *sqlbranch.Lane
	since    since[participant.Ref] // held by us
	sinceAny since[string]          // prepared by anybody, by name
	// strandings counts looks that found a branch which the database seems to have lost.
	strandings atomic.Int64
	// detachments counts branches that were finished by a stranger's session.
	detachments atomic.Int64

	closed atomic.Bool
	// finishedAfter is where the next Finished begins.
	finishedMu    sync.Mutex
	finishedAfter string
}

var _ participant.ResourceManager = (*Manager)(nil)

// Open connects to the database, refuses it if a vote could not be a promise
// there, and makes the journal's tables if they are missing.
func Open(ctx context.Context, options Options) (*Manager, error) {
	if options.MaxBranches == 0 {
		options.MaxBranches = defaultMaxBranches
	}
	if options.MaxBranches < 1 || options.MaxBranches > maxMaxBranches {
		return nil, fmt.Errorf("mysql: %w", &fsm.FieldError{
			Field: "MaxBranches", Limit: fmt.Sprintf("1 to %d", maxMaxBranches), Got: fmt.Sprint(options.MaxBranches),
		})
	}
	if len(options.Kind) > fsm.MaxKindBytes {
		return nil, fmt.Errorf("mysql: %w", &fsm.FieldError{
			Field: "Kind", Limit: fmt.Sprintf("at most %d bytes", fsm.MaxKindBytes), Got: fmt.Sprintf("%d bytes", len(options.Kind)),
		})
	}
	if options.Logger == nil {
		options.Logger = hclog.NewNullLogger()
	}
	if options.around == nil {
		options.around = func(write func() error) error { return write() }
	}
	ready := options.Work == nil
	if ready {
		options.Work = Statements
	}
	if err := fsm.CheckParticipant("Name", options.Name); err != nil {
		return nil, fmt.Errorf("mysql: %w", err)
	}
	cfg, err := parseDSN(options.DSN)
	if err != nil {
		return nil, fmt.Errorf("mysql: %w", err)
	}
	options.DSN = "" // it is not needed any more, and must not show
	if ready {
		cfg.ParseTime = false // times in results are as the database writes them
	}
	m := &Manager{
		options: options, log: options.Logger, secret: secret(cfg.Passwd),
		pinned: newPinned(pinnedPerBranch * options.MaxBranches), instance: &instance{}, known: newKnown(), lane: sqlbranch.NewLane(controlConnections),
		crowd: sqlbranch.NewCrowd(options.MaxBranches, controlConnections),
	}
	if err := m.open(ctx, cfg); err != nil {
		return nil, errors.Join(m.shown("open", err), m.Close())
	}
	return m, nil
}

func (m *Manager) open(ctx context.Context, cfg *mysql.Config) error {
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	plain, err := mysql.NewConnector(cfg)
	if err != nil {
		return ErrDSN
	}
	own := []string{"SET SESSION autocommit = 1", "SET SESSION innodb_lock_wait_timeout = 1"}
	pool := func(size int, isolation string) *sql.DB {
		db := sql.OpenDB(&connector{
			Connector: plain, setup: append(own[:len(own):len(own)], "SET SESSION TRANSACTION ISOLATION LEVEL "+isolation), see: m.instance.see,
		})
		db.SetMaxOpenConns(size)
		db.SetMaxIdleConns(size)
		return db
	}
	m.control = pool(controlConnections, "READ COMMITTED")
	m.loose = pool(looseConnections, "READ UNCOMMITTED")
	// The work keeps the isolation level that the database or the DSN gives it.
	m.branches = sql.OpenDB(&connector{Connector: plain, setup: own, see: m.instance.see})
	m.branches.SetMaxOpenConns(m.sessions())
	m.branches.SetMaxIdleConns(m.options.MaxBranches)
	m.attached = newAttached(m)
	m.engines = newEngines(m)
	if err := m.inspect(ctx); err != nil {
		return err
	}
	if err := m.tables(ctx); err != nil {
		return err
	}
	return m.enter(ctx)
}

// enter finds or makes the participant's row.
func (m *Manager) enter(ctx context.Context) error {
	_, err := m.Identity(ctx)
	if errors.Is(err, sql.ErrNoRows) || err == nil && m.options.NewIncarnation {
		err = m.options.around(func() error {
			_, err := m.control.ExecContext(ctx, "INSERT INTO concordat_participant (name, incarnation) VALUES (?, ?)"+
				" ON DUPLICATE KEY UPDATE incarnation = IF(?, VALUES(incarnation), incarnation)",
				m.options.Name, newIncarnation(), m.options.NewIncarnation)
			return err
		})
	}
	if err != nil {
		return err
	}
	if err := m.instance.begin(ctx, m); err != nil {
		return err
	}
	id, err := m.Identity(ctx)
	if err != nil {
		return err
	}
	m.adopt(id.Binding.ClusterID)
	return m.engines.warn(ctx)
}

// sessions is how many connections branches may have.
func (m *Manager) sessions() int { return (1 + pinnedPerBranch) * m.options.MaxBranches }

func newIncarnation() string {
	var b [16]byte
	// crypto/rand never fails: it ends the process instead.
	_, _ = rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// adopt makes the branches of that cluster ours. The list of prepared branches
// is the whole server's, so the database is part of the name.
func (m *Manager) adopt(cluster string) {
	m.owner.Store(&sqlbranch.Owner{Cluster: cluster, Participant: m.options.Name + "@" + m.schema})
}

// Close ends every connection. Prepared branches stay prepared.
func (m *Manager) Close() error {
	m.closed.Store(true)
	m.pinned.close()
	for _, db := range []*sql.DB{m.branches, m.control, m.loose} {
		if db != nil {
			_ = db.Close() // it complains of connections that are gone already
		}
	}
	return nil
}

// shown is an error as it may leave: without the password, and marked as one
// that may pass if it is of the connection and not of what was asked.
func (m *Manager) shown(what string, err error) error {
	if err == nil {
		return nil
	}
	shown := &databaseError{text: m.secret.hide(fmt.Sprintf("mysql: %s: %v", what, err)), err: err}
	if participant.IsTransient(err) || passes(err) {
		return participant.Transient(shown)
	}
	return shown
}

type databaseError struct {
	text string
	err  error
}

func (e *databaseError) Error() string { return e.text }
func (e *databaseError) Unwrap() error { return e.err }
