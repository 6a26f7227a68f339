package mysql

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"
)

// dialTimeout bounds one connection if the DSN does not.
const dialTimeout = 5 * time.Second

// ErrDSN is of an address that cannot be read. It never quotes it.
var ErrDSN = errors.New("the DSN must have the form user:password@tcp(host:port)/database?options")

// parseDSN reads the address of the database. Errors of the driver may quote
// what they could not read, so they are not passed on.
func parseDSN(dsn string) (*mysql.Config, error) {
	cfg, err := mysql.ParseDSN(dsn)
	switch {
	case err != nil:
		return nil, ErrDSN
	case cfg.DBName == "":
		return nil, fmt.Errorf("%w: it names no database", ErrDSN)
	case cfg.MultiStatements:
		return nil, fmt.Errorf("%w: multiStatements is refused, since only the first statement of several would be judged", ErrDSN)
	case cfg.AllowAllFiles:
		return nil, fmt.Errorf("%w: allowAllFiles is refused, since a branch could read the participant's files", ErrDSN)
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = dialTimeout
	}
	// As PostgreSQL counts: what a statement finds, whether or not it changes it.
	cfg.ClientFoundRows = true
	cfg.InterpolateParams = true    // half the round trips; see conn.inPlace
	cfg.Logger = &mysql.NopLogger{} // what it says is in the errors as well
	return cfg, nil
}

// secret keeps a password out of what is shown.
type secret string

func (s secret) hide(text string) string {
	if s == "" {
		return text
	}
	return strings.ReplaceAll(text, string(s), "…")
}

func isEOF(err error) bool { return errors.Is(err, io.EOF) }
