package mysql

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/concordat-tx/concordat/rpc/pb"
)

// driverConn is what the driver's connections can do.
type driverConn interface {
	driver.Conn
	driver.ExecerContext
	driver.QueryerContext
	driver.ConnPrepareContext
	driver.Pinger
	driver.SessionResetter
	driver.Validator
	driver.NamedValueChecker
}

// conn is a connection that knows what it is used for. While a branch works on
// it, it judges every statement before the database sees it, and remembers the
// first error, whether or not the work does: MariaDB would prepare a branch
// whose statement has timed out without that statement. While it belongs to a
// branch it is not valid, so that no pool lends it to a stranger, whose
// statements would join the branch.
type conn struct {
	driverConn
	thread uint64 // CONNECTION_ID()

	mu    sync.Mutex // guards what follows
	bound bool
	judge func(query string) error // nil: no branch is at work
	fault error
	open  int       // rows that are not closed
	since time.Time // when the statement that runs began; zero: none does
}

// bind makes the connection a branch's own, until unbind.
func (c *conn) bind() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.bound = true
}

func (c *conn) unbind() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.bound, c.judge, c.fault = false, nil, nil
}

// work begins the work of a branch: judge refuses statements.
func (c *conn) work(judge func(query string) error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.judge, c.fault = judge, nil
}

// worked ends it, and returns the first error of its statements.
func (c *conn) worked() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	// What is still to come of the work, say of a goroutine it left behind, is refused.
	c.judge = func(string) error { return errWorkIsOver }
	if c.fault == nil && c.open > 0 {
		return Abort(pb.Reason_APPLICATION, "the work has left rows open: close them")
	}
	return c.fault
}

// own lets the participant's own statements pass again.
func (c *conn) own() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.judge = nil
}

var errWorkIsOver = errors.New("the work of this branch is over")

// before judges a statement.
func (c *conn) before(query string) error {
	c.mu.Lock()
	judge := c.judge
	c.mu.Unlock()
	if judge != nil {
		if err := c.after(judge(query)); err != nil {
			return err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.since = time.Now()
	return nil
}

// running is since when the statement that runs does.
func (c *conn) running() (since time.Time, running bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.since, !c.since.IsZero()
}

// after remembers an error of the work.
func (c *conn) after(err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.since = time.Time{}
	// ErrSkip only says that the driver wants to be asked in another way.
	if c.judge != nil && err != nil && c.fault == nil && !errors.Is(err, driver.ErrSkip) {
		c.fault = err
	}
	return err
}

// IsValid keeps a branch's connection out of the pool.
func (c *conn) IsValid() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.bound && c.driverConn.IsValid()
}

// inPlace says that the driver may write arguments into the statement. It puts
// them wherever there is a question mark, so there must be nothing in which one
// means something else: a string, a quoted name, a comment, an operator. What is
// not plain goes to the database as a prepared statement.
func inPlace(query string, args []driver.NamedValue) bool {
	return len(args) == 0 || !strings.ContainsAny(query, "'\"`#/\\") && !strings.Contains(query, "--")
}

func (c *conn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	if !inPlace(query, args) {
		return nil, driver.ErrSkip
	}
	if err := c.before(query); err != nil {
		return nil, err
	}
	r, err := c.driverConn.ExecContext(ctx, query, args)
	return r, c.after(err)
}

func (c *conn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	if !inPlace(query, args) {
		return nil, driver.ErrSkip
	}
	if err := c.before(query); err != nil {
		return nil, err
	}
	r, err := c.driverConn.QueryContext(ctx, query, args)
	if c.after(err) != nil {
		return nil, err
	}
	return c.rows(r), nil
}

func (c *conn) PrepareContext(ctx context.Context, query string) (driver.Stmt, error) {
	if err := c.before(query); err != nil {
		return nil, err
	}
	s, err := c.driverConn.PrepareContext(ctx, query)
	if c.after(err) != nil {
		return nil, err
	}
	return &stmt{s, c, query}, nil
}

func (c *conn) Prepare(query string) (driver.Stmt, error) {
	return c.PrepareContext(context.Background(), query)
}

// BeginTx is refused in a branch, which is a transaction already.
func (c *conn) BeginTx(ctx context.Context, options driver.TxOptions) (driver.Tx, error) {
	if err := c.before("BEGIN"); err != nil {
		return nil, err
	}
	return c.driverConn.(driver.ConnBeginTx).BeginTx(ctx, options)
}

// stmt is a prepared statement on such a connection.
type stmt struct {
	driver.Stmt
	c     *conn
	query string
}

func (s *stmt) ExecContext(ctx context.Context, args []driver.NamedValue) (driver.Result, error) {
	if err := s.c.before(s.query); err != nil {
		return nil, err
	}
	r, err := s.Stmt.(driver.StmtExecContext).ExecContext(ctx, args)
	return r, s.c.after(err)
}

func (s *stmt) QueryContext(ctx context.Context, args []driver.NamedValue) (driver.Rows, error) {
	if err := s.c.before(s.query); err != nil {
		return nil, err
	}
	r, err := s.Stmt.(driver.StmtQueryContext).QueryContext(ctx, args)
	if s.c.after(err) != nil {
		return nil, err
	}
	return s.c.rows(r), nil
}

func (s *stmt) CheckNamedValue(v *driver.NamedValue) error {
	return s.Stmt.(driver.NamedValueChecker).CheckNamedValue(v)
}

// driverRows is what the driver's rows can do.
type driverRows interface {
	driver.Rows
	driver.RowsNextResultSet
	driver.RowsColumnTypeDatabaseTypeName
	driver.RowsColumnTypeNullable
	driver.RowsColumnTypePrecisionScale
	driver.RowsColumnTypeScanType
}

// rows fail late: a lock may time out between two of them.
type rows struct {
	driverRows
	c      *conn
	closed bool
}

func (c *conn) rows(r driver.Rows) driver.Rows {
	full, ok := r.(driverRows)
	if !ok {
		return r
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open++
	return &rows{driverRows: full, c: c}
}

func (r *rows) Close() error {
	r.c.mu.Lock()
	if !r.closed {
		r.closed = true
		r.c.open--
	}
	r.c.mu.Unlock()
	return r.driverRows.Close()
}

func (r *rows) Next(dest []driver.Value) error {
	r.c.mu.Lock()
	r.c.since = time.Now()
	r.c.mu.Unlock()
	err := r.driverRows.Next(dest)
	if isEOF(err) {
		_ = r.c.after(nil)
	} else {
		_ = r.c.after(err)
	}
	return err
}

// connector makes connections of one kind of use.
type connector struct {
	driver.Connector
	setup []string
	// see looks at every new connection: it may be to another server than the last.
	see func(ctx context.Context, c driverConn) error
}

func (k *connector) Connect(ctx context.Context) (driver.Conn, error) {
	plain, err := k.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	full, ok := plain.(driverConn)
	if !ok {
		return nil, errors.Join(fmt.Errorf("the driver's connection %T cannot do what is needed", plain), plain.Close())
	}
	c := &conn{driverConn: full}
	if err := k.prepare(ctx, c); err != nil {
		return nil, errors.Join(err, plain.Close())
	}
	return c, nil
}

func (k *connector) prepare(ctx context.Context, c *conn) error {
	for _, s := range k.setup {
		if _, err := c.ExecContext(ctx, s, nil); err != nil {
			return fmt.Errorf("%s: %w", s, err)
		}
	}
	thread, err := scalar(ctx, c, "SELECT CONNECTION_ID()")
	if err != nil {
		return err
	}
	if _, err := fmt.Sscan(thread, &c.thread); err != nil {
		return fmt.Errorf("CONNECTION_ID() is %q: %w", thread, err)
	}
	if k.see != nil {
		return k.see(ctx, c)
	}
	return nil
}

// scalar is the one value of a query without arguments.
func scalar(ctx context.Context, c driver.QueryerContext, query string) (string, error) {
	r, err := c.QueryContext(ctx, query, nil)
	if err != nil {
		return "", err
	}
	defer r.Close()
	dest := make([]driver.Value, len(r.Columns()))
	if err := r.Next(dest); err != nil {
		return "", fmt.Errorf("%s: %w", query, err)
	}
	switch v := dest[0].(type) {
	case nil:
		return "", nil
	case []byte:
		return string(v), nil
	default:
		return fmt.Sprint(v), nil
	}
}

// number is the code of an error of the database; 0 if it is none.
func number(err error) uint16 {
	var e *mysql.MySQLError
	if errors.As(err, &e) {
		return e.Number
	}
	return 0
}
